"""The short way of a log call whose record nobody but us would look at: none is made.

Of a log call `logging` itself is the larger part: it looks for the caller, fills a `LogRecord` (names of
thread, process, module and task, …), filters it and goes through the handlers. A line of ours needs the
caller, the message and the time. So `Logger._log` is wrapped, and where no handler of the program would take
the record, and nobody has put anything of their own into that way, the line is written from the caller's
frame. Whatever is not as usual goes the way it has always gone, and is seen by the capture there.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from time import time
from typing import Any, Final

from tracing.logs.records import write_call

_Log = Callable[..., None]
_MARK: Final = "_backtrail_short_way"

# Frames that `logging` passes over when it looks for the caller: its own, and ours that look like them.
LOGGING_FILE: Final = logging.Logger._log.__code__.co_filename
_PLAIN_LOGGERS: Final = (logging.Logger, logging.RootLogger)
# How many attributes a logger has, beside `manager`, when nobody has put one on it: a method, for instance.
_ATTRIBUTES: Final = len(vars(logging.Logger("")))

# What a record passes on its way; each is logging's own for as long as nobody replaces it.
_handle: Final = logging.Logger.handle
_make_record: Final = logging.Logger.makeRecord
_find_caller: Final = logging.Logger.findCaller


def looks_like_logging(function: Any) -> Any:
    """Make `logging` take the frames of a function for its own, where it looks for or shows a caller."""
    function.__code__ = function.__code__.replace(co_filename=LOGGING_FILE)
    return function


def is_of_logging(function: Any) -> bool:
    """Whether a function is defined by the standard library's `logging`, and no wrapper."""
    return getattr(function, "__globals__", None) is vars(logging)


class ShortWay:
    """The wrapper around `Logger._log`.

    Attributes:
        is_open: whether calls may go the short way at present.
        unconcerned: classes of handlers that make nothing of a record that we have seen.
    """

    def __init__(self) -> None:
        self.is_open = False
        self.unconcerned: set[type[logging.Handler]] = {logging.NullHandler}
        self._original: _Log | None = None
        self._call_handlers: Any = None

    def install(self, call_handlers: Any, *, is_last: bool) -> None:
        """Open the short way, for as long as records would end in a method of ours.

        Args:
            call_handlers: what `Logger.callHandlers` is now: the capture.
            is_last: whether behind that comes logging's own and nobody else's.
        """
        self._call_handlers = call_handlers
        self.is_open = is_last and self._original_is_loggings()
        if self._original is None and self.is_open:
            original = self._original = logging.Logger._log
            _set_log(self._wrapper(original))

    def remove(self) -> None:
        """Close it, and put `Logger._log` back where nobody has wrapped it since."""
        self.is_open = False
        if self._original is not None and getattr(logging.Logger._log, _MARK, False):
            _set_log(self._original)
            self._original = None

    def _original_is_loggings(self) -> bool:
        return is_of_logging(self._original or logging.Logger._log)

    def _wrapper(self, original: _Log) -> _Log:
        plain_loggers, write = _PLAIN_LOGGERS, self._write

        def _log(logger: logging.Logger, level: int, msg: Any, args: Any, *rest: Any, **options: Any) -> None:
            if (
                self.is_open
                and not rest
                and not options
                and logger.__class__ in plain_loggers
                and write(logger, level, msg, args, sys._getframe(1))
            ):
                return
            original(logger, level, msg, args, *rest, **options)

        setattr(_log, _MARK, True)
        return looks_like_logging(_log)  # type: ignore[no-any-return]

    def _write(self, logger: logging.Logger, level: int, msg: Any, args: Any, frame: Any) -> bool:
        """Write the line, unless there is any reason to make a record. Never raises."""
        kind, own = logging.Logger, logger.__dict__
        try:
            if (
                logger.disabled
                or logger.filters
                or kind.callHandlers is not self._call_handlers
                or kind.handle is not _handle
                or kind.makeRecord is not _make_record
                or kind.findCaller is not _find_caller
                or logging.getLogRecordFactory() is not logging.LogRecord
                or len(own) - ("manager" in own) != _ATTRIBUTES
                or self._is_wanted(logger, level)
            ):
                return False
            while frame.f_code.co_filename == LOGGING_FILE:
                frame = frame.f_back
            code = frame.f_code
            name, place, lineno, function = logger.name, code.co_filename, frame.f_lineno, code.co_name
            return write_call(name, logging.getLevelName(level), msg, args, place, lineno, function, time())
        except Exception:
            return False  # a handler that is not like logging's, for instance: logging knows what to do

    def _is_wanted(self, logger: logging.Logger, level: int) -> bool:
        """Whether a handler would do something with a record, or there is none and logging would say so."""
        node: logging.Logger | None = logger
        is_nobody_there = True
        while node is not None:
            for handler in node.handlers:
                is_nobody_there = False
                if level >= handler.level and (handler.filters or handler.__class__ not in self.unconcerned):
                    return True
            if not node.propagate:
                break
            node = node.parent
        return is_nobody_there


def _set_log(function: Any) -> None:
    setattr(logging.Logger, "_log", function)  # noqa: B010  # a method is no attribute to mypy


short_way: Final = ShortWay()
