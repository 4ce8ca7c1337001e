"""Who calls whom.

Of most spans the caller was known when they arrived, and is in their profile. Those that came before
their parents are joined with them here, by the hashes of their identities.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import tantivy

from collector.model import Record
from collector.store.conditions import And, Condition, Equals
from collector.store.contract import Edge
from collector.store.embedded import schema as sc
from collector.store.embedded import terms as t
from collector.store.embedded.reading import Plan, plans
from collector.store.embedded.snapshot import Snapshot
from collector.store.embedded.translate import EVERY, both, terms_query
from collector.store.summaries import caller_of, edges_from

# Up to so many parents are looked up by their ids; for more it is cheaper to go through all spans.
_LOOKED_UP_MAX: Final = 10_000


@dataclass(frozen=True, slots=True)
class _Orphan:
    """A span whose parent was not known when it arrived."""

    parent: int  # hash of its identity
    service: str
    error: bool
    plan: Plan
    address: tantivy.DocAddress


class _Calls:
    """Calls and failed calls by caller and callee."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str], tuple[int, int]] = defaultdict(lambda: (0, 0))

    def add(self, caller: str, callee: str, calls: int, errors: int) -> None:
        before = self._counts[caller, callee]
        self._counts[caller, callee] = before[0] + calls, before[1] + errors

    def edges(self) -> list[Edge]:
        return edges_from(self._counts)


def edges(
    snapshots: Sequence[Snapshot], condition: Condition, start_ns: int | None, end_ns: int | None
) -> list[Edge]:
    """Calls between services, by condition and time of the called span; sorted."""
    calls = _Calls()
    orphans: list[_Orphan] = []
    for one in plans(snapshots, And((Equals("kind", "span"), condition)), start_ns, end_ns):
        _count_known(one, calls)
        orphans += _orphans(one)
    owners = _owners(snapshots, orphans)
    for orphan in orphans:
        caller = caller_of(orphan.service, owners.get(orphan.parent, ()))
        if caller is not None:
            calls.add(caller, orphan.service, 1, orphan.error)
    return calls.edges()


def _count_known(one: Plan, calls: _Calls) -> None:
    dictionary = one.snapshot.dictionary
    for number, count in one.counts_by(sc.PROFILE).items():
        profile = dictionary.profiles[number]
        if profile.caller is not None:
            errors = count if dictionary.profile_records[number].is_error else 0
            calls.add(profile.caller, profile.service, count, errors)


def _orphans(one: Plan) -> Iterator[_Orphan]:
    records = one.snapshot.dictionary.profile_records
    for parent, number, address in _having(one.snapshot, one.query, sc.PARENT):
        if one.exact or one.verified([(0, address)]):
            yield _Orphan(parent, records[number].service, records[number].is_error, one, address)


def _owners(snapshots: Iterable[Snapshot], orphans: list[_Orphan]) -> dict[int, set[str]]:
    """The services that recorded the orphans' parents, by the hashes of the parents."""
    owners: dict[int, set[str]] = defaultdict(set)
    if not orphans:
        return owners
    parents = {orphan.parent for orphan in orphans}
    query = EVERY
    if len(orphans) <= _LOOKED_UP_MAX:
        ids = {record.parent_span_id for record in _records(orphans)}
        query = terms_query([t.id_term(t.SPAN_ID, span_id) for span_id in ids if span_id is not None])
    for snapshot in snapshots:
        profiles = snapshot.dictionary.profiles
        for span, number, _ in _having(snapshot, query, sc.SPAN):
            if span in parents:
                owners[span].add(profiles[number].service)
    return owners


def _records(orphans: Iterable[_Orphan]) -> Iterator[Record]:
    for orphan in orphans:
        yield from orphan.plan.snapshot.records([orphan.address])


def _having(
    snapshot: Snapshot, query: tantivy.Query, column: str
) -> Iterable[tuple[int, int, tantivy.DocAddress]]:
    """Value, profile and address of every record of a query that has a value in a column."""
    having = both(query, tantivy.Query.exists_query(column))
    count = snapshot.count(having)
    if not count:
        return []
    addresses = [address for _, address in snapshot.top_by(sc.ORDER, count, having)]
    values = [value or 0 for value in snapshot.column(column, addresses)]
    numbers = [number or 0 for number in snapshot.column(sc.PROFILE, addresses)]
    return zip(values, numbers, addresses, strict=True)


__all__ = ["edges"]
