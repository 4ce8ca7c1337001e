"""Signals: each looks for one sort of deviation, and is a pure function of a window and its baseline."""
