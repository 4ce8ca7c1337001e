"""Recorded fault data -> records: the NDJSON of `shared/data/rca`, described in that folder's README. Pure.

A line is a span or a log; times are whole epoch nanoseconds, which is also how the format is told from
our own, whose times are text. Ids that are not hex of OpenTelemetry's length are mapped onto ids that
are, always the same way, so that the relations between the lines stay what they were.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any, Final

import msgspec

from collector.model import NO_ATTRIBUTES, Record, Source, Status
from collector.receive.lines import line_fields
from tracing import semconv as sc
from tracing.errors import InvalidLine
from tracing.line import TIMESTAMP_NS_MAX, encode

_ZEROES_OR_NOTHING: Final = re.compile(r"0*")
_HEX: Final = re.compile(r"[0-9a-f]+")
_UNFIT_FIELD: Final = re.compile(r"at `\$\.([a-z_]+)")
_MISSING_FIELD: Final = re.compile(r"required field `([a-z_]+)`")


class RecordedLine(msgspec.Struct, frozen=True):
    """A line as it stands; unknown keys are passed over."""

    timestamp: int  # epoch nanoseconds
    service: str
    kind: str = "log"
    trace_id: str | None = None
    span_id: str | None = None
    parent_span_id: str | None = None
    instance: str | None = None
    name: str | None = None  # of a span: its operation; of a log: its logger
    line: int | None = None  # logs only
    start: int | None = None  # spans only, as `end`; epoch nanoseconds
    end: int | None = None
    status: str | None = None
    span_kind: str | None = None
    level: str | None = None
    message: str | None = None
    attributes: dict[str, Any] | None = None


recorded_decoder: Final = msgspec.json.Decoder(RecordedLine)


def decode_recorded(line: bytes) -> RecordedLine:
    """Read one line of the recorded format.

    Raises:
        InvalidLine: with the reason and the field.
    """
    try:
        return recorded_decoder.decode(line)
    except msgspec.ValidationError as error:
        missing = _MISSING_FIELD.search(str(error))
        unfit = missing or _UNFIT_FIELD.search(str(error))
        if missing:
            reason = "missing_field"
        else:
            reason = "wrong_type" if unfit else "not_object"
        raise InvalidLine(reason, str(error), field=unfit[1] if unfit else None) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        reason = "not_utf8" if isinstance(error, UnicodeDecodeError) else "not_json"
        raise InvalidLine(reason, f"{error}: {line[:80]!r}") from None


def recorded_record(line: RecordedLine, *, uid: str) -> Record:
    """Make the model's record of a recorded line.

    Raises:
        InvalidLine: the line is neither a span nor a log, has no usable ids, or ends before it starts.
    """
    trace_id, span_id = fit_id(line.trace_id, 32), fit_id(line.span_id, 16)
    if not 0 <= line.timestamp <= TIMESTAMP_NS_MAX:
        raise InvalidLine("bad_timestamp", f"epoch nanoseconds, got {line.timestamp}", field="timestamp")
    if not line.service:
        raise InvalidLine("missing_field", "service: a name is required", field="service")
    resource = {sc.SERVICE_INSTANCE_ID: line.instance} if line.instance else NO_ATTRIBUTES
    if line.kind == "log":
        return _log(line, uid, trace_id, span_id, resource)
    if line.kind == "span":
        return _span(line, uid, trace_id, span_id, resource)
    raise InvalidLine("bad_kind", f"`span` or `log`, got {line.kind!r:.64}", field="kind")


def recorded_line(item: Record) -> bytes:
    """Write a record that was read from the recorded format as a record line, its resource included."""
    return encode(line_fields(item) | {sc.RESOURCE: item.resource or None})


def fit_id(text: str | None, digits: int) -> str | None:
    """Map a foreign id onto `digits` hex digits; the same text gives the same id, all zeroes give none.

    Short hex (the 64-bit trace ids of older tracers) is padded in front, as W3C trace context advises;
    dashes of a UUID are dropped; anything else is hashed.
    """
    if text is None:
        return None
    if len(text) == digits and not text.strip("0123456789abcdef"):
        return text if text.strip("0") else None
    bare = text.strip().lower().replace("-", "")
    if _ZEROES_OR_NOTHING.fullmatch(bare):
        return None
    if len(bare) <= digits and _HEX.fullmatch(bare):
        return bare.rjust(digits, "0")
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:digits]


def _log(
    line: RecordedLine, uid: str, trace_id: str | None, span_id: str | None, resource: dict[str, Any]
) -> Record:
    level = sc.normal_level(line.level or "") or "INFO"
    attributes = line.attributes or NO_ATTRIBUTES
    if line.level and sc.normal_level(line.level) is None:
        attributes = attributes | {sc.LEVEL_NAME: line.level}
    return Record(
        uid=uid,
        timestamp_ns=line.timestamp,
        level=level,
        severity_number=sc.SEVERITY_NUMBERS[level],
        service=line.service,
        trace_id=trace_id,
        span_id=span_id if trace_id else None,
        message=line.message,
        logger=line.name,
        source=Source(line=line.line) if line.line is not None else None,
        attributes=attributes,
        resource=resource,
    )


def _span(
    line: RecordedLine, uid: str, trace_id: str | None, span_id: str | None, resource: dict[str, Any]
) -> Record:
    if trace_id is None or span_id is None:
        field = sc.TRACE_ID if trace_id is None else sc.SPAN_ID
        raise InvalidLine("missing_field", "a span has a trace_id and a span_id", field=field)
    start = line.timestamp if line.start is None else line.start
    if line.end is None:
        raise InvalidLine("missing_field", "a span has an end", field="end")
    if not 0 <= start <= line.end <= TIMESTAMP_NS_MAX:
        raise InvalidLine("bad_duration", f"from {start} to {line.end} ns", field="end")
    code = (line.status or "UNSET").upper()
    level = "ERROR" if code == "ERROR" else "INFO"
    return Record(
        uid=uid,
        kind="span",
        timestamp_ns=start,
        level=level,
        severity_number=sc.SEVERITY_NUMBERS[level],
        service=line.service,
        trace_id=trace_id,
        span_id=span_id,
        parent_span_id=fit_id(line.parent_span_id, 16),
        name=line.name or "?",
        span_kind=line.span_kind,
        duration_ns=line.end - start,
        status=Status(code=code if code in sc.STATUS_CODES else "UNSET"),
        attributes=line.attributes or NO_ATTRIBUTES,
        resource=resource,
    )
