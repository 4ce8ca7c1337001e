"""Counts by service, operation, call and value: taken by number from the index, named afterwards."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import tantivy

from collector.model import Record
from collector.store.conditions import Equals, field_values, text_of
from collector.store.contract import Edge
from collector.store.embedded import schema as sc
from collector.store.embedded import terms as t
from collector.store.embedded.reading import Plan, plans
from collector.store.embedded.snapshot import GROUPS_MAX, Snapshot
from collector.store.embedded.translate import (
    EVERY,
    ID_TERMS,
    both,
    is_profile_field,
    is_resource_field,
    numbered,
    terms_query,
)
from collector.store.summaries import Tally, caller_of, edges_from

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
        profiles = one.snapshot.dictionary.profiles
        records = one.snapshot.dictionary.profile_records
        spans: dict[TallyKey, set[int]] = defaultdict(set)
        for number, count in one.snapshot.group_counts(one.query, sc.PROFILE).items():
            profile = profiles[number]
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
    waiting = [profiles]
    while waiting:
        numbers = waiting.pop()
        query = both(one.query, numbered(sc.PROFILE, frozenset(numbers), one.snapshot).query)
        try:
            groups = _nested_groups(one.snapshot, query)
        except ValueError:
            if len(numbers) == 1:
                raise
            # More groups than tantivy counts at once: a few profiles at a time then, of which each
            # has some hundred buckets at most.
            few = min(_PROFILES_AT_ONCE, len(numbers) // 2)
            waiting += [numbers[at : at + few] for at in range(0, len(numbers), few)]
            continue
        yield from groups.items()


def _nested_groups(snapshot: Snapshot, query: tantivy.Query) -> dict[int, dict[int, int]]:
    wanted = {
        "profiles": {
            "terms": {"field": sc.PROFILE, "size": GROUPS_MAX},
            "aggs": {"buckets": {"terms": {"field": sc.BUCKET, "size": GROUPS_MAX}}},
        }
    }
    groups: list[dict[str, Any]] = snapshot.searcher.aggregate(query, wanted)["profiles"]["buckets"]
    return {
        int(group["key"]): {int(bucket["key"]): bucket["doc_count"] for bucket in group["buckets"]["buckets"]}
        for group in groups
    }


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


# ---------------------------------------------------------------- who calls whom


def edges(snapshots: Sequence[Snapshot], start_ns: int | None, end_ns: int | None) -> list[Edge]:
    """Calls between services.

    Of most spans the caller was known when they arrived, and is in their profile. The others are
    joined here with every span there is, by the hash of their identity.
    """
    calls: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])
    orphans: list[tuple[int, str, bool]] = []  # hash of the parent, service, error
    for one in plans(snapshots, Equals("kind", "span"), start_ns, end_ns):
        dictionary = one.snapshot.dictionary
        for number, count in one.snapshot.group_counts(one.query, sc.PROFILE).items():
            profile = dictionary.profiles[number]
            if profile.caller is not None:
                counts = calls[profile.caller, profile.service]
                counts[0] += count
                counts[1] += count * dictionary.profile_records[number].is_error
        for parent, number in _numbers(one.snapshot, one.query, sc.PARENT):
            record = dictionary.profile_records[number]
            orphans.append((parent, record.service, record.is_error))
    owners = _owners(snapshots, {parent for parent, _, _ in orphans})
    for parent, service, error in orphans:
        caller = caller_of(service, owners.get(parent, ()))
        if caller is not None:
            counts = calls[caller, service]
            counts[0] += 1
            counts[1] += error
    return edges_from({pair: (total, errors) for pair, (total, errors) in calls.items()})


def _owners(snapshots: Iterable[Snapshot], spans: set[int]) -> dict[int, set[str]]:
    """The services that recorded a span, by the hash of its identity."""
    owners: dict[int, set[str]] = defaultdict(set)
    if not spans:
        return owners
    for snapshot in snapshots:
        profiles = snapshot.dictionary.profiles
        for span, number in _numbers(snapshot, EVERY, sc.SPAN):
            if span in spans:
                owners[span].add(profiles[number].service)
    return owners


def _numbers(snapshot: Snapshot, query: tantivy.Query, column: str) -> Iterable[tuple[int, int]]:
    """`(value, profile)` of every record of a query that has a value in a column."""
    having = both(query, tantivy.Query.exists_query(column))
    count = snapshot.count(having)
    if not count:
        return []
    addresses = [address for _, address in snapshot.top_by(sc.ORDER, count, having)]
    values = snapshot.column(column, addresses)
    numbers = snapshot.column(sc.PROFILE, addresses)
    return [(value or 0, number or 0) for value, number in zip(values, numbers, strict=True)]


__all__ = ["edges", "facet_counts", "tallies"]
