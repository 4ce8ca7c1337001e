"""structlog: events that do not go through `logging` become records too, with their context as attributes.

An event is recorded when the program's processors have let it pass, as it was before they made text of it.
Loggers on top of `logging` are left alone: their records are seen there.
"""

from __future__ import annotations

import functools
import logging
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, Final

from tracing.handoff import Patch
from tracing.health import Fuse
from tracing.logs.extras import as_extra
from tracing.logs.records import write
from tracing.sink import slot

_fuse: Final = Fuse("records of structlog")

# By the name of the method; others, such as `msg`, are of no level.
_LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "warn": logging.WARNING,
    "error": logging.ERROR,
    "exception": logging.ERROR,
    "critical": logging.CRITICAL,
    "fatal": logging.CRITICAL,
}


def structlog_patches() -> list[Patch]:
    """What makes structlog's events records; needs `structlog`."""
    return [Patch(import_module("structlog").BoundLoggerBase, "_process_event", _process_event)]


def _process_event(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def process_event(self: Any, method_name: str, event: Any, event_kw: dict[str, Any]) -> Any:
        said = None
        if slot.active and not _fuse.blown and not isinstance(self._logger, logging.Logger):
            said = {**self._context, **event_kw}  # before the processors, which may change it
        passed = original(self, method_name, event, event_kw)
        if said is not None:
            try:
                write(_translated(self, method_name, event, said))
            except Exception as error:
                _fuse.failed(error)
        return passed

    return process_event


def _translated(logger: Any, method: str, event: Any, said: Mapping[str, Any]) -> logging.LogRecord:
    frames = import_module("structlog._frames")
    frame, name = frames._find_first_app_frame_and_name(["tracing.instrumentation"])
    contextvars = import_module("structlog.contextvars")
    if contextvars.merge_contextvars in logger._processors:
        said = {**contextvars.get_contextvars(), **said}
    exc_info = said.get("exc_info")
    if exc_info and not isinstance(exc_info, tuple | BaseException):
        exc_info = sys.exc_info()
    made = logging.LogRecord(
        name,
        _LEVELS.get(method, logging.INFO),
        frame.f_code.co_filename,
        frame.f_lineno,
        "" if event is None else event,
        (),
        exc_info or None,  # type: ignore[arg-type]  # an exception alone is taken as well
        frame.f_code.co_name,
    )
    as_extra(made, {key: value for key, value in said.items() if key != "exc_info"})
    return made
