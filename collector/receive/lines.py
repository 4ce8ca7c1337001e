"""Record lines -> records. The one place that knows both the line's keys and the model's fields.

`line_decoder` is msgspec's: typed, and faster than decoding into dictionaries. What it accepts is what
`tracing.line.decode` accepts; a test holds the two together.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from collector.model import NO_ATTRIBUTES, Event, ExceptionInfo, Link, Record, Source, Status
from tracing import semconv as sc
from tracing.errors import InvalidLine
from tracing.line import LINE_BYTES_MAX, decode, format_timestamp, parse_timestamp


class _EventLine(msgspec.Struct, frozen=True, gc=False):
    name: str
    timestamp: str | None = None
    attributes: dict[str, Any] | None = None


class RecordLine(msgspec.Struct, frozen=True, gc=False):
    """A record line as it stands, keys as in ARCHITECTURE.md; unknown keys are passed over."""

    timestamp: str
    level: str
    service: str
    trace_id: str | None = None
    span_id: str | None = None
    message: str | None = None
    kind: str | None = None
    logger: str | None = None
    attributes: dict[str, Any] | None = None
    exception: ExceptionInfo | None = None
    source: Source | None = None
    trace_flags: int | None = None
    name: str | None = None
    span_kind: str | None = None
    parent_span_id: str | None = None
    duration_ns: int | None = None
    status: Status | None = None
    events: list[_EventLine] | None = None
    links: list[Link] | None = None
    loss: dict[str, Any] | None = None
    close: dict[str, Any] | None = None
    resource: dict[str, Any] | None = None
    uid: str | None = None


_SEVERITY_NUMBERS: Final = sc.SEVERITY_NUMBERS
line_decoder: Final = msgspec.json.Decoder(RecordLine)


def decode_line(line: bytes) -> RecordLine:
    """Read and check one line.

    Raises:
        InvalidLine: with the reason and the field, the same as `tracing.line.decode` gives.
    """
    if len(line) <= LINE_BYTES_MAX:
        try:
            decoded = line_decoder.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            pass  # the slow way finds out which field it is
        else:
            if _is_plain(decoded):
                return decoded
    fields = decode(line)  # raises for most; what is left differs in an optional field's inner type
    fields[sc.TIMESTAMP] = format_timestamp(fields[sc.TIMESTAMP])
    try:
        return msgspec.convert(fields, RecordLine)
    except msgspec.ValidationError as error:
        field = str(error).rpartition("`$.")[2].rstrip("`") or None
        raise InvalidLine("wrong_type", str(error), field=field) from None


def record(
    line: RecordLine, *, uid: str, resource: dict[str, Any], received_ns: int = 0, seq: int = 0
) -> Record:
    """Make the model's record of a checked line.

    Args:
        uid: the record's identity.
        resource: of the process that wrote it; a line's own `resource` goes before it.
        received_ns: this collector's clock, epoch nanoseconds.
    Raises:
        InvalidLine: a time inside an event is not RFC 3339.
    """
    timestamp_ns = parse_timestamp(line.timestamp)
    level = line.level
    severity_number = _SEVERITY_NUMBERS.get(level)
    if severity_number is None:
        level = sc.normal_level(level) or "INFO"
        severity_number = _SEVERITY_NUMBERS[level]
    if _is_only_log(line):  # most are, and every argument less makes the call cheaper
        return Record(
            uid=uid,
            timestamp_ns=timestamp_ns,
            level=level,
            severity_number=severity_number,
            service=line.service,
            trace_id=line.trace_id,
            span_id=line.span_id,
            message=line.message,
            logger=line.logger,
            attributes=line.attributes or NO_ATTRIBUTES,
            exception=line.exception,
            source=line.source,
            trace_flags=line.trace_flags,
            name=line.name,
            resource=line.resource or resource,
            received_ns=received_ns,
            seq=seq,
        )
    return Record(
        uid=uid,
        kind=line.kind or "log",  # type: ignore[arg-type]  # checked by decode_line; `close` is no record
        timestamp_ns=timestamp_ns,
        level=level,
        severity_number=severity_number,
        service=line.service,
        trace_id=line.trace_id,
        span_id=line.span_id,
        message=line.message,
        logger=line.logger,
        attributes=line.attributes or NO_ATTRIBUTES,
        exception=line.exception,
        source=line.source,
        trace_flags=line.trace_flags,
        name=line.name,
        span_kind=line.span_kind,
        parent_span_id=line.parent_span_id,
        duration_ns=line.duration_ns,
        status=line.status,
        events=tuple(
            Event(
                timestamp_ns=parse_timestamp(event.timestamp) if event.timestamp else timestamp_ns,
                name=event.name,
                attributes=event.attributes or NO_ATTRIBUTES,
            )
            for event in line.events
        )
        if line.events
        else (),
        links=tuple(line.links) if line.links else (),
        loss=line.loss,
        resource=line.resource or resource,
        received_ns=received_ns,
        seq=seq,
    )


def _is_only_log(line: RecordLine) -> bool:
    """Whether a line has nothing of what belongs to spans."""
    return (
        line.kind is None
        and line.duration_ns is None
        and not line.parent_span_id
        and not line.span_kind
        and not line.status
        and not line.events
        and not line.links
        and not line.loss
    )


def record_from_line(
    line: bytes, *, uid: str, resource: dict[str, Any], received_ns: int = 0, seq: int = 0
) -> Record:
    """Read one line straight into the model.

    Raises:
        InvalidLine: the line cannot be a record, or it is a spool's `close` line.
    """
    decoded = decode_line(line)
    if decoded.kind == sc.KIND_CLOSE:
        raise InvalidLine("bad_kind", "a close line is not a record", field=sc.KIND)
    return record(decoded, uid=uid, resource=resource, received_ns=received_ns, seq=seq)


def line_fields(item: Record) -> dict[str, Any]:
    """The line's keys of a record, for `tracing.line.encode`; `record_from_line` is the inverse."""
    fields: dict[str, Any] = {
        sc.TIMESTAMP: item.timestamp_ns,
        sc.LEVEL: item.level,
        sc.SERVICE: item.service,
        sc.TRACE_ID: item.trace_id,
        sc.SPAN_ID: item.span_id,
        sc.MESSAGE: item.message,
        sc.KIND: None if item.kind == "log" else item.kind,
        sc.LOGGER: item.logger,
        sc.ATTRIBUTES: item.attributes or None,
        sc.EXCEPTION: msgspec.to_builtins(item.exception),
        sc.SOURCE: msgspec.to_builtins(item.source),
        sc.TRACE_FLAGS: item.trace_flags,
        sc.NAME: item.name,
        sc.SPAN_KIND: item.span_kind,
        sc.PARENT_SPAN_ID: item.parent_span_id,
        sc.DURATION_NS: item.duration_ns,
        sc.STATUS: msgspec.to_builtins(item.status),
        sc.LOSS: item.loss,
    }
    if item.events:
        fields[sc.EVENTS] = [
            {
                "timestamp": format_timestamp(event.timestamp_ns),
                "name": event.name,
                "attributes": event.attributes,
            }
            for event in item.events
        ]
    if item.links:
        fields[sc.LINKS] = [msgspec.to_builtins(link) for link in item.links]
    return fields


def _is_plain(line: RecordLine) -> bool:
    """Whether the cheap tests suffice to say that a line is right; the slow way decides the rest."""
    try:
        parse_timestamp(line.timestamp)
    except InvalidLine:
        return False
    if line.kind in (None, sc.KIND_SPAN):
        ids = (line.trace_id, 32), (line.span_id, 16), (line.parent_span_id, 16)
        for value, length in ids:
            if value is not None and (len(value) != length or not _is_hex(value)):
                return False
        if line.span_id is None or line.trace_id is not None:
            if line.level not in sc.SEVERITY_NUMBERS:
                return False
            if line.kind is None:
                return True
            return line.span_id is not None and line.duration_ns is not None and line.duration_ns >= 0
    return False


def _is_hex(value: str) -> bool:
    # int() would also take signs, underscores and capitals
    return not value.strip("0123456789abcdef") and bool(value.strip("0"))


__all__ = ["RecordLine", "decode_line", "line_decoder", "line_fields", "record", "record_from_line"]
