"""Root causes: what is normal, what is not, and where it began."""
