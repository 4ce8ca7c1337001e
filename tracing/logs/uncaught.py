"""What Python itself would only print becomes a record too: uncaught exceptions, and warnings.

The printed text stays as it was: each hook writes its record and calls the one that was there before. Tasks
of asyncio need no hook, since their exceptions are logged.
"""

from __future__ import annotations

import functools
import logging
import sys
import threading
import warnings
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final

from tracing.handoff import Patch
from tracing.health import Fuse
from tracing.logs.records import write
from tracing.sink import slot

LOGGER: Final = "uncaught"
WARNINGS_LOGGER: Final = "py.warnings"  # as `logging.captureWarnings` calls it

_fuse: Final = Fuse("records of uncaught exceptions")

# Being stopped is no error.
_STOPS: Final = (KeyboardInterrupt, SystemExit, GeneratorExit)


def install() -> None:
    """Begin to record; a second call changes nothing."""
    for patch in _patches:
        patch.install()


def remove() -> None:
    """Put the hooks back, where nobody has set others since."""
    for patch in _patches:
        patch.remove()


def _excepthook(original: Callable[..., Any]) -> Callable[..., Any]:
    def excepthook(kind: Any, error: BaseException, traceback: TracebackType | None) -> None:
        _record(logging.CRITICAL, error, traceback)  # the program ends by it
        original(kind, error, traceback)

    return excepthook


def _thread_excepthook(original: Callable[..., Any]) -> Callable[..., Any]:
    def excepthook(args: Any) -> None:
        _record(logging.ERROR, args.exc_value, args.exc_traceback, thread=args.thread)
        original(args)

    return excepthook


def _unraisablehook(original: Callable[..., Any]) -> Callable[..., Any]:
    def unraisablehook(unraisable: Any) -> None:
        _record(logging.ERROR, unraisable.exc_value, unraisable.exc_traceback)  # in `__del__`, mostly
        original(unraisable)

    return unraisablehook


def _record(
    level: int, error: BaseException | None, traceback: TracebackType | None, thread: Any = None
) -> None:
    """Write the record of an exception, at the place where it was raised. Never raises."""
    if error is None or isinstance(error, _STOPS) or not slot.active or _fuse.blown:
        return
    try:
        last = traceback
        while last is not None and last.tb_next is not None:
            last = last.tb_next
        code = last.tb_frame.f_code if last is not None else None
        record = logging.LogRecord(
            LOGGER,
            level,
            code.co_filename if code is not None else "",
            last.tb_lineno if last is not None else 0,
            "uncaught %s: %s",
            (type(error).__qualname__, error),
            (type(error), error, traceback),
            code.co_name if code is not None else None,
        )
        if thread is not None:
            record.__dict__["thread.name"] = thread.name
        write(record)
    except Exception as failure:
        _fuse.failed(failure)


def _show(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def show(message: Any) -> None:
        if slot.active and not _fuse.blown:
            try:
                write(
                    logging.LogRecord(
                        WARNINGS_LOGGER,
                        logging.WARNING,
                        message.filename,
                        message.lineno,
                        "%s: %s",
                        (message.category.__name__, str(message.message)),
                        None,
                    )
                )
            except Exception as error:
                _fuse.failed(error)
        original(message)

    return show


# Below `showwarning`, which a program replaces when it wants its warnings elsewhere: in a logger they are
# records already. What a test collects is not shown, so it is not recorded either.
_WARNINGS_HOOK: Final = "_showwarnmsg_impl"

_patches: Final = (
    Patch(sys, "excepthook", _excepthook),
    Patch(threading, "excepthook", _thread_excepthook),
    Patch(sys, "unraisablehook", _unraisablehook),
    *([Patch(warnings, _WARNINGS_HOOK, _show)] if hasattr(warnings, _WARNINGS_HOOK) else []),
)
