"""A condition -> a query of one partition that finds what `conditions.matches` says.

Nearly every condition can be said exactly in tantivy's terms. The rest (a wildcard over texts that are
indexed by hash, a message compared as a whole, times beyond the year 2262) becomes a query that finds
at least the right records and is marked as not exact: the reader then asks `matches` of each of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

import msgspec
import tantivy

from collector.store.conditions import (
    NUMBER_FIELDS,
    TEXT_FIELDS,
    WORD_FIELDS,
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
    fields_of,
    text_of,
    tokens,
    within,
)
from collector.store.embedded import schema as sc
from collector.store.embedded import terms as t
from collector.store.embedded.snapshot import Snapshot

ID_TERMS: Final = {
    "trace_id": t.TRACE_ID,
    "span_id": t.SPAN_ID,
    "parent_span_id": t.PARENT_SPAN_ID,
    "uid": t.UID,
}
_WORDS: Final = {"message": sc.MESSAGE, "exception.message": sc.EXCEPTION_MESSAGE}
_COLUMNS: Final = {"timestamp_ns": sc.ORDER, "duration_ns": sc.DURATION}
_INSTANCE: Final = "instance"  # a field of its own name that lives in the resource
_OWN_FIELDS: Final = TEXT_FIELDS | NUMBER_FIELDS | WORD_FIELDS
_PROFILE_FIELDS: Final = _OWN_FIELDS - {*ID_TERMS, *_WORDS, *_COLUMNS, _INSTANCE}

EVERY: Final = tantivy.Query.all_query()  # one object, so that it is known and left out of conjunctions

Leaf = Words | Equals | Wildcard | Range | Exists

_MUST, _MUST_NOT, _SHOULD = tantivy.Occur.Must, tantivy.Occur.MustNot, tantivy.Occur.Should


class Translated(NamedTuple):
    """A query, and whether it finds exactly the records of the condition or possibly more."""

    query: tantivy.Query
    exact: bool


def translate(condition: Condition, snapshot: Snapshot) -> Translated:
    """Say a condition in a partition's own terms."""
    if _only_about(condition, _is_profile_leaf):
        return numbered(sc.PROFILE, snapshot.dictionary.matching_profiles(condition), snapshot)
    if _only_about(condition, _is_resource_leaf):
        return numbered(sc.RESOURCE, snapshot.dictionary.matching_resources(condition), snapshot)
    match condition:
        case And(parts):
            return _all_of([translate(part, snapshot) for part in _gathered(parts, And)])
        case Or(parts):
            return _any_of([translate(part, snapshot) for part in _gathered(parts, Or)])
        case Not(part):
            inner = translate(part, snapshot)
            # Of a query that finds too much the opposite finds too little: so everything is asked.
            return Translated(_none_of(inner.query), True) if inner.exact else Translated(EVERY, False)
        case Everything():
            return Translated(EVERY, True)
        case _:
            return _leaf(condition, snapshot)


def _only_about(condition: Condition, is_leaf: Callable[[Condition], bool]) -> bool:
    match condition:
        case And(parts) | Or(parts):
            return bool(parts) and all(_only_about(part, is_leaf) for part in parts)
        case Not(part):
            return _only_about(part, is_leaf)
        case Everything():
            return False
        case _:
            return is_leaf(condition)


def is_profile_field(field: str) -> bool:
    """Whether a record's profile says the field's value."""
    return field in _PROFILE_FIELDS


def is_resource_field(field: str) -> bool:
    """Whether a record's resource says the field's value."""
    return field == _INSTANCE or field.startswith("resource.")


def _is_profile_leaf(condition: Condition) -> bool:
    (field,) = fields_of(condition)
    if isinstance(condition, Exists):
        return field in _OWN_FIELDS and field != _INSTANCE
    return field in _PROFILE_FIELDS


def _is_resource_leaf(condition: Condition) -> bool:
    (field,) = fields_of(condition)
    return is_resource_field(field)


def _gathered(parts: Iterable[Condition], kind: type[And] | type[Or]) -> list[Condition]:
    """The parts with those about profiles made one, so that one set of numbers answers them all."""
    profiles: list[Condition] = []
    rest: list[Condition] = []
    for part in parts:
        (profiles if _only_about(part, _is_profile_leaf) else rest).append(part)
    return [*([kind(tuple(profiles))] if profiles else []), *rest]


def _leaf(condition: Leaf, snapshot: Snapshot) -> Translated:
    field = condition.field
    if not all(map(t.sayable, _texts_of(condition))):
        return _nothing()
    if field in ID_TERMS:
        return _id_leaf(condition, ID_TERMS[field], snapshot)
    if field in _COLUMNS:
        return _column_leaf(condition, _COLUMNS[field], snapshot)
    if field in _WORDS:
        return _words_leaf(condition, _WORDS[field], snapshot)
    if field.startswith("attributes."):
        return _attribute_leaf(condition, field.removeprefix("attributes."), snapshot)
    # A bare name is asked of the attributes and of the resource.
    renamed = msgspec.structs.replace(condition, field=f"resource.{field}")
    in_resource = snapshot.dictionary.matching_resources(renamed)
    in_attributes = _attribute_leaf(condition, field, snapshot)
    return _any_of([in_attributes, numbered(sc.RESOURCE, in_resource, snapshot)])


def _texts_of(condition: Leaf) -> list[str]:
    match condition:
        case Words(words, field):
            return [field, *words]
        case Equals(field, value):
            return [field, str(value)]
        case Wildcard(field, pattern):
            return [field, pattern]
        case _:
            return [condition.field]


def _id_leaf(condition: Leaf, letter: str, snapshot: Snapshot) -> Translated:
    match condition:
        case Equals(_, value) if not isinstance(value, bool):
            return Translated(terms_query([t.id_term(letter, str(value))]), True)
        case Wildcard(_, pattern):
            regex = t.regex_literal(letter) + t.wildcard_regex(pattern)
            return _regex_leaf(condition, regex, letter + t.HASHED, snapshot)
        case Range():
            return _nothing()
        case _:
            return _at_least(condition, snapshot)


def _column_leaf(condition: Leaf, column: str, snapshot: Snapshot) -> Translated:
    match condition:
        case Equals(_, value):
            wanted = _as_integer(value)
            return _nothing() if wanted is None else _between(column, wanted, wanted)
        case Range(_, low, high, low_included, high_included):
            if _is_nan(low) or _is_nan(high):
                return _at_least(condition, snapshot)
            lowest = None if low is None else _next_integer(low, included=low_included, step=1)
            highest = None if high is None else _next_integer(high, included=high_included, step=-1)
            return _between(column, lowest, highest)
        case _:
            return _at_least(condition, snapshot)


def _words_leaf(condition: Leaf, column: str, snapshot: Snapshot) -> Translated:
    match condition:
        case Words(words, _) if words:
            return Translated(_phrase(column, words), True)
        case Wildcard(_, pattern):
            try:
                regex = t.wildcard_regex(pattern.lower())
                return Translated(tantivy.Query.regex_query(sc.SCHEMA, column, regex), True)
            except ValueError:
                return _at_least(condition, snapshot)
        case Equals(_, value):
            words = tuple(tokens(text_of(value)))
            if not words:
                return _at_least(condition, snapshot)
            # A word that was cut is in the index as it was cut; `matches` sees the whole.
            return Translated(_phrase(column, words), False)
        case Range():
            return _nothing()
        case _:
            return _at_least(condition, snapshot)


def _attribute_leaf(condition: Leaf, key: str, snapshot: Snapshot) -> Translated:
    prefix = t.key_prefix(key)
    match condition:
        case Equals(_, value):
            return Translated(terms_query([prefix + term for term in t.equal_terms(value)]), True)
        case Exists():
            return Translated(_regex(t.prefix_regex(prefix)), True)
        case Wildcard(_, pattern):
            regex = t.attribute_wildcard_regex(key, pattern)
            return _regex_leaf(condition, regex, prefix + t.LONG, snapshot)
        case Range():
            return _attribute_range(condition, key, snapshot)
        case _:
            return Translated(_regex(t.prefix_regex(prefix)), False)


def _attribute_range(bounds: Range, key: str, snapshot: Snapshot) -> Translated:
    if _is_nan(bounds.low) or _is_nan(bounds.high):
        return Translated(_regex(t.prefix_regex(t.key_prefix(key))), False)
    queries = []
    between = t.between_regex(key, bounds)
    if between is not None:
        queries.append(_regex(between))
    # Numbers that share a bound's order are told apart one by one: beyond 2**53 several do.
    at_bounds = []
    for bound in {t.number_order(end) for end in (bounds.low, bounds.high) if end is not None}:
        for term, _ in snapshot.searcher.terms_with_prefix(sc.TERMS, f"{t.key_prefix(key)}n{bound}"):
            if within(t.number_of_term(term), bounds):
                at_bounds.append(term)
    if at_bounds:
        queries.append(terms_query(at_bounds))
    return _any_of([Translated(query, True) for query in queries])


def _regex_leaf(condition: Leaf, regex: str, hashed_prefix: str, snapshot: Snapshot) -> Translated:
    """A wildcard over terms, of which those behind `hashed_prefix` do not say their text."""
    try:
        query = _regex(regex)
    except ValueError:  # too large an automaton
        return _at_least(condition, snapshot)
    if not snapshot.searcher.terms_with_prefix(sc.TERMS, hashed_prefix, limit=1):
        return Translated(query, True)
    hashed = _regex(t.prefix_regex(hashed_prefix))
    return Translated(tantivy.Query.boolean_query([(_SHOULD, query), (_SHOULD, hashed)]), False)


def _at_least(condition: Leaf, snapshot: Snapshot) -> Translated:
    """Every record that has the field at all."""
    return Translated(translate(Exists(condition.field), snapshot).query, False)


# ---------------------------------------------------------------- queries


def _nothing() -> Translated:
    return Translated(tantivy.Query.empty_query(), True)


def terms_query(terms: list[str]) -> tantivy.Query:
    """The records with at least one of these terms."""
    if len(terms) == 1:
        return tantivy.Query.term_query(sc.SCHEMA, sc.TERMS, terms[0], index_option="basic")
    return tantivy.Query.term_set_query(sc.SCHEMA, sc.TERMS, terms)


def _regex(regex: str) -> tantivy.Query:
    return tantivy.Query.regex_query(sc.SCHEMA, sc.TERMS, regex)


def _phrase(column: str, words: tuple[str, ...]) -> tantivy.Query:
    if len(words) == 1:
        return tantivy.Query.term_query(sc.SCHEMA, column, words[0])
    return tantivy.Query.phrase_query(sc.SCHEMA, column, list(words))


def _none_of(query: tantivy.Query) -> tantivy.Query:
    return tantivy.Query.boolean_query([(_MUST, EVERY), (_MUST_NOT, query)])


def both(one: tantivy.Query, other: tantivy.Query) -> tantivy.Query:
    """The records that fulfil both queries."""
    if one is EVERY or other is EVERY:
        return other if one is EVERY else one
    return tantivy.Query.boolean_query([(_MUST, one), (_MUST, other)])


def _all_of(parts: list[Translated]) -> Translated:
    exact = all(part.exact for part in parts)
    queries = [part.query for part in parts if part.query is not EVERY]
    if not queries:
        return Translated(EVERY, exact)
    if len(queries) == 1:
        return Translated(queries[0], exact)
    return Translated(tantivy.Query.boolean_query([(_MUST, query) for query in queries]), exact)


def _any_of(parts: list[Translated]) -> Translated:
    exact = all(part.exact for part in parts)
    if not parts:
        return _nothing()
    if len(parts) == 1:
        return parts[0]
    return Translated(tantivy.Query.boolean_query([(_SHOULD, part.query) for part in parts]), exact)


def numbered(column: str, numbers: frozenset[int], snapshot: Snapshot) -> Translated:
    """The records with one of these numbers; the shorter of two lists is sent."""
    dictionary = snapshot.dictionary
    known = len(dictionary.profiles if column == sc.PROFILE else dictionary.resources)
    if not numbers:
        return _nothing()
    if len(numbers) >= known:
        return Translated(EVERY, True)
    if 2 * len(numbers) <= known:
        return Translated(tantivy.Query.term_set_query(sc.SCHEMA, column, list(numbers)), True)
    others = [number for number in range(known) if number not in numbers]
    return Translated(_none_of(tantivy.Query.term_set_query(sc.SCHEMA, column, others)), True)


def _between(column: str, low: int | None, high: int | None) -> Translated:
    """The records whose number lies between the bounds, both included; columns are clamped to 64 bits."""
    if low is not None and high is not None and low > high:
        return _nothing()
    exact = True
    if low is not None and not sc.I64_MIN < low <= sc.I64_MAX:
        exact = False
    if high is not None and not sc.I64_MIN <= high < sc.I64_MAX:
        exact = False
    query = tantivy.Query.range_query(
        sc.SCHEMA,
        column,
        tantivy.FieldType.Integer,
        sc.I64_MIN if low is None else sc.clamped(low),
        sc.I64_MAX if high is None else sc.clamped(high),
    )
    return Translated(query, exact)


def minutes_query(first: int, last: int) -> tantivy.Query:
    """The records of some minutes, both included."""
    return tantivy.Query.term_set_query(sc.SCHEMA, sc.MINUTE, list(range(first, last + 1)))


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


def _next_integer(bound: int | float, *, included: bool, step: int) -> int | None:
    """The first integer on the inner side of a bound; `None`: the bound is infinite and open."""
    if isinstance(bound, float) and math.isinf(bound):
        if (bound < 0) == (step > 0):
            return None
        return step * (sc.I64_MAX + 2)  # beyond every value there is
    rounded = math.ceil(bound) if step > 0 else math.floor(bound)
    return rounded + step if rounded == bound and not included else rounded


def _is_nan(bound: int | float | None) -> bool:
    return isinstance(bound, float) and math.isnan(bound)
