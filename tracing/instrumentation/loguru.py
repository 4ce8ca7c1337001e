"""loguru does not speak to `logging`; what its own handlers get becomes a record here too.

The first handler that takes a message has it recorded, so that levels, filters and `logger.disable()` count
as the program set them. Where the program bridges the two libraries, in either direction, a message is
recorded once: one that came out of `logging` has been seen there, and one that is on its way into `logging`
is said to have been recorded.
"""

from __future__ import annotations

import functools
import logging
import sys
import threading
from collections.abc import Callable
from importlib import import_module
from typing import Any, Final

from tracing.handoff import Patch
from tracing.health import Fuse
from tracing.logs.extras import as_extra, elsewhere
from tracing.logs.records import write
from tracing.sink import slot

FRAMES_MAX: Final = 16  # between `logging` and loguru's handler, when a bridge lies between them

_fuse: Final = Fuse("records of loguru")


class _Last(threading.local):
    """The time of the message that this thread has recorded last; each message has a time of its own."""

    time: object = None


_last: Final = _Last()


def loguru_patches() -> list[Patch]:
    """What makes loguru's messages records; needs `loguru._handler`."""
    return [Patch(import_module("loguru._handler").Handler, "emit", _emit)]


def _emit(original: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(original)
    def emit(self: Any, record: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        if not slot.active or _fuse.blown:
            original(self, record, *args, **kwargs)
            return
        try:
            if record["time"] is not _last.time and self._levelno <= record["level"].no:
                _last.time = record["time"]
                if not _came_from_logging(record["message"]):
                    write(_translated(record))
        except Exception as error:
            _fuse.failed(error)
        before, elsewhere.extra = elsewhere.extra, record["extra"]
        try:
            original(self, record, *args, **kwargs)
        finally:
            elsewhere.extra = before

    return emit


def _came_from_logging(message: str) -> bool:
    """Whether a handler of `logging` that passes records on to loguru is on the stack, with this message."""
    frame = sys._getframe(2)
    for _ in range(FRAMES_MAX):
        code = frame.f_code
        if code.co_name == "callHandlers" and code.co_filename == logging.__file__:
            record = frame.f_locals.get("record")
            return isinstance(record, logging.LogRecord) and record.getMessage() == message
        if frame.f_back is None:
            return False
        frame = frame.f_back
    return False


def _translated(record: dict[str, Any]) -> logging.LogRecord:
    exception = record["exception"]
    made = logging.LogRecord(
        record["name"] or "",
        record["level"].no,
        record["file"].path,
        record["line"],
        record["message"],
        (),
        tuple(exception) if exception is not None else None,
        record["function"],
    )
    made.levelname = record["level"].name
    made.created = record["time"].timestamp()
    as_extra(made, record["extra"])
    return made
