"""The distribution of a length of time, kept as counts: it can be added to, merged and stored."""

from __future__ import annotations

import math
from typing import Final

import msgspec

# A stretch of time whose mean is one observation of how healthy times differ.
BLOCK_NS: Final = 10_000_000_000
# Below this a span's time is the tracer's and the clock's, not the program's.
TIME_FLOOR_NS: Final = 10_000
BLOCKS_MAX: Final = 1_000  # the oldest are folded together: three hours say enough about variation


class Spread(msgspec.Struct):
    """Lengths of time on a logarithmic scale, and how their mean moves between blocks of time."""

    eighths: dict[int, int] = {}  # counts by eighths of an octave: a bucket is 9 % wide
    blocks: dict[int, tuple[int, float]] = {}  # by block: how many, and the sum of log2 of their ns

    def add(self, length_ns: int, at_ns: int) -> None:
        """Count one observation."""
        octaves = math.log2(max(length_ns, TIME_FLOOR_NS))
        bucket = round(8 * octaves)
        self.eighths[bucket] = self.eighths.get(bucket, 0) + 1
        block = at_ns // BLOCK_NS
        count, total = self.blocks.get(block, (0, 0.0))
        self.blocks[block] = (count + 1, total + octaves)
        if not count:
            self._fold()

    def merge(self, other: Spread) -> None:
        """Count what the other counted too."""
        for bucket, count in other.eighths.items():
            self.eighths[bucket] = self.eighths.get(bucket, 0) + count
        for block, (count, total) in other.blocks.items():
            mine = self.blocks.get(block, (0, 0.0))
            self.blocks[block] = (mine[0] + count, mine[1] + total)
        self._fold()

    @property
    def count(self) -> int:
        """Number of observations."""
        return sum(self.eighths.values())

    @property
    def mean(self) -> float:
        """Mean of log2 of nanoseconds; 0 of none."""
        count = sum(count for count, _ in self.blocks.values())
        return sum(total for _, total in self.blocks.values()) / count if count else 0.0

    @property
    def deviation(self) -> float:
        """Standard deviation of single observations, in octaves; 0 of fewer than two."""
        count = self.count
        if count < 2:
            return 0.0
        mean = sum(bucket * n for bucket, n in self.eighths.items()) / count
        square = sum((bucket - mean) ** 2 * n for bucket, n in self.eighths.items()) / (count - 1)
        return math.sqrt(square) / 8

    def quantile_ns(self, share: float) -> int:
        """The length below which this share of the observations lies, within 5 %; 0 of none."""
        wanted = share * self.count
        seen = 0
        for bucket in sorted(self.eighths):
            seen += self.eighths[bucket]
            if seen >= wanted:
                return round(2 ** (bucket / 8))
        return 0

    def _fold(self) -> None:
        """Count the oldest blocks as one where there are too many."""
        excess = len(self.blocks) - BLOCKS_MAX
        if excess <= 0:
            return
        *oldest, kept = sorted(self.blocks)[: excess + 1]
        count, total = self.blocks[kept]
        for block in oldest:
            older = self.blocks.pop(block)
            count, total = count + older[0], total + older[1]
        self.blocks[kept] = (count, total)
