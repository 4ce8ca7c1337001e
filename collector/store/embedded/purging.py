"""Taking the bytes of deleted records off the disk, partition by partition."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager

from collector.store.embedded.partition import Partition
from collector.store.embedded.partitions import Partitions
from collector.store.embedded.rewriting import has_deletions
from collector.store.embedded.writing import Writer


def purge(partitions: Partitions, writer: Writer) -> int:
    """Write every partition anew that holds bytes of deleted records; how many were. The writer's thread.

    Raises:
        StoreFailed: the disk is full or failed; what was done stays done.
    """
    writer.commit()
    purged = 0
    for partition in partitions.all:
        if has_deletions(partition.path):
            partition.close_writer()
            partitions.put_in_place(partitions.rewritten(partition), partition)
            purged += 1
    return purged


def purge_beside(
    partitions: Partitions,
    writer: Writer,
    write_lock: AbstractContextManager[bool],
    is_stopping: Callable[[], bool],
) -> int:
    """As `purge`, while others write: all but the newest partition, which is theirs. Any thread.

    One that is written to or deleted from meanwhile stays as it is until the next time.

    Args:
        write_lock: held by whoever writes.
        is_stopping: is asked before each partition whether to give up.
    """
    purged = 0
    for partition in partitions.all[:-1]:
        if is_stopping():
            break
        if not has_deletions(partition.path):
            continue
        with write_lock:
            writer.commit()
            partition.close_writer()
            before = partition.snapshot
        made = partitions.rewritten(partition)
        with write_lock:
            if _is_untouched(partitions, partition) and partition.snapshot is before:
                partitions.put_in_place(made, partition)
                purged += 1
            else:
                shutil.rmtree(made.path, ignore_errors=True)
    return purged


def _is_untouched(partitions: Partitions, partition: Partition) -> bool:
    return partition in partitions.all and not partition.writing
