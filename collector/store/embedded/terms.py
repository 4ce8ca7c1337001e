"""Values <-> the exact terms they are indexed under. Pure; `conditions.matches` is the measure.

All exact lookups share one text field. The first character of a term says whose value it is:

    t s p u      trace id, span id, parent span id, uid; the value follows
    a            attribute: key, NUL, a letter for the type, the value

A number is written as its order (16 hex digits that sort as the numbers do), `i` or `f`, and its
text, so that one term serves equality, ranges and wildcards. This goes around tantivy's JSON fields,
which take text that looks like a date for a date, cannot hold integers beyond 64 bits, and keep a
column for each key. A text longer than `TEXT_CHARS_MAX` is indexed by its hash (tantivy drops terms
above 65 530 bytes).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Mapping
from functools import lru_cache
from hashlib import blake2b
from itertools import product
from typing import Any, Final

from collector.store.conditions import Range

TRACE_ID: Final = "t"
SPAN_ID: Final = "s"
PARENT_SPAN_ID: Final = "p"
UID: Final = "u"
ATTRIBUTE: Final = "a"

TEXT_CHARS_MAX: Final = 250
_EXACT_INTEGER: Final = 2**53  # below it every integer is a float of its own
_ID_CHARS: Final = 32  # a text no longer than this is no HASHED and a hash
LONG: Final = "L"  # type letter of a text that is indexed by its hash
_NUL: Final = "\0"
HASHED: Final = "\2"  # in front of the hash of an id or a key that cannot stand for itself
_ANY: Final = "(?s:.)"
_REGEX_SPECIAL: Final = frozenset("\\.+*?()|[]{}^$#&-~")
_HEX: Final = "0123456789abcdef"
_pack_float: Final = struct.Struct(">d").pack
_unpack_bits: Final = struct.Struct(">Q").unpack


def sayable(text: str) -> bool:
    """Whether a text can be in the index at all; lone surrogates cannot, and no record has any."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def id_term(whose: str, text: str) -> str:
    """The term of an id; `whose` is one of the letters above."""
    if len(text) > _ID_CHARS and (len(text) > TEXT_CHARS_MAX or text.startswith(HASHED)):
        return f"{whose}{HASHED}{_hash(text)}"
    return whose + text


@lru_cache(maxsize=4096)
def key_prefix(key: str) -> str:
    """What every term of an attribute starts with."""
    if len(key) > TEXT_CHARS_MAX or _NUL in key or key.startswith(HASHED):
        key = HASHED + _hash(key)
    return f"{ATTRIBUTE}{key}{_NUL}"


def value_term(value: str | int | float | bool) -> str:
    """The part of an attribute's term behind its key."""
    if isinstance(value, str):
        return f"s{value}" if len(value) <= TEXT_CHARS_MAX else f"{LONG}{_hash(value)}"
    if isinstance(value, bool):
        return "btrue" if value else "bfalse"
    if isinstance(value, int):
        return f"n{number_order(value)}i{value}"
    return f"n{number_order(value)}f{value!r}"


def attribute_terms(attributes: Mapping[str, Any]) -> list[str]:
    """Every term of a record's attributes, lists value by value.

    Raises:
        TypeError: a key or value is of a type that JSON does not give back.
    """
    terms: list[str] = []
    for key, value in attributes.items():
        if type(key) is not str:
            raise TypeError(f"{key!r}: {type(key).__name__}")
        prefix = key_prefix(key)
        kind = type(value)
        if kind is str and len(value) <= TEXT_CHARS_MAX:
            terms.append(f"{prefix}s{value}")
        elif kind is int and 0 < value < _EXACT_INTEGER:  # the usual number, without detours
            terms.append(f"{prefix}n{_pack_float(-value).hex()}i{value}")
        elif kind is str or kind is int or kind is bool or (kind is float and math.isfinite(value)):
            terms.append(prefix + value_term(value))
        elif kind is list:
            terms.extend({prefix + value_term(item) for item in _flat(value)})
        elif value is not None and kind is not dict and kind is not float:
            raise TypeError(f"{key}: {kind.__name__}")
    return terms


def _flat(values: list[Any]) -> Iterator[str | int | float | bool]:
    for value in values:
        kind = type(value)
        if kind is list:
            yield from _flat(value)
        elif kind is str or kind is int or kind is bool or (kind is float and math.isfinite(value)):
            yield value
        elif value is not None and kind is not dict and kind is not float:
            raise TypeError(kind.__name__)


def number_order(value: float) -> str:
    """16 hex digits that sort as numbers do; integers beyond 2**53 share one with their neighbours."""
    try:
        number = float(value) + 0.0  # makes -0.0 a 0.0
    except OverflowError:
        number = math.inf if value > 0 else -math.inf
    # Negative numbers sort backwards by their bits; flipping all of them, or the sign, mends both halves.
    if number < 0:
        return f"{_unpack_bits(_pack_float(number))[0] ^ 0xFFFF_FFFF_FFFF_FFFF:016x}"
    return _pack_float(-number).hex()


def equal_terms(value: str | int | float | bool) -> set[str]:
    """The value parts of every term that `conditions.matches` calls equal to a value."""
    if isinstance(value, bool):
        word = str(value).lower()
        spellings = product(*((letter, letter.upper()) for letter in word))
        return {f"b{word}"} | {f"s{''.join(letters)}" for letters in spellings}
    if isinstance(value, str):
        terms = terms_of_text(value)
        if value.lower() in ("true", "false"):
            terms.add(f"b{value.lower()}")
        return terms
    terms = {value_term(str(value))}
    if math.isfinite(value):
        if value == int(value):
            terms.add(value_term(int(value)))
        try:
            as_float = float(value)
        except OverflowError:
            return terms
        if as_float == value:
            terms.add(value_term(as_float))
            if as_float == 0:
                terms.add(value_term(-0.0))
    return terms


def terms_of_text(text: str) -> set[str]:
    """The value parts of every term whose value a person would write like this."""
    terms = {value_term(text)}
    if text in ("true", "false"):
        terms.add(f"b{text}")
    for number_type in (int, float):
        try:
            number = number_type(text)
        except ValueError:
            continue
        if str(number) == text and math.isfinite(number):
            terms.add(value_term(number))
    return terms


def text_of_term(term: str) -> str | None:
    """What a person calls the value of an attribute's term; `None` when only its hash is in the term."""
    value = term.partition(_NUL)[2]
    if value.startswith(LONG):
        return None
    return value[18:] if value.startswith("n") else value[1:]


def number_of_term(term: str) -> int | float:
    """The number in a number's term."""
    value = term.partition(_NUL)[2]
    return int(value[18:]) if value[17] == "i" else float(value[18:])


def wildcard_regex(pattern: str) -> str:
    """A pattern of `*` and `?` as a regular expression of tantivy's kind, which matches whole terms."""
    parts = {"*": f"{_ANY}*", "?": _ANY}
    return "".join(parts.get(character) or regex_literal(character) for character in pattern)


def regex_literal(text: str) -> str:
    """Text with every special character made an ordinary one."""
    return "".join(f"\\{character}" if character in _REGEX_SPECIAL else character for character in text)


def attribute_wildcard_regex(key: str, pattern: str) -> str:
    """Matches the terms of an attribute whose value fits a pattern, long texts left out."""
    return f"{regex_literal(key_prefix(key))}(s|b|n[0-9a-f]{{16}}[if]){wildcard_regex(pattern)}"


def prefix_regex(prefix: str) -> str:
    """Matches every term that starts with a text."""
    return f"{regex_literal(prefix)}{_ANY}*"


def between_regex(key: str, bounds: Range) -> str | None:
    """Matches an attribute's numbers strictly between two bounds, the bounds' own orders left out.

    Returns:
        `None` when there is no order between them.
    """
    low = -1 if bounds.low is None else int(number_order(bounds.low), 16)
    high = 1 << 64 if bounds.high is None else int(number_order(bounds.high), 16)
    if high - low < 2:
        return None
    alternatives = "|".join(_digits_between(f"{low + 1:016x}", f"{high - 1:016x}"))
    return f"{regex_literal(key_prefix(key))}n({alternatives})[if]{_ANY}*"


def _digits_between(low: str, high: str) -> list[str]:
    """Expressions that together match the hex numbers from low to high, both included, of one width."""
    if not low:
        return [""]
    if low[0] == high[0]:
        return [low[0] + rest for rest in _digits_between(low[1:], high[1:])]
    width = len(low) - 1
    lowest, highest = "0" * width, "f" * width
    first, last = _HEX.index(low[0]), _HEX.index(high[0])
    alternatives = []
    if low[1:] != lowest:
        alternatives += [low[0] + rest for rest in _digits_between(low[1:], highest)]
        first += 1
    if high[1:] != highest:
        alternatives += [high[0] + rest for rest in _digits_between(lowest, high[1:])]
        last -= 1
    if first <= last:
        tail = f"[0-9a-f]{{{width}}}" if width else ""
        alternatives.append(f"[{_HEX[first : last + 1]}]{tail}")
    return alternatives


def _hash(text: str) -> str:
    return blake2b(text.encode("utf-8", "replace"), digest_size=16).hexdigest()


__all__ = [
    "ATTRIBUTE",
    "HASHED",
    "LONG",
    "PARENT_SPAN_ID",
    "SPAN_ID",
    "TEXT_CHARS_MAX",
    "TRACE_ID",
    "UID",
    "attribute_terms",
    "attribute_wildcard_regex",
    "between_regex",
    "equal_terms",
    "id_term",
    "key_prefix",
    "number_of_term",
    "number_order",
    "prefix_regex",
    "regex_literal",
    "sayable",
    "terms_of_text",
    "text_of_term",
    "value_term",
    "wildcard_regex",
]
