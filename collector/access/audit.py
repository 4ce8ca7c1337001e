"""The audit trail: who did what that only an administrator may, when, and how it went.

Each is a line in the service's own log and a record in the store: a log of the service `backtrail` whose
`event.name` is `backtrail.audit`, found like any other (`event.name:backtrail.audit`). The log is the second
witness, because whoever may delete records may delete these.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final

import msgspec

from collector.errors import CollectorError
from tracing.line import encode
from tracing.semconv import ATTRIBUTES, EVENT_NAME, LEVEL, MESSAGE, SERVICE, TIMESTAMP

logger = logging.getLogger(__name__)

AUDIT_EVENT: Final = "backtrail.audit"
SERVICE_NAME: Final = "backtrail"
# What waits for room in the write-ahead log; administrators do not act so often.
PENDING_MAX: Final = 1_000
_TARGET_CHARS_MAX: Final = 1_000


class AuditEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One action of an administrator."""

    action: str  # operationId of the API, or `token.created`, `token.revoked`, `settings.reloaded`
    actor: str  # name of the token, or how it was asked for
    target: str  # what was acted on, in words
    result: str  # `done`, or the kind of the problem
    address: str = ""  # of the caller; empty: none
    count: int | None = None  # of the records that it concerned


class AuditTrail:
    """Takes notes. What cannot be stored at once is kept until it can. Any thread.

    Args:
        write: takes a record in by identity and line; may block, and raise `CollectorError`.
        clock_ns: now, epoch nanoseconds.
    """

    def __init__(
        self, write: Callable[[str, bytes], None], *, clock_ns: Callable[[], int] = time.time_ns
    ) -> None:
        self._write = write
        self._clock_ns = clock_ns
        self._pending: deque[tuple[str, bytes]] = deque()
        self._lock = threading.Lock()
        self._counts = {"events": 0, "failures": 0, "lost": 0}

    def note(self, event: AuditEvent) -> None:
        """Write it to the log now, and keep it for `store`. Does not block."""
        logger.info("audit: %s", sentence(event), extra={"audit": msgspec.structs.asdict(event)})
        self._counts["events"] += 1
        if len(self._pending) >= PENDING_MAX:
            self._counts["lost"] += 1  # of the store; the log has it
            return
        self._pending.append(audit_line(event, now_ns=self._clock_ns()))

    def store(self) -> None:
        """Take what was noted into the store. Blocks until it is durable, or there is no room now."""
        with self._lock:
            while self._pending:
                try:
                    self._write(*self._pending[0])
                except (CollectorError, OSError) as error:
                    self._counts["failures"] += 1
                    logger.warning("the audit trail has to wait: %s", error)
                    return
                self._pending.popleft()

    def stats(self) -> dict[str, int]:
        """Events noted since the start, times that storing had to wait, and those that only the log has."""
        return dict(self._counts)


def audit_line(event: AuditEvent, *, now_ns: int) -> tuple[str, bytes]:
    """Identity and line of an event's record."""
    told = {f"audit.{key}": value for key, value in msgspec.structs.asdict(event).items()}
    told["audit.target"] = event.target[:_TARGET_CHARS_MAX]
    line = encode(
        {
            TIMESTAMP: now_ns,
            LEVEL: "INFO" if event.result == "done" else "WARN",
            SERVICE: SERVICE_NAME,
            MESSAGE: sentence(event),
            ATTRIBUTES: {
                EVENT_NAME: AUDIT_EVENT,
                **{key: value for key, value in told.items() if value not in (None, "")},
            },
        }
    )
    return secrets.token_hex(16), line


def sentence(event: AuditEvent) -> str:
    """`deleteLogs by cleaner from 10.0.0.7: service:orders: done, 12 records`."""
    where = f" from {event.address}" if event.address else ""
    count = "" if event.count is None else f", {event.count} record{'s' * (event.count != 1)}"
    what = f"{event.target[:_TARGET_CHARS_MAX]}: " if event.target else ""
    return f"{event.action} by {event.actor}{where}: {what}{event.result}{count}"
