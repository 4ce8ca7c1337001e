"""Findings as events: records in the store, which alerts and incidents can build on. Pure.

A finding is an episode: something about a service is not as usual, from one minute to another. Its records
are logs of the service `backtrail` whose `event.name` is `backtrail.finding`: one when it `began` (level
WARN), and one when it `ended`, or when it had lasted so long that it became the `usual` state of things
(level INFO). Both carry the same `finding.id`.
"""

from __future__ import annotations

import hashlib
from typing import Any, Final, Literal

import msgspec

from collector.changes import TELLER
from collector.model import Record
from collector.store.conditions import And, Condition, Equals
from tracing.line import encode
from tracing.semconv import ATTRIBUTES, EVENT_NAME, LEVEL, MESSAGE, SERVICE, TIMESTAMP

FINDING_EVENT: Final = "backtrail.finding"
STATES: Final = ("began", "ended", "usual")
PREFIX: Final = "finding."
# What a record's attributes say, besides `event.name`: `finding.` and one of these.
_KEYS: Final = (
    "id", "state", "service", "operation", "instance", "fault", "confidence", "decades", "entries",
    "signals", "evidence", "traces", "location", "template", "start_ns", "end_ns", "began_ns",
)  # fmt: skip


class FindingEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One moment of an episode."""

    id: str  # of the episode
    state: Literal["began", "ended", "usual"]
    service: str  # where to look
    fault: str  # a word of `collector.diagnose.verdict.FAULTS`
    summary: str  # one sentence for a person
    confidence: float  # 0..1
    decades: float  # surprise against the baseline
    start_ns: int  # of the minute that was looked at
    end_ns: int
    began_ns: int  # of the episode
    entries: list[str] = []  # entry points through which it shows, `service operation`
    signals: list[str] = []
    evidence: list[str] = []  # uids of records
    traces: list[str] = []  # ids of traces that show it
    operation: str | None = None
    instance: str | None = None
    location: str | None = None
    template: str | None = None

    @property
    def uid(self) -> str:
        """Identity of its record: noticing the same again, after a crash, changes nothing."""
        return hashlib.sha256(f"{FINDING_EVENT} {self.id} {self.state}".encode()).hexdigest()[:32]


def episode_id(service: str, began_ns: int) -> str:
    """The identity of what began at a service in the minute that starts then."""
    return hashlib.sha256(f"{service} {began_ns}".encode()).hexdigest()[:16]


def event_line(event: FindingEvent) -> tuple[str, bytes]:
    """Identity and line of an event's record, as an import takes them."""
    fields = msgspec.structs.asdict(event)
    attributes = {PREFIX + key: fields[key] for key in _KEYS if fields[key] not in (None, [])}
    line = encode(
        {
            TIMESTAMP: event.start_ns,
            LEVEL: "WARN" if event.state == "began" else "INFO",
            SERVICE: TELLER,
            MESSAGE: event.summary,
            ATTRIBUTES: {EVENT_NAME: FINDING_EVENT, **attributes},
        }
    )
    return event.uid, line


def event_of(record: Record) -> FindingEvent | None:
    """The event that a record is; None: it is none, or not one that this program can read."""
    told = record.attributes
    if told.get(EVENT_NAME) != FINDING_EVENT:
        return None
    fields: dict[str, Any] = {key: told[PREFIX + key] for key in _KEYS if PREFIX + key in told}
    try:
        return msgspec.convert({**fields, "summary": record.message or ""}, FindingEvent, strict=False)
    except msgspec.ValidationError:
        return None


def findings_condition(*, service: str | None = None, state: str | None = None) -> Condition:
    """What finds the records of findings.

    Args:
        service: only those that accuse it.
        state: only these moments, a word of `STATES`.
    """
    parts: list[Condition] = [Equals(f"attributes.{EVENT_NAME}", FINDING_EVENT)]
    if service is not None:
        parts.append(Equals(f"attributes.{PREFIX}service", service))
    if state is not None:
        parts.append(Equals(f"attributes.{PREFIX}state", state))
    return And(tuple(parts))
