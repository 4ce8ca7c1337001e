"""`backtrail doctor`: sends a probe over each hop that is installed here, and says what was kept or lost."""
