"""Which lines can be kept as they came: the fast way past the closer look. Pure.

Nearly every line comes from our own library and is right. One typed decoding of the whole batch and a
few comparisons a line say so; where they cannot, `lines.py` looks closer. It is never the other way
round: what is vouched for here, the closer look would have kept unchanged.
"""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, Raw

from collector.admit.limits import TIMESTAMP_NS_MAX, UID_CHARS_MAX
from collector.model import ExceptionInfo, Source, Status
from tracing import semconv as sc
from tracing.errors import InvalidLine
from tracing.line import VALUE_CHARS_MAX, parse_timestamp

_Id32 = Annotated[str, Meta(min_length=32, max_length=32)]
_Id16 = Annotated[str, Meta(min_length=16, max_length=16)]


class _PlainPart(msgspec.Struct, frozen=True, gc=False):
    """An event or a link."""

    name: str | None = None
    timestamp: str | None = None
    trace_id: str | None = None
    span_id: str | None = None
    attributes: Raw = Raw()


class _PlainLine(msgspec.Struct, frozen=True, gc=False):
    """A record line, decoded only as far as it takes to vouch for it."""

    timestamp: str
    level: Literal[tuple(sc.SEVERITY_NUMBERS)]  # type: ignore[valid-type]  # the list is long and kept there
    service: str
    trace_id: _Id32 | None = None
    span_id: _Id16 | None = None
    message: str | None = None
    kind: str | None = None
    logger: str | None = None
    attributes: Raw = Raw()
    exception: ExceptionInfo | None = None
    source: Source | None = None
    trace_flags: int | None = None
    name: str | None = None
    span_kind: str | None = None
    parent_span_id: _Id16 | None = None
    duration_ns: Annotated[int, Meta(ge=0)] | None = None
    status: Status | None = None
    events: list[_PlainPart] | None = None
    links: list[_PlainPart] | None = None
    loss: Raw = Raw()
    close: Raw = Raw()
    resource: Raw = Raw()
    uid: str | None = None


_plain_decoder: Final = msgspec.json.Decoder(_PlainLine)

# What a decoder that passes over attributes does not see, and what would trouble the next one: integers
# beyond 64 bits, exponents of three digits, escaped surrogates. Looked for in a copy whose digits are
# all 0, which is much faster than a pattern; ids are in quotes, so what ends a number tells them apart.
_FOLDED: Final = bytes.maketrans(b"0123456789E", b"0" * 10 + b"e")
_ZEROES: Final = b"0" * 19
_LONG_NUMBER: Final = re.compile(_ZEROES + rb"[0.e]*\s*[,}\]]")
_BIG_INTEGER: Final = re.compile(rb"(?<![0-9.])(?:9[0-9]{18}|[0-9]{20,})[0-9.eE]*\s*[,}\]]")
_BIG_EXPONENT: Final = re.compile(rb"0e000+\s*[,}\]]")
_SURROGATE: Final = re.compile(rb"\\u[dD][89a-fA-F]")

# No text in a line of this length is longer than a text may be.
_PLAIN_LINE_BYTES: Final = VALUE_CHARS_MAX
# An object no longer than this is within every limit but that of depth: `"a":1,` is six bytes.
_PLAIN_OBJECT_BYTES: Final = 1_024
_PLAIN_DEPTH: Final = 4
# A plain start and a plain duration cannot add up to more than fits.
_PLAIN_NS_MAX: Final = TIMESTAMP_NS_MAX // 2
_HEX_DIGITS: Final = "0123456789abcdef"
UID: Final = re.compile(rf"[!-~]{{1,{UID_CHARS_MAX}}}")


def odd_lines(data: bytes, named: bool) -> set[int]:
    """Which lines need a closer look; never too few."""
    pieces = data.split(b"\n")[:-1]
    if not pieces:
        return set()
    # Each line begins with a brace and ends with one; then as many objects as lines means one on each:
    # an object that went on over such a line break would have `}` and `{` side by side, which is no JSON.
    tidy = data[:1] == b"{" and data[-2:] == b"}\n" and data.count(b"}\n{") == len(pieces) - 1
    if tidy and max(map(len, pieces)) <= _PLAIN_LINE_BYTES and not is_suspicious(data):
        try:
            lines = _plain_decoder.decode_lines(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            pass
        else:
            if len(lines) == len(pieces):
                return _not_vouched_for(lines, named)
    return {index for index, line in enumerate(pieces) if not _is_plain_alone(line, named)}


def _is_plain_alone(line: bytes, named: bool) -> bool:
    if line[:1] != b"{" or len(line) > _PLAIN_LINE_BYTES or is_suspicious(line):
        return False
    try:
        return not _not_vouched_for([_plain_decoder.decode(line)], named)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False


def is_suspicious(data: bytes) -> bool:
    """Whether something is in the bytes that attributes may hide; at times also when nothing is."""
    folded = data.translate(_FOLDED, b"+")
    if _ZEROES in folded and _LONG_NUMBER.search(folded) and _BIG_INTEGER.search(data):
        return True
    return bool(_BIG_EXPONENT.search(folded) or _SURROGATE.search(data)) or not _is_utf8(data)


def _is_utf8(data: bytes) -> bool:
    if data.isascii():
        return True
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _not_vouched_for(lines: list[_PlainLine], named: bool) -> set[int]:
    """Which lines are not right at first sight. Neighbours share seconds and traces, so these are cached."""
    odd: set[int] = set()
    second = good_trace_id = ""
    for index, line in enumerate(lines):
        time, trace_id, span_id = line.timestamp, line.trace_id, line.span_id
        if time[:19] != second or not time[20:29].isdecimal() or not _is_our_time(time):
            if not _is_our_time(time) or not _is_plain_time(time):
                odd.add(index)
                continue
            second = time[:19]
        if trace_id != good_trace_id:
            if trace_id is None:
                if span_id is not None:
                    odd.add(index)
                    continue
            elif _is_id(trace_id):
                good_trace_id = trace_id
            else:
                odd.add(index)
                continue
        if (
            (span_id is not None and not _is_id(span_id))
            or (line.attributes and not _is_plain_object(line.attributes))
            or line.loss
            or line.close
            or (line.resource and not _is_plain_object(line.resource))
            or (named and (line.uid is None or not UID.fullmatch(line.uid)))
            or not (_is_plain_log(line) if line.kind is None else _is_plain_span(line))
        ):
            odd.add(index)
    return odd


def _is_our_time(text: str) -> bool:
    """Whether a time has the form that our library writes."""
    return len(text) == 30 and text.isascii() and text[19] == "." and text[29] == "Z"


def _is_plain_time(text: str) -> bool:
    try:
        return parse_timestamp(text) <= _PLAIN_NS_MAX
    except InvalidLine:
        return False


def _is_id(text: str) -> bool:
    # int() would also take signs, underscores and capitals
    return not text.strip(_HEX_DIGITS) and bool(text.strip("0"))


def _is_plain_object(raw: Raw) -> bool:
    """Whether an object is so small that it is within the limits."""
    text = bytes(raw)
    return (
        len(text) <= _PLAIN_OBJECT_BYTES
        and text[:1] == b"{"
        and text.count(b"{") + text.count(b"[") <= _PLAIN_DEPTH
    )


def _is_plain_log(line: _PlainLine) -> bool:
    return line.parent_span_id is None and line.duration_ns is None and not line.events and not line.links


def _is_plain_span(line: _PlainLine) -> bool:
    if line.trace_id is None or line.span_id is None:
        return False
    if line.parent_span_id is not None and not _is_id(line.parent_span_id):
        return False
    if line.kind == sc.KIND_SPAN:
        if line.duration_ns is None or line.duration_ns > _PLAIN_NS_MAX:
            return False
    elif line.kind != sc.KIND_SPAN_START or line.duration_ns is not None:
        return False
    for event in line.events or ():
        time = event.timestamp
        if event.name is None or (time is not None and not (_is_our_time(time) and _is_plain_time(time))):
            return False
        if event.attributes and not _is_plain_object(event.attributes):
            return False
    for link in line.links or ():
        if link.trace_id is None or link.span_id is None:
            return False
        if link.attributes and not _is_plain_object(link.attributes):
            return False
    return True


def written_ns(line: bytes) -> int:
    """When a line was written: a span when it ended, anything else at its time; 0: cannot be known."""
    try:
        plain = _plain_decoder.decode(line)
        return parse_timestamp(plain.timestamp) + (plain.duration_ns or 0)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, InvalidLine):
        return 0
