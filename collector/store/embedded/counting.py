"""Counts by service, operation and value: taken by number from the index, named afterwards."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

import tantivy

from collector.model import Record
from collector.store.conditions import field_values, text_of
from collector.store.embedded import schema as sc
from collector.store.embedded import terms as t
from collector.store.embedded.reading import Plan
from collector.store.embedded.snapshot import GROUPS_MAX, TooManyGroups
from collector.store.embedded.translate import (
    ID_TERMS,
    both,
    is_profile_field,
    is_resource_field,
    numbered,
    terms_query,
)
from collector.store.summaries import Tally, tally_records

TallyKey = tuple[str, str | None]

_QUERIES_MAX: Final = 100  # groups that get a query each; of more, all profiles are counted apart
_PROFILES_AT_ONCE: Final = 400


def tallies(asked: Iterable[Plan], *, by_operation: bool) -> dict[TallyKey, Tally]:
    """Counts by `(service, span name)`, as `summaries.tally_records` makes them of records.

    Args:
        by_operation: count durations for each operation; else for each service, with its logs, which is
            as good for a list of services and much cheaper.
    """
    found: dict[TallyKey, Tally] = defaultdict(Tally)
    for one in asked:
        if not one.exact:
            for key, tally in tally_records(one.records()).items():
                found[key].add(tally)
            continue
        profiles = one.snapshot.dictionary.profiles
        records = one.snapshot.dictionary.profile_records
        spans: dict[TallyKey, set[int]] = defaultdict(set)
        for number, count in one.snapshot.group_counts(one.query, sc.PROFILE).items():
            profile = profiles[number]
            if profile.kind not in ("log", "span"):
                continue
            if profile.kind == "span":
                tally = found[profile.service, profile.name or ""]
                tally.spans += count
                spans[profile.service, (profile.name or "") if by_operation else None].add(number)
            else:
                tally = found[profile.service, None]
                tally.logs += count
            if records[number].is_error:
                tally.errors += count
        for key, durations in _durations(one, spans):
            found[key].durations.update(durations)
    return found


def _durations(one: Plan, groups: Mapping[TallyKey, set[int]]) -> Iterable[tuple[TallyKey, dict[int, int]]]:
    """For each group of profiles: how many of their spans fell into each duration bucket."""
    if len(groups) > _QUERIES_MAX:
        key_of = {number: key for key, numbers in groups.items() for number in numbers}
        for number, durations in _durations_by_profile(one, sorted(key_of)):
            yield key_of[number], durations
        return
    for key, numbers in groups.items():
        query = both(one.query, numbered(sc.PROFILE, frozenset(numbers), one.snapshot).query)
        yield key, one.snapshot.group_counts(query, sc.BUCKET)


def _durations_by_profile(one: Plan, profiles: list[int]) -> Iterable[tuple[int, dict[int, int]]]:
    """For each of many profiles: how many of its spans fell into each duration bucket."""
    by_bucket = {"buckets": {"terms": {"field": sc.BUCKET, "size": GROUPS_MAX}}}
    waiting = [profiles]
    while waiting:
        numbers = waiting.pop()
        query = both(one.query, numbered(sc.PROFILE, frozenset(numbers), one.snapshot).query)
        try:
            groups = one.snapshot.groups(query, sc.PROFILE, by_bucket)
        except TooManyGroups:
            # A few profiles at a time then; each has some hundred buckets at most.
            few = max(1, min(_PROFILES_AT_ONCE, len(numbers) // 2))
            waiting += [numbers[at : at + few] for at in range(0, len(numbers), few)]
            continue
        for group in groups:
            buckets = group["buckets"]["buckets"]
            yield int(group["key"]), {int(bucket["key"]): bucket["doc_count"] for bucket in buckets}


# ---------------------------------------------------------------- values of a field


def facet_counts(field: str, asked: Iterable[Plan]) -> Counter[str]:
    """How many records have each value of a field."""
    counts: Counter[str] = Counter()
    if not t.sayable(field):
        return counts
    for one in asked:
        if one.exact:
            counts.update(_counts_of_values(field, one))
        else:
            for record in one.records():
                counts.update({text_of(value) for value in field_values(record, field)})
    return counts


def _counts_of_values(field: str, one: Plan) -> Counter[str]:
    dictionary = one.snapshot.dictionary
    if is_profile_field(field):
        return _counts_by_number(field, sc.PROFILE, dictionary.profile_records, one)
    if is_resource_field(field):
        return _counts_by_number(field, sc.RESOURCE, dictionary.resource_records, one)
    if field in ID_TERMS:
        return _counts_by_term(ID_TERMS[field], lambda term: term[1:], one, field)
    key = field.removeprefix("attributes.")
    counts = _counts_by_term(t.key_prefix(key), t.text_of_term, one, field)
    if field.startswith("attributes."):
        return counts
    in_resource = _counts_by_number(f"resource.{field}", sc.RESOURCE, dictionary.resource_records, one)
    for value, count in in_resource.items():
        # A record that has the value in both places counts once.
        counts[value] = _count_of_text(field, value, one) if value in counts else count
    return counts


def _counts_by_number(field: str, column: str, records: Sequence[Record], one: Plan) -> Counter[str]:
    counts: Counter[str] = Counter()
    for number, count in one.snapshot.group_counts(one.query, column).items():
        for text in {text_of(value) for value in field_values(records[number], field)}:
            counts[text] += count
    return counts


def _counts_by_term(
    prefix: str, text_of_term: Callable[[str], str | None], one: Plan, field: str
) -> Counter[str]:
    counts: Counter[str] = Counter()
    shared: set[str] = set()  # texts that several terms stand for, as the number 5 and the text "5" do
    for term, count in one.snapshot.searcher.terms_with_prefix(sc.TERMS, prefix, one.query):
        text = text_of_term(term)
        if text is None or text.startswith(t.HASHED):
            text = _text_behind_hash(term, one, field)
        if text in counts:
            shared.add(text)
        counts[text] += count
    for text in shared:
        counts[text] = _count_of_text(field, text, one)
    return counts


def _count_of_text(field: str, text: str, one: Plan) -> int:
    """How many records have an attribute, or for a bare name also a resource, of this text."""
    snapshot = one.snapshot
    prefix = t.key_prefix(field.removeprefix("attributes."))
    queries = [terms_query([prefix + term for term in t.terms_of_text(text)])]
    if not field.startswith("attributes."):
        numbers = {
            number
            for number, record in enumerate(snapshot.dictionary.resource_records)
            if any(text_of(value) == text for value in field_values(record, f"resource.{field}"))
        }
        queries.append(numbered(sc.RESOURCE, frozenset(numbers), snapshot).query)
    either = tantivy.Query.boolean_query([(tantivy.Occur.Should, query) for query in queries])
    return snapshot.count(both(one.query, either))


def _text_behind_hash(term: str, one: Plan, field: str) -> str:
    """The text that a term has only the hash of, read from a record that has it."""
    query = both(one.query, terms_query([term]))
    (record,) = one.snapshot.records([address for _, address in one.snapshot.top_by(sc.ORDER, 1, query)])
    if field in ID_TERMS:
        return str(getattr(record, field))
    key = field.removeprefix("attributes.")
    for value in field_values(record, f"attributes.{key}"):
        if t.key_prefix(key) + t.value_term(value) == term:
            return text_of(value)
    raise AssertionError(f"{term!r} is not a term of the record it was found by")


__all__ = ["facet_counts", "tallies"]
