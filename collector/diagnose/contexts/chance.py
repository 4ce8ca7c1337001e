"""Whether it is chance that something happened while something else was going on."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable
from typing import Final

# How improbable a coincidence must be, taken over everything that was looked at, to be none.
CHANCE_MAX: Final = 0.001


class Stretches:
    """When something was going on: intervals of epoch nanoseconds, merged where they overlap.

    Args:
        intervals: begin and end of each, both included.
    """

    def __init__(self, intervals: Iterable[tuple[int, int]]) -> None:
        self._begins: list[int] = []
        self._ends: list[int] = []
        for begin, end in sorted(intervals):
            if self._ends and begin <= self._ends[-1]:
                self._ends[-1] = max(self._ends[-1], end)
            else:
                self._begins.append(begin)
                self._ends.append(end)

    def __contains__(self, time_ns: int) -> bool:
        """Whether it was going on at a time."""
        at = bisect_right(self._begins, time_ns) - 1
        return at >= 0 and time_ns <= self._ends[at]

    def share_of(self, begin_ns: int, end_ns: int) -> float:
        """Which share of a stretch of time it was going on; 0..1."""
        if end_ns <= begin_ns:
            return 1.0
        busy_ns = sum(
            max(0, min(end, end_ns) - max(begin, begin_ns))
            for begin, end in zip(self._begins, self._ends, strict=True)
        )
        return min(1.0, busy_ns / (end_ns - begin_ns))


def tail(tries: int, hits: int, share: float) -> float:
    """How probable so many hits or more are by chance, when each try hits with this probability; 0..1.

    Source: the upper tail of the binomial distribution, summed from its largest term outwards.
    """
    if hits <= 0:
        return 1.0
    if share <= 0.0:
        return 0.0
    if share >= 1.0:
        return 1.0
    logs = [
        math.lgamma(tries + 1)
        - math.lgamma(hit + 1)
        - math.lgamma(tries - hit + 1)
        + hit * math.log(share)
        + (tries - hit) * math.log1p(-share)
        for hit in range(hits, tries + 1)
    ]
    largest = max(logs)
    return min(1.0, math.exp(largest) * sum(math.exp(one - largest) for one in logs))
