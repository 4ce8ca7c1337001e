"""Records, errors and durations by the minute, taken from the columns that were filled at admission."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Final

import tantivy

from collector.store.conditions import Equals
from collector.store.contract import MINUTE_NS
from collector.store.embedded import schema as sc
from collector.store.embedded.reading import Plan, order_range
from collector.store.embedded.snapshot import GROUPS_MAX, Snapshot, TooManyGroups
from collector.store.embedded.translate import both, numbered
from collector.store.summaries import Tally
from collector.store.timeline import tally_by_step

# Steps that tantivy is asked for at once: their durations have some hundred buckets each at most, and seldom
# more than a hundred.
_STEPS_AT_ONCE: Final = 500
_BY_BUCKET: Final = {"buckets": {"terms": {"field": sc.BUCKET, "size": GROUPS_MAX}}}


def tallies(asked: Iterable[Plan], steps: range) -> dict[int, Tally]:
    """What is counted in each step, by its beginning; steps without any record are left out."""
    found: dict[int, Tally] = defaultdict(Tally)
    for one in asked:
        if not one.exact:
            for start_ns, tally in tally_by_step(one.records(), steps.step).items():
                found[start_ns].add(tally)
            continue
        for part in _parts(steps):
            _count(one, part, found)
    return found


def _parts(steps: range) -> Iterator[range]:
    for at in range(0, len(steps), _STEPS_AT_ONCE):
        yield steps[at : at + _STEPS_AT_ONCE]


def _count(one: Plan, steps: range, found: dict[int, Tally]) -> None:
    snapshot = one.snapshot
    first, last = sc.clamped(steps[0]), sc.clamped(steps[-1] + steps.step - 1)
    bounds = snapshot.bounds
    if bounds is None or first > bounds[1] or last < bounds[0]:
        return
    query = one.query
    if bounds[0] < first or last < bounds[1]:
        query = both(query, order_range(first, last))
    spans = both(query, _of(snapshot, "kind", "span"))
    logs = both(query, _of(snapshot, "kind", "log"))
    failed = frozenset(
        number
        for number, record in enumerate(snapshot.dictionary.profile_records)
        if record.is_error and record.kind in ("log", "span")
    )
    for start_ns, count in _by_step(snapshot, logs, steps):
        found[start_ns].logs += count
    for start_ns, count in _by_step(
        snapshot, both(query, numbered(sc.PROFILE, failed, snapshot).query), steps
    ):
        found[start_ns].errors += count
    for start_ns, durations in _durations(snapshot, spans, steps):
        found[start_ns].spans += sum(durations.values())
        found[start_ns].durations.update(durations)


def _of(snapshot: Snapshot, field: str, value: str) -> tantivy.Query:
    return numbered(sc.PROFILE, snapshot.dictionary.matching_profiles(Equals(field, value)), snapshot).query


def _by_step(snapshot: Snapshot, query: tantivy.Query, steps: range) -> Iterator[tuple[int, int]]:
    if len(steps) == 1:
        yield steps[0], snapshot.count(query)
        return
    for group in snapshot.steps(query, sc.MINUTE, steps.step // MINUTE_NS):
        yield int(group["key"]) * MINUTE_NS, group["doc_count"]


def _durations(
    snapshot: Snapshot, query: tantivy.Query, steps: range
) -> Iterator[tuple[int, dict[int, int]]]:
    """How many spans fell into each duration bucket, step by step."""
    if len(steps) == 1:
        yield steps[0], snapshot.group_counts(query, sc.BUCKET)
        return
    try:
        groups = snapshot.steps(query, sc.MINUTE, steps.step // MINUTE_NS, _BY_BUCKET)
    except TooManyGroups:
        half = len(steps) // 2
        for part in (steps[:half], steps[half:]):
            window = order_range(sc.clamped(part[0]), sc.clamped(part[-1] + part.step - 1))
            yield from _durations(snapshot, both(query, window), part)
        return
    for group in groups:
        durations = {int(one["key"]): one["doc_count"] for one in group["buckets"]["buckets"]}
        yield int(group["key"]) * MINUTE_NS, durations
