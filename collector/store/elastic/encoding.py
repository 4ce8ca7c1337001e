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
_PROFILES_MAX: Final = 10_000
_NS_PER_S: Final = 1_000_000_000
_encoder: Final = msgspec.json.Encoder()


class _Profile(msgspec.Struct, frozen=True, gc=False):
    """What the documents of one kind from one line of code share."""

    fields: bytes  # of the JSON object, a comma in front
    beyond: list[str]  # terms for what the fields cannot hold as it is
    large_line: int | None  # the number of the line where it has more than 64 bits
    source_is_empty: bool

    @property
    def is_plain(self) -> bool:
        """Whether a record's own part need not make up for anything."""
        return not self.beyond and not self.source_is_empty and self.large_line is None


class _Shared(msgspec.Struct, frozen=True, gc=False):
    """What the documents of one process share."""

    fields: bytes  # of the JSON object, a comma in front
    terms: list[str]


_NOTHING_SHARED: Final = _Shared(b"", [])


class DocumentEncoder:
    """Writes documents; remembers the parts that records share. For one thread at a time."""

    def __init__(self, guard: MappingGuard) -> None:
        self._guard = guard
        self._resources: dict[bytes, _Shared] = {}
        self._of_batch: dict[int, tuple[dict[str, Any], _Shared]] = {}
        self._profiles: dict[tuple[Any, ...], tuple[_Profile, bool]] = {}
        self._received: tuple[int, bytes] = 0, b""  # the last time of arrival, and its field

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
        shared = self._shared(record.resource, bare) if record.resource else _NOTHING_SHARED
        profile, is_plain = self._profile(record)
        own = self._usual(record, shared) if is_plain and not bare else None
        if own is None:
            own = self._unusual(record, profile, shared, bare)
        received_ns, received = self._received
        if record.received_ns != received_ns:  # all that came in one request have the same
            received = _received_field(record.received_ns)
            self._received = record.received_ns, received
        return b"%b%b%b%b}" % (own[:-1], profile.fields, received, shared.fields)

    # ---------------------------------------------------------------- a record's own part

    def _usual(self, record: Record, shared: _Shared) -> bytes | None:
        """The short way: `None` unless a record has only what nearly every record has, and all of it fits."""
        uid, trace_id, span_id = record.uid, record.trace_id, record.span_id
        parent_span_id, name, message = record.parent_span_id, record.name, record.message
        timestamp_ns, duration_ns = record.timestamp_ns, record.duration_ns
        attributes, status = record.attributes, record.status
        if (
            record.exception is not None
            or record.events
            or record.links
            or record.loss is not None
            or (message is not None and not message.isascii())
            or len(uid) > TEXT_CHARS_MAX
            or (trace_id is not None and len(trace_id) > TEXT_CHARS_MAX)
            or (span_id is not None and len(span_id) > TEXT_CHARS_MAX)
            or (parent_span_id is not None and len(parent_span_id) > TEXT_CHARS_MAX)
            or (name is not None and len(name) > TEXT_CHARS_MAX)
            or (duration_ns is not None and duration_ns >= NUMBER_MAX)
            or timestamp_ns >= NUMBER_MAX
            or record.received_ns >= NUMBER_MAX
            or not self._guard.plain(attributes)
        ):
            return None
        return _encoder.encode(
            Document(
                timestamp=_iso(timestamp_ns),
                record_uid=uid,
                trace_id=trace_id,
                span_id=span_id,
                parent_span_id=parent_span_id,
                trace_flags=record.trace_flags,
                body=message,
                name=name,
                duration=duration_ns,
                status_message=None if status is None else status.message,
                attributes=attributes,
                record_seq=record.seq,
                record_bucket=_bucket(record),
                record_terms=(attribute_terms(attributes) + shared.terms if attributes else shared.terms)
                or None,
            )
        )

    def _unusual(self, record: Record, profile: _Profile, shared: _Shared, bare: bool) -> bytes:
        attributes = record.attributes
        terms = attribute_terms(attributes) + shared.terms
        overflow: dict[str, str] = {}
        kept_whole = None
        if attributes and (bare or not self._guard.plain(attributes)):
            attributes, overflow, whole = (
                ({}, {}, False) if bare else self._guard.split(attributes, time.monotonic())
            )
            if not whole:
                kept_whole = _encoder.encode(record.attributes).decode()
                terms.append(n.BEYOND_TERM + n.ATTRIBUTES)
        large = _large(record)
        terms += _own_beyond(record)
        terms += profile.beyond
        if profile.large_line is not None:
            large["source.line"] = profile.large_line
        message, exception, status = record.message, record.exception, record.status
        has = ["exception"] if exception is not None and exception == ExceptionInfo() else []
        if profile.source_is_empty:
            has.append("source")
        return _encoder.encode(
            Document(
                timestamp=_iso(min(record.timestamp_ns, NUMBER_MAX)),
                record_uid=record.uid,
                trace_id=record.trace_id,
                span_id=record.span_id,
                parent_span_id=record.parent_span_id,
                trace_flags=record.trace_flags,
                body=message,
                name=record.name,
                duration=None if record.duration_ns is None else min(record.duration_ns, NUMBER_MAX),
                status_message=status.message if status else None,
                exception_type=exception.type if exception else None,
                exception_message=exception.message if exception else None,
                exception_stacktrace=exception.stacktrace if exception else None,
                attributes=attributes,
                events=record.events,
                links=record.links,
                attributes_overflow=overflow or None,
                record_seq=record.seq,
                record_bucket=_bucket(record),
                record_terms=terms or None,
                record_words=_words(message),
                record_exception_words=_words(exception.message) if exception else None,
                record_loss=record.loss,
                record_late=late_text(large["timestamp_ns"]) if "timestamp_ns" in large else None,
                record_large=large or None,
                record_has=has or None,
                record_attributes=kept_whole,
            )
        )

    # ---------------------------------------------------------------- parts that are shared

    def _profile(self, record: Record) -> tuple[_Profile, bool]:
        """The part of a record's kind and line of code, and whether it is plain."""
        source, status = record.source, record.status
        key = (
            record.kind,
            record.level,
            record.severity_number,
            record.service,
            record.logger,
            record.span_kind,
            None if status is None else status.code,
            source,
        )
        known = self._profiles.get(key)
        if known is None:
            profile = _new_profile(record)
            known = profile, profile.is_plain
            if len(self._profiles) >= _PROFILES_MAX:
                self._profiles.clear()
            self._profiles[key] = known
        return known

    def _shared(self, resource: dict[str, Any], bare: bool) -> _Shared:
        of_batch = self._of_batch.get(id(resource))
        if of_batch is not None and of_batch[0] is resource and not bare:
            return of_batch[1]
        body = pack_resource(resource)
        known = None if bare else self._resources.get(body)
        if known is None:
            known = self._new_shared(body, bare)
            if len(self._resources) >= _RESOURCES_MAX:
                self._resources.clear()
            if not bare:
                self._resources[body] = known
        if not bare:
            self._of_batch[id(resource)] = resource, known
        return known

    def _new_shared(self, body: bytes, bare: bool) -> _Shared:
        # Read back, so that what JSON has no word for is mended in the terms too.
        resource = msgspec.json.decode(body)
        fields: dict[str, Any] = {}
        whole = False
        if not bare:
            fields, _, whole = self._guard.split(resource, time.monotonic())
        value = resource.get(SERVICE_INSTANCE_ID)
        instance = None if value is None else str(value)
        terms = [n.RESOURCE_TERM + term[1:] for term in attribute_terms(resource)]
        if not whole:
            terms.append(n.BEYOND_TERM + n.RESOURCE_ATTRIBUTES)
        terms += _beyond((n.INSTANCE, instance))
        document = Document(
            instance=instance,
            resource=msgspec.Raw(_encoder.encode({"attributes": fields})),
            record_resource=None if whole else body.decode(),
        )
        return _Shared(_part(document), terms)


def _new_profile(record: Record) -> _Profile:
    source, status = record.source, record.status
    line = source.line if source else None
    large_line = None if line is None or NUMBER_MIN <= line <= NUMBER_MAX else line
    beyond = _beyond(
        (n.SERVICE_NAME, record.service),
        (n.SCOPE_NAME, record.logger),
        (n.CODE_FILE, source.file if source else None),
        (n.CODE_FUNCTION, source.function if source else None),
        (n.SPAN_KIND, record.span_kind),
        (n.STATUS_CODE, status.code if status else None),
        (n.SEVERITY_TEXT, record.level),
    )
    if line is not None and not NUMBER_MIN < line < NUMBER_MAX:
        beyond.append(n.BEYOND_TERM + n.CODE_LINE)
    document = Document(
        record_kind=record.kind,
        severity_text=record.level,
        severity_number=record.severity_number,
        service_name=record.service,
        scope_name=record.logger,
        span_kind=record.span_kind,
        status_code=status.code if status else None,
        code_file=source.file if source else None,
        code_line=None if line is None else min(max(line, NUMBER_MIN), NUMBER_MAX),
        code_function=source.function if source else None,
        record_error=record.is_error,
    )
    return _Profile(_part(document), beyond, large_line, source is not None and source == Source())


def _part(document: Document) -> bytes:
    """The fields of a part, ready to stand behind others."""
    inner = _encoder.encode(document)[1:-1]
    return b"," + inner if inner else b""


def _received_field(received_ns: int) -> bytes:
    if not received_ns:
        return b""
    return _part(Document(observed_timestamp=_iso(min(received_ns, NUMBER_MAX))))


def _beyond(*fields: tuple[str, str | None]) -> list[str]:
    """A term for each field whose text is too long to be indexed as it is."""
    return [n.BEYOND_TERM + name for name, text in fields if text is not None and len(text) > TEXT_CHARS_MAX]


def _own_beyond(record: Record) -> list[str]:
    """The same for a record's own part, and for its numbers."""
    exception = record.exception
    found = _beyond(
        (n.NAME, record.name),
        (n.EXCEPTION_TYPE, exception.type if exception else None),
        (n.TRACE_ID, record.trace_id),
        (n.SPAN_ID, record.span_id),
        (n.PARENT_SPAN_ID, record.parent_span_id),
        (n.UID, record.uid),
    )
    for name, number in (
        (n.TIMESTAMP, record.timestamp_ns),
        (n.OBSERVED, record.received_ns),
        (n.DURATION, record.duration_ns or 0),
    ):
        if number >= NUMBER_MAX:
            found.append(n.BEYOND_TERM + name)
    return found


def _large(record: Record) -> dict[str, int]:
    """The numbers that have more than 64 bits; their fields hold the nearest."""
    names = ("timestamp_ns", "received_ns", "duration_ns")
    numbers = ((name, getattr(record, name)) for name in names)
    return {name: number for name, number in numbers if number is not None and number > NUMBER_MAX}


def _bucket(record: Record) -> int | None:
    return bucket_of(record.duration_ns or 0) if record.kind == "span" else None


def _words(text: str | None) -> str | None:
    """The tokens of a text that an analyzer may see differently; `None` for plain ASCII."""
    return None if text is None or text.isascii() else " ".join(tokens(text))


def _iso(timestamp_ns: int) -> str:
    second, nanoseconds = divmod(timestamp_ns, _NS_PER_S)
    return f"{_second_text(second)}{str(_NS_PER_S + nanoseconds)[1:]}Z"


@lru_cache(maxsize=4096)
def _second_text(second: int) -> str:
    return format_timestamp(second * _NS_PER_S)[:20]
