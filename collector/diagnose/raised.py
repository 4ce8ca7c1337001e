"""Exceptions as they are recorded: by a log line, or by an event of the span they passed through."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from collector.diagnose.stacktrace import birth
from collector.diagnose.visits import Visit
from collector.model import Record
from tracing.semconv import EXCEPTION_EVENT, EXCEPTION_MESSAGE, EXCEPTION_STACKTRACE, EXCEPTION_TYPE


class Raised(NamedTuple):
    """One record of an exception."""

    type: str
    message: str
    location: str | None  # `file:line in function` of its birth
    visit: Visit
    record: Record
    at_ns: int

    @property
    def key(self) -> tuple[str, str, str]:
        """What makes two records reports of the same thing: service, type and birth."""
        return self.visit.node.service, self.type, self.location or ""


def raised_in(visit: Visit) -> Iterator[Raised]:
    """Every exception that a span and its log lines recorded."""
    record = visit.node.record
    for event in record.events:
        if event.name == EXCEPTION_EVENT:
            kind, message, stack = (
                str(event.attributes.get(key) or "")
                for key in (EXCEPTION_TYPE, EXCEPTION_MESSAGE, EXCEPTION_STACKTRACE)
            )
            yield _raised(kind, message, stack, visit, record, event.timestamp_ns)
    for log in visit.node.logs:
        exception = log.exception
        if exception is not None:
            yield _raised(
                exception.type or "",
                exception.message or "",
                exception.stacktrace or "",
                visit,
                log,
                log.timestamp_ns,
            )


def _raised(kind: str, message: str, stack: str, visit: Visit, record: Record, at_ns: int) -> Raised:
    born = birth(stack)
    location = str(born.frame) if born.frame else None
    return Raised(born.type or kind or "exception", born.message or message, location, visit, record, at_ns)
