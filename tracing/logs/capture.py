"""The capture of every record of every logger, while the program's own output stays as it was."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final

from tracing.logs.direct import is_of_logging, looks_like_logging, short_way
from tracing.logs.records import write_carefully, write_usual
from tracing.semconv import normal_level

# OpenTelemetry's levels as Python numbers; their finer steps (INFO2 …) have none of their own.
_PYTHON_LEVELS: Final = {"TRACE": 5, "DEBUG": 10, "INFO": 20, "WARN": 30, "ERROR": 40, "FATAL": 50}

_CallHandlers = Callable[[logging.Logger, logging.LogRecord], None]
_MARK: Final = "_backtrail_capture"


class _AskedLevel(int):
    """The root level that `configure(level=…)` set, and the one that was there before."""

    before: int


class Capture:
    """Sees every record of every logger, whatever its handlers, by wrapping `Logger.callHandlers`.

    Handlers come and go: `dictConfig` and Celery replace them, `propagate=False` keeps records from the
    root's. All records that pass a logger's level and filters come through this one method; `direct` keeps
    those from being made that nobody else would look at.
    """

    def __init__(self) -> None:
        self.installed = False
        self._asked = False
        self._original: _CallHandlers | None = None
        self._ours: _CallHandlers | None = None

    def install(self, level: str | None) -> None:
        """Start to see records; with `level`, those from that level on although the root's is higher."""
        if level is not None:
            self._ask(_PYTHON_LEVELS[(normal_level(level) or "INFO").rstrip("234")])
        if self.installed:
            return
        self.installed = True
        if self._original is None:  # else our wrapper still sits under somebody else's
            original = self._original = logging.Logger.callHandlers
            self._ours = self._wrapper(original)
            _set_call_handlers(self._ours)
        short_way.install(self._ours, is_last=is_of_logging(self._original))

    def remove(self) -> None:
        """Put `Logger.callHandlers` and the root's level back, where nobody has changed them since."""
        self.installed = self._asked = False
        short_way.remove()
        root = logging.getLogger()
        if isinstance(root.level, _AskedLevel):
            root.setLevel(root.level.before)
        if self._original is not None and getattr(logging.Logger.callHandlers, _MARK, False):
            _set_call_handlers(self._original)
            self._original = None

    def _wrapper(self, original: _CallHandlers) -> _CallHandlers:
        def callHandlers(logger: logging.Logger, record: logging.LogRecord) -> None:
            if self.installed:
                if not write_usual(record):
                    write_carefully(record)
                if self._asked and _is_ours_alone(logger, record):
                    return
            original(logger, record)

        # When a handler of the program fails, logging prints the stack above its own frames, which it knows
        # by their file. Ours is to be one of them, so that what is printed stays as it was.
        looks_like_logging(callHandlers)
        setattr(callHandlers, _MARK, True)
        return callHandlers

    def _ask(self, level: int) -> None:
        root = logging.getLogger()
        before = root.level.before if isinstance(root.level, _AskedLevel) else root.level
        if level < before:
            asked = _AskedLevel(level)
            asked.before = before
            root.setLevel(asked)
            self._asked = True


def _set_call_handlers(function: Any) -> None:
    setattr(logging.Logger, "callHandlers", function)  # noqa: B010  # a method is no attribute to mypy


def _is_ours_alone(logger: logging.Logger, record: logging.LogRecord) -> bool:
    """Whether a record exists only because `configure(level=…)` asked for it.

    The program's handlers do not get such a record, so that its output stays as it was.
    """
    asked = logging.root.level
    if not isinstance(asked, _AskedLevel) or record.levelno >= asked.before:
        return False
    node: logging.Logger | None = logger
    while node is not None and node is not logging.root:
        if node.level:  # the program set a level of its own on the way
            return False
        node = node.parent
    return True


capture: Final = Capture()
