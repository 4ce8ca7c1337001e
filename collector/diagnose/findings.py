"""What a signal reports: something that is not as the baseline has it, how surprising, and the records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final, Literal

import msgspec

from collector.diagnose.visits import Visit
from collector.model import Evidence, Record

Family = Literal["failure", "delay", "death", "path"]

EVIDENCE_MAX: Final = 5  # of one finding
QUOTE_CHARS_MAX: Final = 300
NEARLY_ALL: Final = 0.9


class Finding(msgspec.Struct, kw_only=True):
    """One deviation from the baseline.

    `family` says how it spreads: a `failure` goes up the call chain to whoever waited, a `delay` is
    measured where it is spent, a `death` ends a process, a `path` is only another way through the code.
    """

    signal: str  # the module that found it
    fault: str  # a word of `verdict.FAULTS`
    family: Family
    service: str
    decades: float  # surprise against the baseline, see `significance`
    summary: str  # one sentence
    evidence: list[Evidence]
    visits: list[Visit] = []  # where it shows; what it spread to is looked for above these
    operation: str | None = None
    place: str | None = None  # the operation whose runs deviate, where `operation` names what is missing
    instance: str | None = None
    location: str | None = None
    template: str | None = None
    refuted_by: str | None = None
    missing: str | None = None  # the step, by its name, that should have come
    after_call: str | None = None  # the call, as a step's name, whose answer came just before: it may be bad
    from_silence: bool = False  # lines are missing of a service of which no line arrived at all
    explained_by: Finding | None = None  # set by localisation


def evidence(record: Record, why: str, *, quoted: str | None = None) -> Evidence:
    """Cite a record: its line as a person would quote it, and what it shows."""
    text = quoted if quoted is not None else quote(record)
    return Evidence(
        uid=record.uid,
        timestamp_ns=record.timestamp_ns,
        service=record.service,
        quote=text[:QUOTE_CHARS_MAX],
        why=why,
        trace_id=record.trace_id,
        span_id=record.span_id,
    )


def quote(record: Record) -> str:
    """One line that says what a record says."""
    if record.kind == "log":
        message = (record.message or "").partition("\n")[0]
        if record.exception is not None:
            raised = ": ".join(part for part in (record.exception.type, record.exception.message) if part)
            if raised and raised not in message:
                message = f"{message} ({raised})" if message else raised
        return f"{record.level} {message}"
    state = f" [{record.status.code}]" if record.status and record.status.code != "UNSET" else ""
    if record.kind == "span_start":
        return f"span {record.name} started{state}"
    return f"span {record.name} took {length(record.duration_ns or 0)}{state}"


def length(nanoseconds: float) -> str:
    """A length of time with the unit a person would choose, three digits."""
    for unit, size in (("s", 1e9), ("ms", 1e6), ("µs", 1e3)):
        if abs(nanoseconds) >= size:
            return f"{nanoseconds / size:.3g} {unit}"
    return f"{nanoseconds:.0f} ns"


def times(octaves: float) -> str:
    """A factor of two to so many octaves, as a person says it."""
    factor = 2**octaves
    return f"{factor:.1f} times" if factor < 10 else f"{factor:.0f} times"


def instance_of(visits: Sequence[Visit]) -> str | None:
    """The instance that nearly all visits ran in; None: several, or it is not known."""
    instances = Counter(visit.node.record.instance for visit in visits)
    name, count = instances.most_common(1)[0] if instances else (None, 0)
    return name if count >= NEARLY_ALL * len(visits) else None
