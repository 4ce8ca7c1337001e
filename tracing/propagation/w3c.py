"""W3C trace context (levels 1 and 2) and W3C baggage."""

from __future__ import annotations

import re
from collections.abc import Callable, ItemsView, Iterator, KeysView, ValuesView
from typing import Final
from urllib.parse import quote, unquote

from opentelemetry.trace.span import TraceState

from tracing.health import count
from tracing.propagation.carriers import Get, Put
from tracing.propagation.formats import Found, Outgoing, Remote

TRACESTATE_MEMBERS_MAX: Final = 32  # section 3.3.1.1
TRACESTATE_CHARS_MAX: Final = 512  # section 3.3.1.5: at least this must be propagated
TRACESTATE_LONG_MEMBER_CHARS: Final = 128  # longer ones are the first to be left out, likewise
TRACEPARENT_CHARS_MAX: Final = 512  # of a version to come, which may append fields
BAGGAGE_CHARS_MAX: Final = 8192  # W3C baggage, section 3.3.2: at least this must be propagated
BAGGAGE_MEMBERS_MAX: Final = 64  # likewise

_TRACEPARENT: Final = re.compile(
    r"(?P<version>[0-9a-f]{2})-(?P<trace_id>[0-9a-f]{32})-(?P<span_id>[0-9a-f]{16})-(?P<flags>[0-9a-f]{2})"
    r"(?P<rest>-.*)?",
)
VERSION_00: Final = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
KNOWN_FLAGS: Final = 0x03  # sampled, and random (level 2); section 3.2.2.5: all others are sent as zero
NO_TRACE_ID: Final = "0" * 32
NO_SPAN_ID: Final = "0" * 16
_LEVEL_1_KEY: Final = re.compile(
    r"[a-z][a-z0-9_\-*/]{0,255}|[a-z0-9][a-z0-9_\-*/]{0,240}@[a-z][a-z0-9_\-*/]{0,13}"
)
# Level 2's grammar, which takes whatever level 1's does.
_MEMBER: Final = re.compile(
    r"(?P<key>[a-z0-9][a-z0-9_\-*/@]{0,255})"
    r"=(?P<value>[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e])"
)
_TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # RFC 9110, section 5.6.2
# baggage-octet, without the percent sign, and without the plus, which OpenTelemetry reads as a space.
_NOT_QUOTED: Final = "!#$&'()*-./:<=>?@[]^_`{|}~"


def parse_traceparent(header: str) -> Remote | None:
    """Read a `traceparent`; `None` if it is malformed or names no span.

    Source: W3C Trace Context level 2, section 3.2: versions after 00 may append fields, ff is forbidden,
    ids of zeroes are invalid, spaces around are removed.
    """
    match = _TRACEPARENT.fullmatch(header.strip(" \t"))
    if match is None:
        return None
    version, trace_id, span_id, flags, rest = match.groups()
    if version == "ff" or (version == "00" and rest) or not trace_id.strip("0") or not span_id.strip("0"):
        return None
    return Remote(trace_id, span_id, int(flags, 16) & KNOWN_FLAGS)


def parse_tracestate(header: str) -> TraceState | None:
    """Read a `tracestate`, several headers joined by commas; `None` if any member is malformed.

    Source: section 3.3.1, with the keys of level 2. More than 32 members, or two of one key, are malformed.
    """
    pairs: dict[str, str] = {}
    for member in header.split(","):
        text = member.strip(" \t")
        if not text:
            continue  # section 3.3.1.1: empty members are allowed
        match = _MEMBER.fullmatch(text)
        if match is None or match["key"] in pairs:
            return None
        pairs[match["key"]] = match["value"]
    if len(pairs) > TRACESTATE_MEMBERS_MAX:
        return None
    if all(map(_LEVEL_1_KEY.fullmatch, pairs)):
        return TraceState(list(pairs.items()))
    return _Level2State(pairs)


class _Level2State(TraceState):
    """Members whose keys OpenTelemetry's class refuses, because it knows level 1 only; they are passed on."""

    def __init__(self, members: dict[str, str]) -> None:
        super().__init__()
        self._members = members

    def __contains__(self, key: object) -> bool:
        return key in self._members

    def __getitem__(self, key: str) -> str:
        return self._members[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)

    def __repr__(self) -> str:
        return f"TraceState({self.to_header()!r})"

    def keys(self) -> KeysView[str]:
        """As of any mapping, like the other two; OpenTelemetry's look into what it checked."""
        return self._members.keys()

    def items(self) -> ItemsView[str, str]:
        """The members, the newest first."""
        return self._members.items()

    def values(self) -> ValuesView[str]:
        """What the vendors say."""
        return self._members.values()

    def to_header(self) -> str:
        """The members as a `tracestate`."""
        return ",".join(f"{key}={value}" for key, value in self._members.items())


class TraceContext:
    """`traceparent` and `tracestate`."""

    fields = frozenset({"traceparent", "tracestate"})

    def read(self, get: Get, names: Callable[[], list[str]], found: Found) -> None:
        """Take the caller's span; a bad `tracestate` costs only itself."""
        header = get("traceparent")
        if header is None or found.span is not None:
            return
        remote = parse_traceparent(header) if len(header) <= TRACEPARENT_CHARS_MAX else None
        if remote is None:
            count("malformed_traceparent")
            return
        members = get("tracestate")
        if members:
            state = parse_tracestate(members)
            if state is None:
                count("malformed_tracestate")
            elif state:
                remote = remote._replace(state=state)
        found.span = remote

    def write(self, outgoing: Outgoing, put: Put) -> None:
        """Name the current span."""
        span = outgoing.span
        if span is None:
            return
        put("traceparent", f"00-{span.trace_id}-{span.span_id}-{span.flags & KNOWN_FLAGS:02x}")
        if span.state and (header := tracestate_header(span.state)):
            put("tracestate", header)


def tracestate_header(state: TraceState) -> str:
    """Write a `tracestate` within the limit; the members that are left out for it are counted.

    Source: section 3.3.1.5: whole members, first those that are long, then from the end.
    """
    header = state.to_header()
    excess = len(header) - TRACESTATE_CHARS_MAX
    if excess <= 0:
        return header
    count("tracestate_over_limit")
    members = header.split(",")
    is_short = [len(member) <= TRACESTATE_LONG_MEMBER_CHARS for member in members]
    for index in sorted(range(len(members)), key=lambda index: (is_short[index], -index)):
        excess -= len(members[index]) + 1
        members[index] = ""
        if excess <= 0:
            break
    return ",".join(filter(None, members))


def parse_baggage(header: str) -> dict[str, str]:
    """Read a `baggage` header; members that are malformed or over the limits are counted and left out.

    Source: W3C Baggage, section 3.3. Properties after a semicolon are not kept.
    """
    if len(header) > BAGGAGE_CHARS_MAX:
        count("baggage_over_limit")
        header = header[:BAGGAGE_CHARS_MAX].rpartition(",")[0]
    found: dict[str, str] = {}
    for member in header.split(","):
        text = member.strip(" \t")
        if not text:
            continue
        key, equals, value = text.partition(";")[0].partition("=")
        key = key.rstrip(" \t")
        if not equals or not _TOKEN.fullmatch(key):
            count("malformed_baggage")
        elif len(found) >= BAGGAGE_MEMBERS_MAX:
            count("baggage_over_limit")
        else:
            value = value.strip(" \t")
            found[unquote(key)] = unquote(value) if "%" in value else value
    return found


def baggage_header(members: dict[str, str]) -> str:
    """Write a `baggage` header within the limits; what is over them is counted."""
    parts: list[str] = []
    length = 0
    for key, value in members.items():
        part = f"{quote(key, safe=_TOKEN_SAFE)}={quote(value, safe=_NOT_QUOTED)}"
        length += len(part) + 1
        if len(parts) >= BAGGAGE_MEMBERS_MAX or length > BAGGAGE_CHARS_MAX:
            count("baggage_over_limit")
            break
        parts.append(part)
    return ",".join(parts)


_TOKEN_SAFE: Final = "!#$&'*+-.^_`|~"


class Baggage:
    """`baggage`."""

    fields = frozenset({"baggage"})

    def read(self, get: Get, names: Callable[[], list[str]], found: Found) -> None:
        """Take the caller's members."""
        header = get("baggage")
        if header:
            found.baggage = {**parse_baggage(header), **found.baggage}

    def write(self, outgoing: Outgoing, put: Put) -> None:
        """Pass on what came in, and what was declared to travel."""
        if outgoing.baggage and (header := baggage_header(outgoing.baggage)):
            put("baggage", header)
