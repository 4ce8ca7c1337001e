"""The call chain of a trace, built from whatever arrived of it."""
