"""Log records: the capture of every logger, `LogHandler`, `JsonFormatter`."""

from tracing.logs.capture import capture
from tracing.logs.handlers import JsonFormatter, LogHandler

__all__ = ["JsonFormatter", "LogHandler", "capture"]
