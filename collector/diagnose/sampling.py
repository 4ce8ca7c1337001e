"""Which traces of a long or busy stretch of time are read, so that time and memory stay bounded."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from typing import Final, NamedTuple

from collector.store.conditions import Condition
from collector.store.contract import Store, TraceSummary

# Of so many pieces of the stretch each gives as many traces as the others: a fault of a short while is not
# passed over because it was in the beginning.
PIECES: Final = 20


class Sample(NamedTuple):
    """The traces that are to be read."""

    trace_ids: list[str]
    is_whole: bool  # no trace of the time is missing


def sample_traces(
    store: Store, condition: Condition, start_ns: int, end_ns: int, *, traces_max: int, records_max: int
) -> Sample:
    """Choose traces that began in a half-open interval: all of them, or as many from each part of it.

    Args:
        condition: a record of a trace has to fulfil it.
        traces_max, records_max: no more are chosen, except that it is one trace at least.
    """
    newest = store.find_traces(condition, start_ns=start_ns, end_ns=end_ns, limit=traces_max + 1)
    if len(newest) <= traces_max and sum(map(_records, newest)) <= records_max:
        return Sample([item.trace_id for item in newest], is_whole=True)
    pieces = []
    for piece in range(PIECES):
        first_ns = start_ns + piece * (end_ns - start_ns) // PIECES
        after_ns = start_ns + (piece + 1) * (end_ns - start_ns) // PIECES
        limit = max(1, traces_max // PIECES)
        pieces.append(store.find_traces(condition, start_ns=first_ns, end_ns=after_ns, limit=limit))
    turns = zip_longest(*pieces)
    mixed = [item for turn in turns for item in turn if item is not None][:traces_max]
    return Sample([item.trace_id for item in within(mixed, records_max)], is_whole=False)


def within(items: Sequence[TraceSummary], records_max: int) -> list[TraceSummary]:
    """The first of these traces, as many as have no more records than that; one at least."""
    kept: list[TraceSummary] = []
    records = 0
    for item in items:
        records += _records(item)
        if kept and records > records_max:
            break
        kept.append(item)
    return kept


def _records(item: TraceSummary) -> int:
    return item.spans + item.logs
