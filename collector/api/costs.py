"""What a search costs before it is asked: a bound on terms, wildcards and days, so that one cannot take all.

The unit is one exact term looked up in one day of records, which takes a tenth of a millisecond to some
milliseconds. It is a bound against mistakes and mischief and no forecast: what is dear within it is stopped
by its time (`collector.deadline`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from collector.api.words import read_structure, read_time
from collector.errors import StoreFailed, TooCostly
from collector.store.conditions import And, Condition, Everything, Not, Or, Wildcard
from collector.store.contract import Store

# A pattern is compared with every distinct value of a field, one that begins with a wildcard even in the
# index of Elasticsearch.
WILDCARD_COST: Final = 20
_DAY_NS: Final = 86_400 * 1_000_000_000
_LOOK_INTERVAL_S: Final = 10.0  # at how many partitions the store has; asking a cluster is not for nothing


class QueryCosts:
    """Refuses what is too dear. Any thread.

    Args:
        store: how many days it holds bounds the days that a search asks of.
        cost_max: of one search.
        clock_ns: now, epoch nanoseconds, for times such as `15m`.
    """

    def __init__(self, store: Store, *, cost_max: int, clock_ns: Callable[[], int] = time.time_ns) -> None:
        self._store = store
        self._cost_max = cost_max
        self._clock_ns = clock_ns
        self._partitions = 1
        self._looked_s = -_LOOK_INTERVAL_S

    def check(self, values: Mapping[str, Any]) -> None:
        """Let a question pass that is not too dear.

        Args:
            values: its parameters; of interest are `q`, `start` and `end`.
        Raises:
            TooCostly: it is; the message says what would not be.
            QueryError: the search or a time cannot be understood.
        """
        text = values.get("q") or ""
        if not text:
            return
        now_ns = self._clock_ns()
        weight = sum(weight_of(step) for step in read_structure(text, now_ns).steps)
        days = self._days(
            read_time(values.get("start"), now_ns), read_time(values.get("end"), now_ns), now_ns
        )
        if weight * days > self._cost_max:
            raise TooCostly(
                f"the search weighs {weight} (a term 1, a wildcard {WILDCARD_COST}) and asks of {days} days:"
                f" {weight * days}, of at most {self._cost_max} (query_cost_max); {self._advice(weight)}"
            )

    def _advice(self, weight: int) -> str:
        days = self._cost_max // weight
        return f"ask of {days} days at most, with `start`" if days else "ask for fewer things at once"

    def _days(self, start_ns: int | None, end_ns: int | None, now_ns: int) -> int:
        """How many days of records are looked at, at most: not more than the store has."""
        held = self._held()
        if start_ns is None:
            return held
        span_ns = (now_ns if end_ns is None else end_ns) - start_ns
        return max(1, min(held, span_ns // _DAY_NS + 2))  # its days need not begin at midnight

    def _held(self) -> int:
        now_s = time.monotonic()
        if now_s - self._looked_s >= _LOOK_INTERVAL_S:
            self._looked_s = now_s
            try:
                self._partitions = max(1, self._store.stats().partitions)
            except StoreFailed:
                pass  # the question will say so itself
        return self._partitions


def weight_of(condition: Condition) -> int:
    """How many terms a condition comes to, a wildcard counting as many."""
    match condition:
        case And(parts) | Or(parts):
            return sum(weight_of(part) for part in parts)
        case Not(part):
            return weight_of(part)
        case Everything():
            return 0
        case Wildcard():
            return WILDCARD_COST
        case _:
            return 1
