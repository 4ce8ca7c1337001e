"""A record as the document that Elasticsearch keeps of it, and back. Pure.

The document has OpenTelemetry's shape, for Kibana and for people. What our own searches need to be exact is
added: `record_terms` holds every attribute as a term that says its type (`embedded.terms`: one term serves
equality, ranges and wildcards, whatever type the cluster gave the attribute's own field), and
`record_words` the words of a text that an analyzer might cut up otherwise than `conditions.tokens`
does: it is written for texts that are not all ASCII, where the two could differ.

Attributes that are not all fields of their own (`guard`) are kept whole as text in `record_attributes`,
from which they come back; a resource likewise.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Final

import msgspec

from collector.model import NO_ATTRIBUTES, Event, ExceptionInfo, Link, Record, Source, Status
from collector.store.elastic import names as n
from tracing.line import format_timestamp, parse_timestamp

# Longest text of one of our own fields that is indexed as it stands. Half of the mapping's `ignore_above`,
# which counts in UTF-16, where a character may take two.
TEXT_CHARS_MAX: Final = 512
NUMBER_MAX: Final = 2**63 - 1  # of a `long`, and of a `date_nanos`: in the year 2262
NUMBER_MIN: Final = -(2**63)
ID_BYTES_MAX: Final = 512  # Elasticsearch's limit on `_id`
NOTHING: Final = msgspec.Raw()  # this very one is left out of a document


class Document(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    gc=False,
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
    """A document as `_source` gives it back, or a part of one: what is not given is not written.

    The parts, divided by blank lines below, are what a record has for itself, what it shares with those of
    its kind from its line of code, and what with those of its process; `encoding` writes the last two once.
    """

    timestamp: str = ""
    record_uid: str = ""
    trace_id: str | None = None
    span_id: str | None = None
    parent_span_id: str | None = None
    trace_flags: int | None = None
    body: str | None = None
    name: str | None = None
    duration: int | None = None
    status_message: str | None = None
    exception_type: str | None = None
    exception_message: str | None = None
    exception_stacktrace: str | None = None
    attributes: dict[str, Any] = NO_ATTRIBUTES
    events: tuple[Event, ...] = ()
    links: tuple[Link, ...] = ()
    attributes_overflow: dict[str, str] | None = None
    record_seq: int = 0
    record_bucket: int | None = None
    record_terms: list[str] | None = None
    record_words: str | None = None
    record_exception_words: str | None = None
    record_loss: dict[str, Any] | None = None
    record_late: str | None = None
    record_large: dict[str, int] | None = None  # numbers beyond 64 bits by the model's name, where the
    # fields hold the nearest
    record_has: list[str] | None = None  # parts that are there and empty, which omitting would lose
    record_attributes: str | None = None  # JSON; instead of `attributes`

    record_kind: str = ""
    severity_text: str = ""
    severity_number: int = 0
    service_name: str = ""
    scope_name: str | None = None
    span_kind: str | None = None
    status_code: str | None = None
    code_file: str | None = None
    code_line: int | None = None
    code_function: str | None = None
    record_error: bool = False

    observed_timestamp: str | None = None
    instance: str | None = None
    resource: msgspec.Raw = NOTHING
    record_resource: str | None = None  # JSON; instead of `resource`


_decoder: Final = msgspec.json.Decoder(Document)


def document_id(uid: str) -> str:
    """The `_id` of a record: its uid, or a hash of one that Elasticsearch would not take."""
    if uid and (len(uid) * 4 <= ID_BYTES_MAX or len(uid.encode("utf-8", "replace")) <= ID_BYTES_MAX):
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
    if not document.timestamp or not document.record_kind:
        raise msgspec.ValidationError(f"no document of ours: {source[:200]!r}")
    attributes = document.attributes
    if document.record_attributes is not None:
        attributes = msgspec.json.decode(document.record_attributes)
    has = document.record_has or ()
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


def late_text(timestamp_ns: int) -> str:
    """A time beyond the last that `@timestamp` can say, as text that sorts as the times do."""
    return f"{timestamp_ns:039d}"


def _with_large(record: Record, large: dict[str, int]) -> Record:
    changes: dict[str, Any] = {name: number for name, number in large.items() if name != "source.line"}
    if "source.line" in large and record.source is not None:
        changes["source"] = msgspec.structs.replace(record.source, line=large["source.line"])
    return msgspec.structs.replace(record, **changes)
