"""What a field's name and value mean: names people use, units, levels, status codes -> conditions."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Final

from collector.errors import QueryError
from collector.query.times import parse_duration, parse_time
from collector.store.conditions import (
    ENVIRONMENT_FIELDS,
    NUMBER_FIELDS,
    TEXT_FIELDS,
    WORD_FIELDS,
    And,
    Condition,
    Equals,
    Exists,
    Not,
    Or,
    Range,
    Wildcard,
    Words,
    counted,
    tokens,
)
from collector.store.contract import EVERYTHING
from tracing import semconv as sc

# Short names for long ones. An attribute of such a name is meant by `attributes.` in front.
ALIASES: Final = {
    "duration": "duration_ns",
    "time": "timestamp_ns",
    "timestamp": "timestamp_ns",
    "severity": "severity_number",
    "trace": "trace_id",
    "span": "span_id",
    "parent": "parent_span_id",
    "operation": "name",
    "version": f"resource.{sc.SERVICE_VERSION}",
}
# Everything that is called as a field of ours; whatever else is asked about is an attribute.
FIELD_NAMES: Final = frozenset({"environment", "error", *ALIASES, *TEXT_FIELDS, *NUMBER_FIELDS, *WORD_FIELDS})
# `status:500` means the answer of an HTTP call, under today's name and the ones before.
_HTTP_STATUS_FIELDS: Final = (sc.HTTP_RESPONSE_STATUS_CODE, "http.status_code", "attributes.status")
_ID_FIELDS: Final = {"trace_id", "span_id", "parent_span_id"}
_KINDS: Final = (sc.KIND_SPAN, sc.KIND_SPAN_START, sc.KIND_LOSS, "log")
_NUMBER: Final = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")
_DIGITS_MAX: Final = 4_000  # Python reads no longer integers


def quoted(field: str | None, text: str) -> Condition:
    """Text in quotes: words in a row, or exactly this value."""
    if field == "environment":
        return Or(tuple(_exactly(name, text) for name in ENVIRONMENT_FIELDS))
    field = _own_name(field)
    if field in WORD_FIELDS:
        return _words(field, text)
    return _exactly(field, text)


def equal(field: str | None, text: str, *, now_ns: int | None) -> Condition:
    """Text without quotes: a word, a value, a number."""
    if field == "environment":
        return quoted(field, text)
    field = _own_name(field)
    if field in WORD_FIELDS:
        return _words(field, text)
    if field == "error" and text.lower() in ("true", "false"):
        return _is_error() if text.lower() == "true" else And((counted(EVERYTHING), Not(_is_error())))
    if field in NUMBER_FIELDS:
        return Equals(field, _own_number(field, text, now_ns))
    if field == "status" and _as_number(text) is not None:
        return Or(tuple(_valued(name, text) for name in _HTTP_STATUS_FIELDS))
    if field in TEXT_FIELDS:
        return _exactly(field, text)
    return _valued(field, text)


def like(field: str | None, pattern: str) -> Condition:
    """A pattern of `*` and `?`."""
    if field == "environment":
        return Or(tuple(Wildcard(name, pattern) for name in ENVIRONMENT_FIELDS))
    field = _own_name(field)
    if field in _ID_FIELDS:
        pattern = pattern.lower()
    elif field == "level":
        pattern = pattern.upper()
    return Wildcard(field, pattern)


def existing(field: str) -> Condition:
    """`field:*`: the record has it."""
    if field == "environment":
        return Or(tuple(Exists(name) for name in ENVIRONMENT_FIELDS))
    return Exists(_own_name(field))


def compared(
    field: str | None,
    low: str | None,
    high: str | None,
    low_included: bool,
    high_included: bool,
    *,
    now_ns: int | None,
) -> Condition:
    """A range or a comparison; an end of `None` is open."""
    if field is None:
        raise QueryError("a comparison needs a field in front: duration:>250ms, order_id:[10 TO 20]")
    field = _own_name(field)
    if field == "level":
        return _levels(low, high, low_included, high_included)
    if field in WORD_FIELDS or (field in TEXT_FIELDS and field != "status"):
        raise QueryError(
            f"{field} is text and cannot be compared; only numbers, levels, durations and times can"
        )
    ends = [None if end is None else _end(field, end, now_ns) for end in (low, high)]
    names = _HTTP_STATUS_FIELDS if field == "status" else (field,)
    ranges = tuple(Range(name, ends[0], ends[1], low_included, high_included) for name in names)
    return ranges[0] if len(ranges) == 1 else Or(ranges)


def _end(field: str, text: str, now_ns: int | None) -> int | float:
    if field in NUMBER_FIELDS:
        return _own_number(field, text, now_ns)
    number = _as_number(text)
    if number is None:
        raise QueryError(f"{field}: {text!r:.40} is no number; attributes are compared as plain numbers")
    return number


def _own_name(field: str | None) -> str:
    return "message" if field is None else ALIASES.get(field, field)


def _words(field: str, text: str) -> Condition:
    words = tokens(text)
    if not words:
        raise QueryError(f"{text!r:.40} holds no letter or digit to search for")
    return Words(tuple(words), field)


def _exactly(field: str, text: str) -> Condition:
    if field == "level":
        return Equals(field, _level(text))
    if field in _ID_FIELDS:
        return Equals(field, text.lower().replace("-", ""))
    if field == "status":
        return Equals(field, _one_of("status", text.upper(), sc.STATUS_CODES))
    if field == "span_kind":
        return Equals(field, _one_of("span_kind", text.upper(), sc.SPAN_KINDS))
    if field == "kind":
        return Equals(field, _one_of("kind", text.lower(), _KINDS))
    if field in NUMBER_FIELDS:
        return Equals(field, _own_number(field, text, None))
    return Equals(field, text)


def _valued(field: str, text: str) -> Condition:
    """An attribute that is this number, however it is written, or this text."""
    number = _as_number(text)
    if number is None:
        return Equals(field, text)
    if str(number) == text:
        return Equals(field, number)  # finds the text, too
    return Or((Equals(field, text), Equals(field, number)))


def _is_error() -> Condition:
    """What `Record.is_error` says."""
    span = Equals("kind", "span")
    failed = And((span, Equals("status", "ERROR")))
    logged = And((Equals("kind", "log"), Range("severity_number", low=sc.SEVERITY_ERROR)))
    return Or((failed, logged))


def _levels(low: str | None, high: str | None, low_included: bool, high_included: bool) -> Condition:
    """Levels by severity; WARN stands for all of WARN, WARN2, WARN3 and WARN4."""
    lowest = highest = None
    if low is not None:
        first, last = _severities(low)
        lowest = first if low_included else last + 1
    if high is not None:
        first, last = _severities(high)
        highest = last if high_included else first - 1
    return Range("severity_number", lowest, highest)


def _severities(name: str) -> tuple[int, int]:
    level = _level(name)
    first = sc.SEVERITY_NUMBERS[level]
    return first, first if level[-1].isdigit() else first + 3


def _level(text: str) -> str:
    level = sc.normal_level(text)
    if level is None:
        spellings = [*sc.SEVERITY_NUMBERS, *sc.SEVERITY_ALIASES]
        raise _unknown("level", text.upper(), spellings, [*sc.SEVERITY_NUMBERS][::4])
    return level


def _one_of(field: str, text: str, words: Iterable[str]) -> str:
    known = list(words)
    if text not in known:
        raise _unknown(field, text, known, known)
    return text


def _unknown(field: str, text: str, spellings: list[str], shown: list[str]) -> QueryError:
    near = get_close_matches(text, spellings, n=1)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(shown)}"
    return QueryError(f"{field}: no such value as {text!r:.40}; {hint}")


def _own_number(field: str, text: str, now_ns: int | None) -> int | float:
    """A number of one of our own fields, with its unit where the field has one."""
    number = _as_number(text)
    if field == "duration_ns":
        if number is not None:
            raise QueryError(f"duration: {text} of what? Give a unit: {text}ms, {text}s")
        return parse_duration(text)
    if field == "timestamp_ns":
        if now_ns is None and number is None and not text[:4].isdigit():
            raise QueryError(
                f"{text!r:.40}: here only absolute times are known, such as 2026-11-24T05:32:11Z"
            )
        return parse_time(text, now_ns=now_ns or 0)
    if number is None:
        raise QueryError(f"{field}: {text!r:.40} is no number")
    return number


def _as_number(text: str) -> int | float | None:
    if len(text) > _DIGITS_MAX or not _NUMBER.fullmatch(text):
        return None
    try:
        return int(text)
    except ValueError:
        return float(text)
