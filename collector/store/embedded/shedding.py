"""Giving up what is worth least when the disk runs short: logs of a low level, the oldest first.

A partition is thinned as a whole: what is too low is deleted from it, and the rest is written anew, for which
there must be room as long as both are there. Where there is none, only a whole partition can go.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from typing import Final

from collector.errors import StoreFailed
from collector.store.conditions import And, Condition, Equals, Range
from collector.store.embedded.partition import Partition
from collector.store.embedded.partitions import Partitions, name_parts
from collector.store.embedded.purging import purge_beside
from collector.store.embedded.reading import plan
from collector.store.embedded.writing import Writer

# From the newest partition, which grows, nothing is taken before this is worth a partition of its own.
SEAL_RECORDS_MIN: Final = 20_000


def shed_logs(
    partitions: Partitions,
    writer: Writer,
    write_lock: AbstractContextManager[bool],
    severity_max: int,
    is_stopping: Callable[[], bool],
) -> int:
    """Take the logs up to a severity out of the oldest partition that has any; how many went. Any thread.

    Args:
        write_lock: held by whoever writes.
        severity_max: OpenTelemetry's number; what has none stays.
    Raises:
        StoreFailed: the disk is full or failed; what was deleted stays deleted.
    """
    low_logs = And((Equals("kind", "log"), Range("severity_number", low=1, high=severity_max)))
    with write_lock:
        writer.commit()
        oldest = next((one for one in partitions.all if _holds(one, low_logs, partitions)), None)
        if oldest is None:
            return 0
        if oldest is partitions.all[-1]:
            partitions.seal(oldest)
        count = writer.delete(low_logs, among=[oldest])
    purge_beside(partitions, writer, write_lock, is_stopping)
    return count


def drop_oldest_day(partitions: Partitions, writer: Writer, write_lock: AbstractContextManager[bool]) -> int:
    """Remove the partitions of the oldest day, unless it is also the newest; how many records went."""
    with write_lock:
        if not partitions.all:
            return 0
        days = [name_parts(one.name)[0] for one in partitions.all]
        if days[0] == days[-1]:
            return 0
        with suppress(StoreFailed):  # on a full disk; whoever appends hears of it, and appends again
            writer.commit()
        return partitions.drop(lambda one: name_parts(one.name)[0] == days[0])


def _holds(partition: Partition, condition: Condition, partitions: Partitions) -> bool:
    """Whether a partition has enough of what a condition finds to be worth writing it anew."""
    least = SEAL_RECORDS_MIN if partition is partitions.all[-1] else 1
    return plan(partition.snapshot, condition).count() >= least
