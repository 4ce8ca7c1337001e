"""Durations in buckets that can be added up across partitions, and percentiles of them. Pure.

A bucket is 5 % wide and a percentile is given as its middle, so it is within 2.5 % of a duration that
was really there (below 20 µs: within half a microsecond). Every store counts in these buckets, so
they all give the same number. Source: the measured `floor(ln(us + 1) * 20)` of the reference page.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil, exp, floor, log1p
from typing import Final

BUCKETS_PER_E: Final = 20  # e-fold growth in 20 steps: each step is 5.1 %


def bucket_of(duration_ns: int) -> int:
    """The bucket of a duration in nanoseconds, 0 for the shortest; a negative one counts as zero."""
    return floor(log1p(max(0, duration_ns) / 1000) * BUCKETS_PER_E)


def bucket_middle_ns(bucket: int) -> int:
    """The duration in the middle of a bucket, nanoseconds."""
    return round((exp((bucket + 0.5) / BUCKETS_PER_E) - 1) * 1000)


def percentile_ns(counts: Mapping[int, int], fraction: float) -> int | None:
    """The duration that a fraction of the counted ones does not exceed (nearest rank).

    Args:
        counts: how many durations fell into each bucket.
        fraction: 0..1, for instance 0.95.
    Returns:
        Nanoseconds; `None` when nothing was counted.
    """
    total = sum(counts.values())
    if total == 0:
        return None
    rank = max(1, ceil(fraction * total))
    seen = 0
    for bucket in sorted(counts):
        seen += counts[bucket]
        if seen >= rank:
            return bucket_middle_ns(bucket)
    raise AssertionError("the counts add up to their total")
