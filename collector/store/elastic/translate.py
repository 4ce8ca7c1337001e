"""A condition -> a query in Elasticsearch's terms that finds what `conditions.matches` says. Pure.

Nearly everything can be said exactly. Where it cannot, for instance a wildcard over texts that are
indexed by their hash only, the translation names the documents it is in doubt of: for all
others `query` decides, and of those in doubt the reader asks `matches` one by one. There are usually none.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

import msgspec

from collector.store.conditions import (
    And,
    Condition,
    Equals,
    Everything,
    Exists,
    Not,
    Or,
    Range,
    Wildcard,
    Words,
    text_of,
    tokens,
)
from collector.store.elastic import names as n
from collector.store.elastic.documents import (
    NUMBER_MAX,
    NUMBER_MIN,
    TEXT_CHARS_MAX,
    document_id,
    timestamp_text,
)
from collector.store.embedded import terms as t

Query = dict[str, Any]
Leaf = Words | Equals | Wildcard | Range | Exists

ALL: Final[Query] = {"match_all": {}}
NONE: Final[Query] = {"match_none": {}}
REGEXP_CHARS_MAX: Final = 1_000  # index.max_regex_length
_EXACT_INTEGER: Final = 2**53  # up to here every integer is a float of its own

TEXT_FIELDS: Final = {
    "level": n.SEVERITY_TEXT,
    "service": n.SERVICE_NAME,
    "trace_id": n.TRACE_ID,
    "span_id": n.SPAN_ID,
    "parent_span_id": n.PARENT_SPAN_ID,
    "logger": n.SCOPE_NAME,
    "name": n.NAME,
    "span_kind": n.SPAN_KIND,
    "kind": n.KIND,
    "instance": n.INSTANCE,
    "uid": n.UID,
    "exception.type": n.EXCEPTION_TYPE,
    "source.file": n.CODE_FILE,
    "source.function": n.CODE_FUNCTION,
    "status": n.STATUS_CODE,
}
NUMBER_FIELDS: Final = {
    "timestamp_ns": n.TIMESTAMP,
    "duration_ns": n.DURATION,
    "severity_number": n.SEVERITY_NUMBER,
    "source.line": n.CODE_LINE,
}
WORD_FIELDS: Final = {
    "message": (n.BODY, n.WORDS),
    "exception.message": (n.EXCEPTION_MESSAGE, n.EXCEPTION_WORDS),
}


class Translated(NamedTuple):
    """A query, and the documents that it does not decide."""

    query: Query
    doubt: Query | None = None

    @property
    def superset(self) -> Query:
        """Finds every document that may match."""
        return self.query if self.doubt is None else any_of([self.query, self.doubt])

    @property
    def certain(self) -> Query:
        """Finds the documents that match beyond doubt."""
        return self.query if self.doubt is None else all_of([self.query, none_of(self.doubt)])


def translate(condition: Condition) -> Translated:
    """Say a condition in Elasticsearch's terms."""
    match condition:
        case Everything():
            return Translated(ALL)
        case And(parts):
            inner = [translate(part) for part in parts]
            doubt = _doubts(inner)
            if doubt is not None:  # what another part rules out need not be looked at
                doubt = all_of([doubt, *[part.superset for part in inner]])
            return Translated(all_of([part.query for part in inner]), doubt)
        case Or(parts):
            inner = [translate(part) for part in parts]
            return Translated(any_of([part.query for part in inner]), _doubts(inner))
        case Not(part):
            one = translate(part)
            return Translated(none_of(one.query), one.doubt)
        case _:
            return _leaf(condition)


def window(start_ns: int | None, end_ns: int | None) -> Condition:
    """A time range as a condition; `start_ns` is included, `end_ns` is not."""
    if start_ns is None and end_ns is None:
        return Everything()
    return Range("timestamp_ns", start_ns, end_ns, high_included=False)


def sayable(value: Any) -> bool:
    """Whether UTF-8 can say a text, or every text in a value; what it cannot is in no document."""
    try:
        msgspec.json.encode(value)
    except UnicodeEncodeError:
        return False
    return True


# ---------------------------------------------------------------- leaves


def _leaf(condition: Leaf) -> Translated:
    if not sayable(msgspec.to_builtins(condition)):
        return Translated(NONE)
    field = condition.field
    if field in TEXT_FIELDS:
        return _text_leaf(condition, TEXT_FIELDS[field])
    if field in NUMBER_FIELDS:
        return _number_leaf(condition, NUMBER_FIELDS[field])
    if field in WORD_FIELDS:
        return _words_leaf(condition, *WORD_FIELDS[field])
    if field.startswith("attributes."):
        return _attribute_leaf(condition, field.removeprefix("attributes."), n.ATTRIBUTE_TERM)
    if field.startswith("resource."):
        return _attribute_leaf(condition, field.removeprefix("resource."), n.RESOURCE_TERM)
    both = [_attribute_leaf(condition, field, whose) for whose in (n.ATTRIBUTE_TERM, n.RESOURCE_TERM)]
    return Translated(any_of([part.query for part in both]), _doubts(both))


def _text_leaf(condition: Leaf, field: str) -> Translated:
    long = _term(n.TERMS, n.BEYOND_TERM + field)
    match condition:
        case Equals(_, bool(value)):
            return Translated({"term": {field: {"value": text_of(value), "case_insensitive": True}}})
        case Equals(_, value) if len(text_of(value)) > TEXT_CHARS_MAX:
            return Translated(NONE, long)
        case Equals(_, value):
            exactly = _term(field, text_of(value))
            if field != n.UID:
                return Translated(exactly)
            # The column decides, the index of ids finds.
            return Translated(all_of([{"ids": {"values": [document_id(text_of(value))]}}, exactly]))
        case Wildcard(_, pattern):
            return Translated(_wildcard(field, pattern), long)
        case Exists():
            return Translated(any_of([_exists(field), long]))
        case Range():
            return Translated(NONE)
        case _:
            return _ask_each(any_of([_exists(field), long]))


def _number_leaf(condition: Leaf, field: str) -> Translated:
    match condition:
        case Equals(_, value):
            wanted = _as_integer(value)
            return Translated(NONE) if wanted is None else _integers(field, wanted, wanted)
        case Range(_, low, high, low_included, high_included) if not (_is_nan(low) or _is_nan(high)):
            lowest = None if low is None else _next_integer(low, included=low_included, step=1)
            highest = None if high is None else _next_integer(high, included=high_included, step=-1)
            if lowest == math.inf or highest == -math.inf:
                return Translated(NONE)
            return _integers(field, _finite(lowest), _finite(highest))
        case Exists():
            return Translated(_exists(field))
        case _:
            return _ask_each(_exists(field))


def _words_leaf(condition: Leaf, field: str, words_field: str) -> Translated:
    # A text that is not all ASCII has its words in a field of their own, and only there they are right.
    def either(make: Any) -> Query:
        ascii_only = all_of([make(field), none_of(_exists(words_field))])
        return any_of([ascii_only, make(words_field)])

    match condition:
        case Words(words, _) if words:
            return Translated(either(lambda where: _phrase(where, words)))
        case Wildcard(_, pattern):
            return Translated(either(lambda where: _wildcard(where, pattern.lower())))
        case Words() | Exists():
            return Translated(_exists(field))
        case Equals(_, value):
            found = tuple(tokens(text_of(value)))
            return _ask_each(either(lambda where: _phrase(where, found)) if found else _exists(field))
        case Range():
            return Translated(NONE)


def _attribute_leaf(condition: Leaf, key: str, whose: str) -> Translated:
    prefix = whose + t.key_prefix(key)[1:]
    every = _prefix(prefix)
    match condition:
        case Equals(_, value):
            return Translated({"terms": {n.TERMS: sorted(prefix + term for term in t.equal_terms(value))}})
        case Exists():
            return Translated(every)
        case Wildcard(_, pattern):
            regex = f"{t.regex_literal(prefix)}(s|b|n[0-9a-f]{{16}}[if]){_wildcard_regex(pattern)}"
            if len(regex) > REGEXP_CHARS_MAX:
                return _ask_each(every)
            # The texts that only their hash stands for are in doubt.
            return Translated(
                {"regexp": {n.TERMS: {"value": regex, "flags": "NONE"}}}, _prefix(prefix + t.LONG)
            )
        case Range() if not (_is_nan(condition.low) or _is_nan(condition.high)):
            return _attribute_range(condition, prefix)
        case _:
            return _ask_each(every)


def _attribute_range(bounds: Range, prefix: str) -> Translated:
    """Numbers sort as their terms do; those beyond 2**53 that share a bound's order are in doubt."""
    limits = {"gte": f"{prefix}n", "lt": f"{prefix}o"}
    doubts = []
    for bound, included, key, after in (
        (bounds.low, bounds.low_included, "gte", False),
        (bounds.high, bounds.high_included, "lt", True),
    ):
        if bound is None:
            continue
        order = f"{prefix}n{t.number_order(bound)}"
        # The next character is `i` or `f`: "~" is behind both, nothing is in front of both.
        limits[key] = f"{order}~" if included == after else order
        if abs(bound) >= _EXACT_INTEGER:
            doubts.append(_prefix(order))
    return Translated({"range": {n.TERMS: limits}}, any_of(doubts) if doubts else None)


def _ask_each(query: Query) -> Translated:
    """All of these, and only these, may match; each has to be looked at."""
    return Translated(NONE, query)


# ---------------------------------------------------------------- queries


def all_of(queries: Iterable[Query]) -> Query:
    """What every query finds."""
    parts = [query for query in queries if query != ALL]
    if NONE in parts:
        return NONE
    return parts[0] if len(parts) == 1 else {"bool": {"filter": parts}} if parts else ALL


def any_of(queries: Iterable[Query]) -> Query:
    """What at least one query finds."""
    parts = [query for query in queries if query != NONE]
    if ALL in parts:
        return ALL
    return parts[0] if len(parts) == 1 else {"bool": {"should": parts}} if parts else NONE


def none_of(query: Query) -> Query:
    """What a query does not find."""
    if query == NONE:
        return ALL
    return NONE if query == ALL else {"bool": {"must_not": [query]}}


def _doubts(parts: list[Translated]) -> Query | None:
    doubts = [part.doubt for part in parts if part.doubt is not None]
    return any_of(doubts) if doubts else None


def _term(field: str, value: str) -> Query:
    return {"term": {field: {"value": value}}}


def _exists(field: str) -> Query:
    return {"exists": {"field": field}}


def _prefix(prefix: str) -> Query:
    return {"prefix": {n.TERMS: {"value": prefix}}}


def _wildcard(field: str, pattern: str) -> Query:
    return {"wildcard": {field: {"value": pattern.replace("\\", "\\\\")}}}


def _wildcard_regex(pattern: str) -> str:
    parts = {"*": ".*", "?": "."}
    return "".join(parts.get(character) or t.regex_literal(character) for character in pattern)


def _phrase(field: str, words: tuple[str, ...]) -> Query:
    """Words one behind the other, as they stand: nothing analyses them again."""
    if len(words) == 1:
        return _term(field, words[0])
    clauses = [{"span_term": {field: word}} for word in words]
    return {"span_near": {"clauses": clauses, "slop": 0, "in_order": True}}


def _integers(field: str, low: int | None, high: int | None) -> Translated:
    """Documents whose number lies between the bounds, both included.

    A field has 64 bits and holds the nearest of a number beyond them: what a bound out there says of such
    documents is in doubt.
    """
    bounds: dict[str, int | str] = {}
    doubt = False
    for key, bound in (("gte", low), ("lte", high)):
        if bound is None:
            continue
        doubt = doubt or not NUMBER_MIN < bound < NUMBER_MAX
        clamped = min(max(bound, NUMBER_MIN), NUMBER_MAX)
        if field == n.TIMESTAMP:
            doubt = doubt or clamped < 0
            bounds[key] = timestamp_text(clamped)
        else:
            bounds[key] = clamped
    if low is not None and high is not None and low > high:
        return Translated(NONE)
    if field == n.TIMESTAMP and high is not None and high < 0:
        return Translated(NONE)
    query: Query = {"range": {field: bounds}} if bounds else _exists(field)
    return Translated(query, _term(n.TERMS, n.BEYOND_TERM + field) if doubt else None)


def _as_integer(value: str | int | float | bool) -> int | None:
    """The integer that `conditions.matches` calls equal to a value, if there is one."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        try:
            number = int(value)
        except ValueError:
            return None
        return number if str(number) == value else None
    return int(value) if math.isfinite(value) and value == int(value) else None


def _next_integer(bound: float, *, included: bool, step: int) -> float:
    """The first integer on the inner side of a bound; infinities stay what they are."""
    if isinstance(bound, float) and math.isinf(bound):
        return bound
    rounded = math.ceil(bound) if step > 0 else math.floor(bound)
    return rounded + step if rounded == bound and not included else rounded


def _finite(bound: float | None) -> int | None:
    return bound if isinstance(bound, int) else None


def _is_nan(bound: float | None) -> bool:
    return isinstance(bound, float) and math.isnan(bound)
