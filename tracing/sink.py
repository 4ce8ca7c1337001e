"""The slot that finished lines are written to. `runtime` fills it; `logs` and `spans` only write.

Keeping the slot in a room of its own is what lets the hot path know nothing of spools, exporters and
configuration.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from tracing import fastline
from tracing.redact import Redactor
from tracing.semconv import SERVICE_NAME

UNKNOWN_SERVICE: Final = "unknown_service"  # OpenTelemetry's name for a process that was not told


class Sink(Protocol):
    """Takes finished lines. Never raises, never blocks on anything but the write, safe from any thread."""

    def write(self, line: bytes, severity_number: int) -> None:
        """Take one line, its newline included; `severity_number` decides what is shed first."""
        ...


class NullSink:
    """Takes everything and keeps nothing: before `configure()`, and with `TRACING_ENABLED=false`."""

    def write(self, line: bytes, severity_number: int) -> None:
        """Forget the line."""


class Slot:
    """One mutable place, so that a hot path can hold on to it and still see a later `configure()`.

    Attributes:
        sink: where lines go; a `NullSink` until something is configured.
        active: whether it is worth making a line at all.
        excluded_paths: requests to paths in which one of these is found get no span.
        sql_comments: whether commands to databases are to say the trace.
        left_out: names of libraries and hand-offs that are not to be instrumented.
        enabled: False where the operator wants nothing of this library (`TRACING_ENABLED=false`).
        service: name of the service, as every line carries it.
        resource: attributes of the process, for lines without a header line before them.
        redactor: takes secrets out of what is about to be written; `None`: nothing is taken out.
        child_setup: gives a function, which can be pickled, that configures a process that is started afresh
            as this one is; `None`: there is nothing that could be taken along.
        start: configures with what the environment says; called by a `LogHandler` that comes first.
    """

    __slots__ = (
        "_heads",
        "active",
        "child_setup",
        "enabled",
        "excluded_paths",
        "info_head",
        "left_out",
        "log_heads",
        "redactor",
        "resource",
        "service",
        "sink",
        "sql_comments",
        "start",
    )

    def __init__(self) -> None:
        self.sink: Sink = NullSink()
        self.active = False
        self.enabled = True
        self.left_out: frozenset[str] = frozenset()
        self.sql_comments = False
        self.excluded_paths: tuple[re.Pattern[str], ...] = ()
        self.service = UNKNOWN_SERVICE
        self.resource: Mapping[str, Any] = {}
        self.redactor: Redactor | None = Redactor()
        self.child_setup: Callable[[], Callable[[], object] | None] | None = None
        self.start: Callable[[], object] | None = None
        self._heads: dict[str, bytes] = {}
        # By the name that logging has for a level: the same piece, and the severity number.
        self.log_heads: dict[str, tuple[bytes, int]] = {}
        self.info_head = b""  # of the level that nearly every span has

    def fill(
        self, sink: Sink, *, service: str, resource: Mapping[str, Any], redactor: Redactor | None
    ) -> None:
        """Let lines flow into `sink`, in the name of `service`."""
        self.service = service
        self.resource = resource
        self.redactor = redactor
        self._heads = {}
        self.log_heads = {}
        self.sink = sink
        self.info_head = self.head("INFO")
        self.active = True

    def identify(self, service: str) -> None:
        """Name the service where lines are made although nothing is configured."""
        self.service = service
        self.resource = {SERVICE_NAME: service}
        self._heads = {}
        self.log_heads = {}
        self.info_head = self.head("INFO")

    def empty(self) -> None:
        """Stop making lines."""
        self.active = False
        self.sink = NullSink()

    def head(self, level: str) -> bytes:
        """The piece of a line that says level and service."""
        try:
            return self._heads[level]
        except KeyError:
            piece = self._heads[level] = fastline.head(level, self.service)
            return piece


slot: Final = Slot()
