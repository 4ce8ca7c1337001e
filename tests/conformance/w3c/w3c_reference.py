"""What the specification says of a header, written down character by character, without a look at our code.

Sections are those of W3C Trace Context, level 2.
"""

from __future__ import annotations

from typing import NamedTuple

HEX = "0123456789abcdef"
KEY_FIRST = "abcdefghijklmnopqrstuvwxyz0123456789"
KEY = KEY_FIRST + "_-*/@"
LIMIT_CHARS = 512
LONG_CHARS = 128
MEMBERS_MAX = 32


class Parent(NamedTuple):
    """The fields of a `traceparent` that are used."""

    trace_id: str
    parent_id: str
    flags: int


def parent_of(header: str) -> Parent | None:
    """3.2.2 for version 00, 3.2.4 for those to come; `None`: the trace is restarted."""
    while header[:1] in (" ", "\t") and header:
        header = header[1:]
    while header[-1:] in (" ", "\t") and header:
        header = header[:-1]
    if len(header) < 55 or len(header) > LIMIT_CHARS:
        return None
    if any(header[place] != "-" for place in (2, 35, 52)):
        return None
    version, trace_id, parent_id, flags = header[:2], header[3:35], header[36:52], header[53:55]
    if any(char not in HEX for char in version + trace_id + parent_id + flags):
        return None
    if version == "ff" or set(trace_id) == {"0"} or set(parent_id) == {"0"}:
        return None
    if len(header) > 55 and (version == "00" or header[55] != "-"):
        return None
    return Parent(trace_id, parent_id, int(flags, 16) & 0b11)


def members_of(headers: list[str]) -> list[tuple[str, str]] | None:
    """3.3.1: the members of all headers in their order; `None`: one of them cannot be parsed."""
    found: list[tuple[str, str]] = []
    for text in ",".join(headers).split(","):
        member = text.strip(" \t")
        if not member:
            continue
        if member.count("=") != 1:
            return None
        key, value = member.split("=")
        if not key or key[0] not in KEY_FIRST or any(char not in KEY for char in key) or len(key) > 256:
            return None
        if not value or len(value) > 256 or any(not " " <= char <= "~" for char in value):
            return None
        if key in dict(found):
            return None
        found.append((key, value))
    return found if len(found) <= MEMBERS_MAX else None


def sent_of(members: list[tuple[str, str]]) -> str:
    """3.3.1.5: what goes out of a state, with whole members left out while it is too long."""
    kept = [f"{key}={value}" for key, value in members]

    def length() -> int:
        return len(",".join(kept))

    while length() > LIMIT_CHARS and any(len(member) > LONG_CHARS for member in kept):
        last = max(index for index, member in enumerate(kept) if len(member) > LONG_CHARS)
        del kept[last]
    while length() > LIMIT_CHARS:
        kept.pop()
    return ",".join(kept)
