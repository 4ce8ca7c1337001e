"""`LogHandler` and `JsonFormatter`: the explicit forms, for `logging`'s own configuration."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import Any

from tracing import fastline
from tracing import semconv as sc
from tracing.line import encode
from tracing.logs.capture import capture
from tracing.logs.direct import short_way
from tracing.logs.records import fuse, line_of, write
from tracing.settings import Settings
from tracing.sink import slot


class LogHandler(logging.Handler):
    """Sends records to the collector: `logging.getLogger().addHandler(tracing.LogHandler())`.

    The explicit form of what `configure()` does by itself: only the loggers that it is attached to are
    recorded. When nothing has been configured yet, the first handler configures from the environment,
    without the capture of all loggers; with the capture on, it leaves to that what that has seen.

    No lock is held while a record is written, so a log call inside one cannot deadlock.
    """

    def __init__(self, level: int | str = logging.NOTSET) -> None:
        super().__init__(level)
        if not slot.active and slot.start is not None:
            slot.start()

    def createLock(self) -> None:
        """Have no lock: a line is one write, and everything before it is the caller's own."""
        self.lock = None

    def handle(self, record: logging.LogRecord) -> bool:
        """Filter and write, without the lock that `logging.Handler` would take."""
        passed = self.filter(record)
        if isinstance(passed, logging.LogRecord):
            record = passed
        if passed:
            self.emit(record)
        return bool(passed)

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record; one that the capture of this process has seen is not written again."""
        if slot.active and not (capture.installed and record.process == os.getpid()):
            write(record)


short_way.unconcerned.add(LogHandler)  # which leaves to the capture what that sees


class JsonFormatter(logging.Formatter):
    """Formats a record as its line, resource included, for handlers of the program's own.

    Args:
        fmt, datefmt, style: taken and passed over, so that it can stand in `fileConfig` and `dictConfig`.
        service: name of the service, when nothing else says it.
    """

    def __init__(
        self,
        fmt: str | None = None,
        datefmt: str | None = None,
        style: str = "%",
        *,
        service: str | None = None,
    ) -> None:
        super().__init__()
        self._resource: Mapping[str, Any] | None = None
        self._resource_piece = b"}"
        if not slot.active:
            slot.identify(service or Settings.from_env(os.environ).service)

    def format(self, record: logging.LogRecord) -> str:
        """The line without its newline. Never raises."""
        if slot.resource is not self._resource:
            self._resource = slot.resource
            self._resource_piece = fastline.value(sc.RESOURCE, dict(slot.resource)) + b"}"
        try:
            line, _ = line_of(record)
        except Exception as error:
            fuse.failed(error)
            line = encode(
                {sc.TIMESTAMP: int(record.created * 1e9), sc.LEVEL: "INFO", sc.SERVICE: slot.service}
            )
        return (line[:-2] + self._resource_piece).decode()
