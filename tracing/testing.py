"""pytest plugin: capture what the library writes, with a fake clock and sequential ids."""
