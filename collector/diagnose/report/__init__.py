"""A verdict as one page that can be sent to somebody: no other file, no script, nothing from the network."""

from collector.diagnose.report.page import page

__all__ = ["page"]
