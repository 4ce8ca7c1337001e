"""A span -> its line. The usual one is joined from pieces; what is unusual goes to `tracing.line.encode`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.trace import Link, SpanKind, StatusCode, format_span_id, format_trace_id

from tracing import fastline
from tracing import semconv as sc
from tracing.fastline import LINE_BYTES_MAX, NS_PER_S
from tracing.line import TIMESTAMP_NS_MAX, encode, format_timestamp, plain
from tracing.sink import slot
from tracing.spans.pipeline import SAMPLED

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

    from tracing.spans.light import Span

_KIND_NAMES: Final = {kind: kind.name for kind in SpanKind}
_KIND_PIECES: Final = {kind: b',"span_kind":"%b"' % name.encode() for kind, name in _KIND_NAMES.items()}
# Where a secret may be: what the program said of the span.
_REDACTED: Final = (sc.NAME, sc.ATTRIBUTES, sc.STATUS, sc.EVENTS, sc.LINKS)
TAILS_MAX: Final = 1024  # names of a tracer whose pieces are kept


class Pieces:
    """What the lines of one instrumentation scope have in common, made before."""

    __slots__ = ("_tails", "finished", "started")

    def __init__(self, scope: str | None) -> None:
        logger = fastline.logger(scope) if scope else b""
        self.finished = b',"kind":"span"%b' % logger
        self.started = b',"kind":"span_start"%b' % logger
        self._tails: dict[tuple[str, int], bytes] = {}

    def tail(self, name: str, kind: SpanKind) -> bytes | None:
        """Name and kind of a span; `None`: the name holds a secret."""
        try:
            return self._tails[name, kind._value_]
        except KeyError:
            return self._make_tail(name, kind)

    def _make_tail(self, name: str, kind: SpanKind) -> bytes | None:
        if slot.redactor is not None and not slot.redactor.looks_innocent(name):
            return None
        if len(self._tails) >= TAILS_MAX:  # names that are made up for each call
            self._tails.clear()
        tail = self._tails[name, kind._value_] = b',"name":%b%b' % (fastline.text(name), _KIND_PIECES[kind])
        return tail


def _joined(
    start_ns: int,
    ids: bytes,
    kind: bytes,
    attributes: dict[str, Any],
    flags: int,
    tail: bytes | None,
    parent: bytes,
    end: bytes,
) -> bytes | None:
    """The line of the usual span; `None`: something in it must be cut or redacted.

    Raises:
        Exception: of any kind, where something in it must be mended by `encode`.
    """
    encoded = fastline.attributes(attributes)
    redactor = slot.redactor
    if tail is None or (redactor is not None and not redactor.attributes_look_innocent(attributes, encoded)):
        return None
    second = start_ns // NS_PER_S
    known_second, text = fastline.known_second
    if second != known_second:
        if not 0 <= start_ns <= TIMESTAMP_NS_MAX:
            return None
        text = fastline.second_text(second)
    line = b'%b%09dZ"%b%b%b%b%b%b%b%b' % (
        text,
        start_ns % NS_PER_S,
        slot.info_head,
        ids,
        kind,
        encoded,
        b"" if flags & SAMPLED else b',"trace_flags":%d' % flags,
        tail,
        parent,
        end,
    )
    return line if len(line) <= LINE_BYTES_MAX else None


# ---------------------------------------------------------------- spans of ours


def finished(span: Span) -> bytes:
    """The line of a span that has ended."""
    if not span.remarkable:
        line = _of_ours(span, span.tracer.pieces.finished, b',"duration_ns":%d}\n' % (span.duration_ns or 0))
        if line is not None:
            return line
    return _encoded(finished_fields(span))


def started(span: Span) -> bytes:
    """The `span_start` line, which is superseded by the span's own."""
    return _of_ours(span, span.tracer.pieces.started, b"}\n") or _encoded(started_fields(span))


def _of_ours(span: Span, kind: bytes, end: bytes) -> bytes | None:
    try:
        return _joined(
            span.start_time,
            span.ids,
            kind,
            span.own_attributes,
            span.flags,
            span.tracer.pieces.tail(span._name, span.kind),
            b"" if span.parent_id is None else b',"parent_span_id":"%b"' % span.parent_id.encode(),
            end,
        )
    except Exception:
        return None


def started_fields(span: Span) -> dict[str, Any]:
    """The `span_start` line, as `tracing.line.encode` takes it."""
    fields = _common_fields(span)
    fields[sc.KIND] = sc.KIND_SPAN_START
    return fields


def finished_fields(span: Span) -> dict[str, Any]:
    """The line of a span that has ended, as `tracing.line.encode` takes it."""
    fields = _common_fields(span)
    fields[sc.DURATION_NS] = span.duration_ns or 0
    _add_outcome(
        fields,
        status_code=span.status.status_code,
        status_message=span.status.description,
        events=span.events,
        links=span.links,
    )
    if span.dropped:
        marks = {f"dropped_{what}_count": number for what, number in span.dropped.items()}
        fields[sc.ATTRIBUTES] = {**(fields[sc.ATTRIBUTES] or {}), **marks}
    return fields


# ---------------------------------------------------------------- spans of the SDK's


def readable(span: ReadableSpan, *, start: bool = False) -> bytes:
    """The line of a span that the SDK recorded; with `start`, its `span_start` line."""
    try:
        line = _of_theirs(span, start=start)
    except Exception:
        line = None  # something that only `encode` can mend
    return line or _encoded(readable_fields(span, start=start))


def _of_theirs(span: ReadableSpan, *, start: bool) -> bytes | None:
    """The joined line; `None`: there is something in it that few spans have."""
    if not start and (span.status.status_code is not StatusCode.UNSET or span.events or span.links):
        return None
    context, parent, scope = span.get_span_context(), span.parent, span.instrumentation_scope
    assert context is not None  # a recorded span has one
    name = scope.name if scope is not None else None
    pieces = _pieces.get(name) or _new_pieces(name)
    start_ns = span.start_time or 0
    return _joined(
        start_ns,
        b',"trace_id":"%032x","span_id":"%016x"' % (context.trace_id, context.span_id),
        pieces.started if start else pieces.finished,
        _attributes_of(span),
        context.trace_flags,
        pieces.tail(span.name, span.kind),
        b"" if parent is None else b',"parent_span_id":"%016x"' % parent.span_id,
        b"}\n" if start else b',"duration_ns":%d}\n' % max(0, (span.end_time or start_ns) - start_ns),
    )


# By the name of an instrumentation scope, of which a program has a few dozen.
_pieces: Final[dict[str | None, Pieces]] = {}


def _new_pieces(scope: str | None) -> Pieces:
    if len(_pieces) >= TAILS_MAX:  # scopes that are made up for each call
        _pieces.clear()
    made = _pieces[scope] = Pieces(scope)
    return made


def _attributes_of(span: ReadableSpan) -> dict[str, Any]:
    """A copy of a span's attributes; through their public view each would cost three calls of Python's."""
    within = getattr(getattr(span, "_attributes", None), "_dict", None)
    return within.copy() if within.__class__ is dict else dict(span.attributes or {})


def readable_fields(span: ReadableSpan, *, start: bool = False) -> dict[str, Any]:
    """`readable` as `tracing.line.encode` takes it."""
    context, scope = span.get_span_context(), span.instrumentation_scope
    assert context is not None  # a recorded span has one
    sampled = context.trace_flags.sampled
    start_ns = span.start_time or 0
    fields: dict[str, Any] = {
        sc.TIMESTAMP: start_ns,
        sc.LEVEL: "INFO",
        sc.SERVICE: slot.service,
        sc.TRACE_ID: format_trace_id(context.trace_id),
        sc.SPAN_ID: format_span_id(context.span_id),
        sc.KIND: sc.KIND_SPAN_START if start else sc.KIND_SPAN,
        sc.LOGGER: scope.name if scope is not None else None,
        sc.ATTRIBUTES: _attributes_of(span) or None,
        sc.TRACE_FLAGS: None if sampled else int(context.trace_flags),
        sc.NAME: span.name,
        sc.SPAN_KIND: _KIND_NAMES[span.kind],
        sc.PARENT_SPAN_ID: format_span_id(span.parent.span_id) if span.parent is not None else None,
    }
    if not start:
        fields[sc.DURATION_NS] = max(0, (span.end_time or start_ns) - start_ns)
        _add_outcome(
            fields,
            status_code=span.status.status_code,
            status_message=span.status.description,
            events=[(event.timestamp, event.name, event.attributes or {}) for event in span.events],
            links=span.links,
        )
    return fields


def described(error: BaseException) -> str:
    """What an exception does to a span's status message, as the SDK words it."""
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:
        return f"{type(error).__name__}: {plain(error)}"


def _common_fields(span: Span) -> dict[str, Any]:
    return {
        sc.TIMESTAMP: span.start_time,
        sc.LEVEL: "INFO",
        sc.SERVICE: slot.service,
        sc.TRACE_ID: span.trace_id,
        sc.SPAN_ID: span.span_id,
        sc.KIND: sc.KIND_SPAN,
        sc.LOGGER: span.tracer.name or None,
        sc.ATTRIBUTES: dict(span.attributes) or None,
        sc.TRACE_FLAGS: None if span.sampled else span.flags,
        sc.NAME: span.name,
        sc.SPAN_KIND: _KIND_NAMES[span.kind],
        sc.PARENT_SPAN_ID: span.parent_id,
    }


def _add_outcome(
    fields: dict[str, Any],
    *,
    status_code: StatusCode,
    status_message: str | None,
    events: Sequence[tuple[int, str, Mapping[str, Any]]],
    links: Sequence[Link],
) -> None:
    """Add what only a span that has ended has; a status nobody set is left out."""
    if status_code is not StatusCode.UNSET:
        fields[sc.STATUS] = {"code": status_code.name}
        if status_message:
            fields[sc.STATUS]["message"] = status_message
        if status_code is StatusCode.ERROR:
            fields[sc.LEVEL] = "ERROR"
    if events:
        fields[sc.EVENTS] = [
            {"timestamp": format_timestamp(timestamp), "name": name, "attributes": dict(attributes)}
            if attributes
            else {"timestamp": format_timestamp(timestamp), "name": name}
            for timestamp, name, attributes in events
        ]
    if links:
        fields[sc.LINKS] = [
            {
                "trace_id": format_trace_id(link.context.trace_id),
                "span_id": format_span_id(link.context.span_id),
                **({"attributes": dict(link.attributes)} if link.attributes else {}),
            }
            for link in links
        ]


def _encoded(fields: dict[str, Any]) -> bytes:
    if slot.redactor is not None:
        present = [key for key in _REDACTED if fields.get(key)]
        fields.update(zip(present, slot.redactor.cleaned([fields[key] for key in present]), strict=True))
    return encode(fields)
