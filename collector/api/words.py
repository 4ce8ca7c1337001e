"""What people type -> values: ids, levels, times, durations, searches. Pure."""

from __future__ import annotations

import re
from typing import Final, Unpack

from collector.api.filters import RecordFilters
from collector.errors import QueryError
from collector.settings import did_you_mean
from collector.store.conditions import ENVIRONMENT_FIELDS, And, Condition, Equals, Or, Range, Structure
from collector.store.contract import EVERYTHING
from tracing import semconv as sc

_TRACE_ID: Final = re.compile(r"[0-9a-f]{32}")


def checked_trace_id(text: str) -> str:
    """The trace id that a text means: 32 hex digits, capitals and a UUID's dashes forgiven.

    Raises:
        QueryError: it is none.
    """
    trace_id = text.strip().lower().replace("-", "")
    if not _TRACE_ID.fullmatch(trace_id):
        raise QueryError(f"{text!r:.80}: a trace id is 32 hexadecimal digits")
    return trace_id


def severity_number(level: str) -> int:
    """OpenTelemetry's number of a level.

    Raises:
        QueryError: there is no such level.
    """
    name = sc.normal_level(level)
    if name is None:
        known = did_you_mean(level.upper(), (*sc.SEVERITY_NUMBERS, *sc.SEVERITY_ALIASES))
        raise QueryError(f"level {level!r:.80}: no such level{known or '; DEBUG, INFO, WARN and ERROR are'}")
    return sc.SEVERITY_NUMBERS[name]


# The languages of people are loaded when somebody speaks them: the parser alone takes longer to load than
# most answers take to give, and a command on a data directory is over in a moment.


def read_search(q: str, now_ns: int) -> Condition:
    """What a search asks for; see `collector.query`.

    Raises:
        QueryError: with the position.
    """
    from collector.query import parse_query

    return parse_query(q, now_ns=now_ns)


def read_structure(q: str, now_ns: int) -> Structure:
    """How spans are to stand in a trace; see `collector.query`.

    Raises:
        QueryError: with the position.
    """
    if not q.strip():
        return Structure(steps=(EVERYTHING,), direct=(False,))
    from collector.query import parse_structure

    return parse_structure(q, now_ns=now_ns)


def read_time(value: str | int | None, now_ns: int) -> int | None:
    """Epoch nanoseconds of a time in human words; a number is nanoseconds already.

    Raises:
        QueryError: it is no time.
    """
    if not isinstance(value, str):
        return value
    from collector.query import parse_time

    return parse_time(value, now_ns=now_ns)


def read_duration(value: str | int | None) -> int | None:
    """Nanoseconds of a duration with its unit; a number is nanoseconds already.

    Raises:
        QueryError: it is no duration.
    """
    if not isinstance(value, str):
        return value
    from collector.query import parse_duration

    return parse_duration(value)


def read_filters(
    q: str, now_ns: int, *, operation: str | None = None, **filters: Unpack[RecordFilters]
) -> Condition:
    """What a record must fulfil: a search text, the name of a span, and the usual filters.

    Raises:
        QueryError: one cannot be understood.
    """
    parts: list[Condition] = []
    if q.strip():
        parts.append(read_search(q, now_ns))
    if (service := filters.get("service")) is not None:
        parts.append(Equals("service", service))
    if (environment := filters.get("environment")) is not None:
        parts.append(Or(tuple(Equals(field, environment) for field in ENVIRONMENT_FIELDS)))
    if (version := filters.get("version")) is not None:
        parts.append(Equals(f"resource.{sc.SERVICE_VERSION}", version))
    if operation is not None:
        parts.append(Equals("name", operation))
    if (level := filters.get("level")) is not None:
        parts.append(Range("severity_number", low=severity_number(level)))
    if (trace_id := filters.get("trace_id")) is not None:
        parts.append(Equals("trace_id", checked_trace_id(trace_id)))
    return parts[0] if len(parts) == 1 else And(tuple(parts)) if parts else EVERYTHING
