"""Records -> documents, as fast as Python allows; remembers what the records of a process share."""

from __future__ import annotations

import time
from functools import lru_cache
from typing import Any, Final

import msgspec

from collector.model import ExceptionInfo, Record, Source
from collector.store.codec import pack_resource, storable
from collector.store.conditions import tokens
from collector.store.durations import bucket_of
from collector.store.elastic import names as n
from collector.store.elastic.documents import (
    NOTHING,
    NUMBER_MAX,
    NUMBER_MIN,
    TEXT_CHARS_MAX,
    Document,
    late_text,
)
from collector.store.elastic.guard import MappingGuard
from collector.store.embedded.terms import attribute_terms
from tracing.line import format_timestamp
from tracing.semconv import SERVICE_INSTANCE_ID

_RESOURCES_MAX: Final = 10_000
_NO_TERMS: Final[list[str]] = []
_encoder: Final = msgspec.json.Encoder()


class _KnownResource(msgspec.Struct, frozen=True):
    """What the documents of one process share."""

    fields: msgspec.Raw
    terms: list[str]
    instance: str | None
    whole: str | None


_NO_RESOURCE: Final = _KnownResource(NOTHING, _NO_TERMS, None, None)


class DocumentEncoder:
    """Writes documents; remembers what the records of a process share. For one thread at a time."""

    def __init__(self, guard: MappingGuard) -> None:
        self._guard = guard
        self._resources: dict[bytes, _KnownResource] = {}
        self._of_batch: dict[int, tuple[dict[str, Any], _KnownResource]] = {}

    def begin_batch(self) -> None:
        """Call before the first record of a batch: resources are known by identity until the next."""
        self._of_batch.clear()

    def encode(self, record: Record, *, bare: bool = False) -> bytes:
        """Write a record as its document.

        Args:
            record: of any kind.
            bare: give no attribute a field of its own, for a server that refused one.
        """
        try:
            return self._encode(record, bare)
        except (TypeError, ValueError, RecursionError, OverflowError):
            return self._encode(storable(record), bare)  # a value that JSON has no word for, mended

    def _encode(self, record: Record, bare: bool) -> bytes:
        resource = self._resource(record.resource, bare) if record.resource else _NO_RESOURCE
        attributes = record.attributes
        overflow: dict[str, str] = {}
        kept_whole = None
        terms = resource.terms
        if attributes:
            terms = attribute_terms(attributes) + terms
            if bare or not self._guard.plain(attributes):
                attributes, overflow, whole = (
                    ({}, {}, False) if bare else self._guard.split(attributes, time.monotonic())
                )
                if not whole:
                    kept_whole = _encoder.encode(record.attributes).decode()
                    terms = [*terms, n.BEYOND_TERM + n.ATTRIBUTES]
        message, exception, source, status = record.message, record.exception, record.source, record.status
        beyond = _beyond(record, resource.instance)
        large: dict[str, int] = {}
        if beyond:
            terms = terms + [n.BEYOND_TERM + name for name in beyond]
            record, large = _clamped(record)
            source = record.source
        has = _empty_parts(exception, source) if exception or source else []
        document = Document(
            timestamp=_iso(record.timestamp_ns),
            record_uid=record.uid,
            record_kind=record.kind,
            severity_text=record.level,
            severity_number=record.severity_number,
            service_name=record.service,
            observed_timestamp=_iso(record.received_ns) if record.received_ns else None,
            trace_id=record.trace_id,
            span_id=record.span_id,
            parent_span_id=record.parent_span_id,
            trace_flags=record.trace_flags,
            body=message,
            scope_name=record.logger,
            name=record.name,
            span_kind=record.span_kind,
            duration=record.duration_ns,
            status_code=status.code if status else None,
            status_message=status.message if status else None,
            exception_type=exception.type if exception else None,
            exception_message=exception.message if exception else None,
            exception_stacktrace=exception.stacktrace if exception else None,
            code_file=source.file if source else None,
            code_line=source.line if source else None,
            code_function=source.function if source else None,
            instance=resource.instance,
            attributes=attributes,
            events=record.events,
            links=record.links,
            resource=resource.fields,
            attributes_overflow=overflow,
            record_seq=record.seq,
            record_error=record.is_error,
            record_bucket=bucket_of(large.get("duration_ns", record.duration_ns) or 0)
            if record.kind == "span"
            else None,
            record_terms=terms,
            record_words=_words(message),
            record_exception_words=_words(exception.message) if exception else None,
            record_loss=record.loss,
            record_late=late_text(large["timestamp_ns"]) if "timestamp_ns" in large else None,
            record_large=large,
            record_has=has,
            record_attributes=kept_whole,
            record_resource=resource.whole,
        )
        return _encoder.encode(document)

    def _resource(self, resource: dict[str, Any], bare: bool) -> _KnownResource:
        of_batch = self._of_batch.get(id(resource))
        if of_batch is not None and of_batch[0] is resource and not bare:
            return of_batch[1]
        body = pack_resource(resource)
        known = None if bare else self._resources.get(body)
        if known is None:
            known = self._new_resource(resource, body, bare)
            if len(self._resources) >= _RESOURCES_MAX:
                self._resources.clear()
            if not bare:
                self._resources[body] = known
        if not bare:
            self._of_batch[id(resource)] = resource, known
        return known

    def _new_resource(self, resource: dict[str, Any], body: bytes, bare: bool) -> _KnownResource:
        # Read back, so that what JSON has no word for is mended in the terms too.
        resource = msgspec.json.decode(body)
        fields: dict[str, Any] = {}
        whole = False
        if not bare:
            fields, _, whole = self._guard.split(resource, time.monotonic())
        instance = resource.get(SERVICE_INSTANCE_ID)
        terms = [n.RESOURCE_TERM + term[1:] for term in attribute_terms(resource)]
        if not whole:
            terms.append(n.BEYOND_TERM + n.RESOURCE_ATTRIBUTES)
        return _KnownResource(
            msgspec.Raw(_encoder.encode({"attributes": fields})),
            terms,
            None if instance is None else str(instance),
            None if whole else body.decode(),
        )


def _empty_parts(exception: ExceptionInfo | None, source: Source | None) -> list[str]:
    found = []
    if exception is not None and exception == ExceptionInfo():
        found.append("exception")
    if source is not None and source == Source():
        found.append("source")
    return found


def _beyond(record: Record, instance: str | None) -> list[str]:
    """The fields whose text is too long, or whose number is too large, to be indexed as it is."""
    found = []
    exception, source, status = record.exception, record.source, record.status
    for name, text in (
        (n.SERVICE_NAME, record.service),
        (n.NAME, record.name),
        (n.SCOPE_NAME, record.logger),
        (n.EXCEPTION_TYPE, exception.type if exception else None),
        (n.CODE_FILE, source.file if source else None),
        (n.CODE_FUNCTION, source.function if source else None),
        (n.INSTANCE, instance),
        (n.SPAN_KIND, record.span_kind),
        (n.STATUS_CODE, status.code if status else None),
        (n.SEVERITY_TEXT, record.level),
        (n.TRACE_ID, record.trace_id),
        (n.SPAN_ID, record.span_id),
        (n.PARENT_SPAN_ID, record.parent_span_id),
        (n.UID, record.uid),
    ):
        if text is not None and len(text) > TEXT_CHARS_MAX:
            found.append(name)
    if record.timestamp_ns >= NUMBER_MAX:
        found.append(n.TIMESTAMP)
    if record.received_ns >= NUMBER_MAX:
        found.append(n.OBSERVED)
    if record.duration_ns is not None and record.duration_ns >= NUMBER_MAX:
        found.append(n.DURATION)
    if source is not None and source.line is not None and not NUMBER_MIN < source.line < NUMBER_MAX:
        found.append(n.CODE_LINE)
    return found


def _clamped(record: Record) -> tuple[Record, dict[str, int]]:
    """The record with every number within 64 bits, and the numbers that were not."""
    large: dict[str, int] = {}
    changes: dict[str, Any] = {}
    for name in ("timestamp_ns", "received_ns", "duration_ns"):
        number = getattr(record, name)
        if number is not None and number > NUMBER_MAX:
            large[name] = number
            changes[name] = NUMBER_MAX
    source = record.source
    if source is not None and source.line is not None and not NUMBER_MIN <= source.line <= NUMBER_MAX:
        large["source.line"] = source.line
        line = min(max(source.line, NUMBER_MIN), NUMBER_MAX)
        changes["source"] = msgspec.structs.replace(source, line=line)
    return (msgspec.structs.replace(record, **changes) if changes else record), large


def _words(text: str | None) -> str | None:
    """The tokens of a text that an analyzer may see differently; `None` for plain ASCII."""
    return None if text is None or text.isascii() else " ".join(tokens(text))


def _iso(timestamp_ns: int) -> str:
    second, nanoseconds = divmod(timestamp_ns, 1_000_000_000)
    return f"{_second_text(second)}.{nanoseconds:09d}Z"


@lru_cache(maxsize=4096)
def _second_text(second: int) -> str:
    return format_timestamp(second * 1_000_000_000)[:19]
