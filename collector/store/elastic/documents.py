"""A record <-> the document that Elasticsearch keeps of it. Pure but for what it remembers of resources.

The document has OpenTelemetry's shape, for Kibana and for people. What our own searches need to be exact is
added: `record_terms` holds every attribute as a term that says its type (`embedded.terms`: one term serves
equality, ranges and wildcards, whatever type the cluster gave the attribute's own field), and
`record_words` the words of a text that an analyzer might cut up otherwise than `conditions.tokens`
does: it is written for texts that are not all ASCII, where the two could differ.

Attributes that are not all fields of their own (`guard`) are kept whole as text in `record_attributes`,
from which they come back; a resource likewise.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Final

import msgspec

from collector.model import NO_ATTRIBUTES, Event, ExceptionInfo, Link, Record, Source, Status
from collector.store.codec import pack_resource, storable
from collector.store.conditions import tokens
from collector.store.durations import bucket_of
from collector.store.elastic import names as n
from collector.store.elastic.guard import MappingGuard
from collector.store.embedded.terms import attribute_terms
from tracing.line import format_timestamp, parse_timestamp
from tracing.semconv import SERVICE_INSTANCE_ID

# Longest text of one of our own fields that is indexed as it stands. Half of the mapping's `ignore_above`,
# which counts in UTF-16, where a character may take two.
TEXT_CHARS_MAX: Final = 512
NUMBER_MAX: Final = 2**63 - 1  # of a `long`, and of a `date_nanos`: in the year 2262
NUMBER_MIN: Final = -(2**63)
ID_BYTES_MAX: Final = 512  # Elasticsearch's limit on `_id`
_RESOURCES_MAX: Final = 10_000
_NO_TERMS: Final[list[str]] = []
_NOTHING: Final = msgspec.Raw()  # this very one is left out


class Document(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    rename={
        "timestamp": n.TIMESTAMP,
        "service_name": n.SERVICE_NAME,
        "instance": n.INSTANCE,
        "body": n.BODY,
        "span_kind": n.SPAN_KIND,
        "status_code": n.STATUS_CODE,
        "status_message": "status.message",
        "scope_name": n.SCOPE_NAME,
        "exception_type": n.EXCEPTION_TYPE,
        "exception_message": n.EXCEPTION_MESSAGE,
        "exception_stacktrace": "exception.stacktrace",
        "code_file": n.CODE_FILE,
        "code_line": n.CODE_LINE,
        "code_function": n.CODE_FUNCTION,
    },
):
    """A document as it is sent and as `_source` gives it back."""

    timestamp: str
    record_uid: str
    record_kind: str
    severity_text: str
    severity_number: int
    service_name: str
    observed_timestamp: str | None = None
    trace_id: str | None = None
    span_id: str | None = None
    parent_span_id: str | None = None
    trace_flags: int | None = None
    body: str | None = None
    scope_name: str | None = None
    name: str | None = None
    span_kind: str | None = None
    duration: int | None = None
    status_code: str | None = None
    status_message: str | None = None
    exception_type: str | None = None
    exception_message: str | None = None
    exception_stacktrace: str | None = None
    code_file: str | None = None
    code_line: int | None = None
    code_function: str | None = None
    instance: str | None = None
    attributes: dict[str, Any] = NO_ATTRIBUTES
    events: tuple[Event, ...] = ()
    links: tuple[Link, ...] = ()
    resource: msgspec.Raw = _NOTHING
    attributes_overflow: dict[str, str] = {}
    record_seq: int = 0
    record_error: bool = False
    record_bucket: int | None = None
    record_terms: list[str] = []
    record_words: str | None = None
    record_exception_words: str | None = None
    record_loss: dict[str, Any] | None = None
    record_late: str | None = None
    record_large: dict[
        str, int
    ] = {}  # numbers beyond 64 bits by the model's name; their fields hold the nearest
    record_has: list[str] = []  # parts that are there and empty, which omitting would lose
    record_attributes: str | None = None  # JSON; instead of `attributes`
    record_resource: str | None = None  # JSON; instead of `resource`


class _KnownResource(msgspec.Struct, frozen=True):
    """What the documents of one process share."""

    fields: msgspec.Raw
    terms: list[str]
    instance: str | None
    whole: str | None


_encoder: Final = msgspec.json.Encoder()
_decoder: Final = msgspec.json.Decoder(Document)
_NO_RESOURCE: Final = _KnownResource(_NOTHING, _NO_TERMS, None, None)


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
        return _KnownResource(
            msgspec.Raw(_encoder.encode({"attributes": fields})),
            [n.RESOURCE_TERM + term[1:] for term in attribute_terms(resource)],
            None if instance is None else str(instance),
            None if whole else body.decode(),
        )


def document_id(uid: str) -> str:
    """The `_id` of a record: its uid, or a hash of one that Elasticsearch would not take."""
    if uid and len(uid.encode("utf-8", "replace")) <= ID_BYTES_MAX:
        return uid
    return f"hash-{blake2b(uid.encode('utf-8', 'replace'), digest_size=16).hexdigest()}"


def unstorable(record: Record) -> str | None:
    """Why no cluster can ever take a record, `None` if one can; a word for a counter."""
    return "timestamp_out_of_range" if record.timestamp_ns < 0 or record.received_ns < 0 else None


def decode(source: bytes) -> Record:
    """Read a document's `_source` back into the record.

    Raises:
        msgspec.MsgspecError: it is not one of our documents.
    """
    document = _decoder.decode(source)
    attributes = document.attributes
    if document.record_attributes is not None:
        attributes = msgspec.json.decode(document.record_attributes)
    has = document.record_has
    found = Record(
        uid=document.record_uid,
        timestamp_ns=parse_timestamp(document.timestamp),
        level=document.severity_text,
        severity_number=document.severity_number,
        service=document.service_name,
        kind=document.record_kind,  # type: ignore[arg-type]  # written from a record's
        trace_id=document.trace_id,
        span_id=document.span_id,
        message=document.body,
        logger=document.scope_name,
        attributes=attributes or NO_ATTRIBUTES,
        exception=_exception(document, has),
        source=_source(document, has),
        trace_flags=document.trace_flags,
        name=document.name,
        span_kind=document.span_kind,
        parent_span_id=document.parent_span_id,
        duration_ns=document.duration,
        status=Status(code=document.status_code, message=document.status_message)
        if document.status_code is not None
        else None,
        events=document.events,
        links=document.links,
        loss=document.record_loss,
        resource=_resource_of(document),
        received_ns=parse_timestamp(document.observed_timestamp) if document.observed_timestamp else 0,
        seq=document.record_seq,
    )
    return _with_large(found, document.record_large) if document.record_large else found


def timestamp_text(timestamp_ns: int) -> str:
    """Epoch nanoseconds as Elasticsearch reads a `date_nanos`; beyond its years, the last of them."""
    return format_timestamp(min(max(timestamp_ns, 0), NUMBER_MAX))


def _resource_of(document: Document) -> dict[str, Any]:
    if document.record_resource is not None:
        whole: dict[str, Any] = _json_of(document.record_resource)
        return dict(whole)
    if not bytes(document.resource):
        return NO_ATTRIBUTES
    found: dict[str, Any] = msgspec.json.decode(document.resource).get("attributes", NO_ATTRIBUTES)
    return found


@lru_cache(maxsize=1024)
def _json_of(text: str) -> Any:
    return msgspec.json.decode(text)


def _exception(document: Document, has: Sequence[str]) -> ExceptionInfo | None:
    kind, message = document.exception_type, document.exception_message
    stacktrace = document.exception_stacktrace
    if kind is None and message is None and stacktrace is None and "exception" not in has:
        return None
    return ExceptionInfo(type=kind, message=message, stacktrace=stacktrace)


def _source(document: Document, has: Sequence[str]) -> Source | None:
    file, line, function = document.code_file, document.code_line, document.code_function
    if file is None and line is None and function is None and "source" not in has:
        return None
    return Source(file=file, line=line, function=function)


def _empty_parts(exception: ExceptionInfo | None, source: Source | None) -> list[str]:
    found = []
    if exception is not None and exception == ExceptionInfo():
        found.append("exception")
    if source is not None and source == Source():
        found.append("source")
    return found


def late_text(timestamp_ns: int) -> str:
    """A time beyond the last that `@timestamp` can say, as text that sorts as the times do."""
    return f"{timestamp_ns:039d}"


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


def _with_large(record: Record, large: dict[str, int]) -> Record:
    changes: dict[str, Any] = {name: number for name, number in large.items() if name != "source.line"}
    if "source.line" in large and record.source is not None:
        changes["source"] = msgspec.structs.replace(record.source, line=large["source.line"])
    return msgspec.structs.replace(record, **changes)


def _words(text: str | None) -> str | None:
    """The tokens of a text that an analyzer may see differently; `None` for plain ASCII."""
    return None if text is None or text.isascii() else " ".join(tokens(text))


def _iso(timestamp_ns: int) -> str:
    second, nanoseconds = divmod(timestamp_ns, 1_000_000_000)
    return f"{_second_text(second)}.{nanoseconds:09d}Z"


@lru_cache(maxsize=4096)
def _second_text(second: int) -> str:
    return format_timestamp(second * 1_000_000_000)[:19]
