"""Damaged partitions: set aside under `damaged/`, and built anew where their records are kept once more.

```text
damaged/2026-11-24.0-1/   the partition as it was found, and damage.json, which says what was wrong
```

It goes when all of its records are back. What could not be built anew stays for a person to look at.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from collector.store.embedded.adding import Adder
from collector.store.embedded.files import replace_file
from collector.store.embedded.limits import StoreLimits
from collector.store.embedded.partition import Partition
from collector.store.embedded.records import RECORDS, kept_records

DAMAGED: Final = "damaged"
NOTE: Final = "damage.json"

_log: Final = logging.getLogger(__name__)


class Damage(msgspec.Struct, frozen=True):
    """What `damage.json` says."""

    reason: str
    records: int  # that the partition had at its last commit; 0: not known
    rebuilt_records: int | None = None  # that are back; None: not tried yet
    durable_seq: int | None = None  # of the store when this was set aside; None: not known


def set_aside(store: Path, partition: Path, damage: Damage, *, number: int) -> None:
    """Move a partition out of the way.

    Args:
        number: makes the name of its new place.
    Raises:
        OSError: the disk failed.
    """
    home = store / DAMAGED
    home.mkdir(exist_ok=True)
    place = home / f"{partition.name}-{number}"
    while place.exists():
        place = place.with_name(f"{place.name}x")
    partition.rename(place)
    _log.error(
        "partition %s with %d records is damaged and set aside in %s: %s",
        partition.name,
        damage.records,
        place,
        damage.reason,
    )
    try:
        _write_note(place, damage)
    except OSError as error:
        _log.warning("%s: %s", place / NOTE, error)


def waiting(store: Path) -> list[Path]:
    """The places of partitions that can be built anew, and have not been, oldest first."""
    places = sorted((store / DAMAGED).glob("*/"))
    return [one for one in places if (one / RECORDS).exists() and damage_of(one).rebuilt_records is None]


def damage_of(place: Path) -> Damage:
    """What is known of a damaged partition; little, when its note is damaged, too."""
    try:
        return msgspec.json.decode((place / NOTE).read_bytes(), type=Damage)
    except (OSError, msgspec.DecodeError):
        return Damage(reason="not known", records=0)


class BuiltAnew(NamedTuple):
    """A partition made of what is kept of a damaged one, without what may come a second time."""

    partition: Partition
    adder: Adder
    late: int  # records that were kept after the last commit that is known of: see `add_late`


def built_anew(
    damaged: Path, target: Path, limits: StoreLimits, *, is_stopping: Callable[[], bool]
) -> BuiltAnew | None:
    """Make a partition of the records that are kept of a damaged one; `None`: it was told to stop.

    Raises:
        StoreFailed: the disk is full or failed.
        OSError: likewise, or the records cannot be read.
    """
    shutil.rmtree(target, ignore_errors=True)  # of an attempt that failed
    made = Partition.create(target, keep_records=True, replaces=damaged.name)
    adder = Adder(limits.parents_remembered_max)
    durable_seq = damage_of(damaged).durable_seq
    late = 0
    try:
        made.open_writer(limits.writer_heap_bytes)
        for kept in kept_records(damaged / RECORDS):
            if is_stopping():
                return None
            if kept.damaged_bytes:
                _log.error("%s: %d bytes are damaged, too", damaged / RECORDS, kept.damaged_bytes)
            adder.remember(kept.records)
            for record in kept.records:
                if durable_seq is not None and record.seq > durable_seq:
                    late += 1
                else:
                    adder.add(record, made)
        made.commit()
    finally:
        made.close_writer()
    return BuiltAnew(made, adder, late)


def add_late(
    damaged: Path,
    built: BuiltAnew,
    limits: StoreLimits,
    *,
    replayed_to: int,
    existing: Callable[[Collection[str]], set[str]],
) -> None:
    """Add what a damaged partition kept after the last commit that is known of, unless it comes from the log.

    A crash between keeping and committing leaves such records, and the log brings them again. Where the log
    has passed their numbers, they are stored elsewhere, or it did not have them any more.

    Args:
        replayed_to: the log has been carried over up to this number; nothing is uncommitted.
        existing: says which uids are stored.
    Raises:
        StoreFailed: the disk is full or failed.
        OSError: likewise, or the records cannot be read.
    """
    durable_seq = damage_of(damaged).durable_seq
    if not built.late or durable_seq is None:
        return
    try:
        built.partition.open_writer(limits.writer_heap_bytes)
        for kept in kept_records(damaged / RECORDS):
            late = [record for record in kept.records if durable_seq < record.seq <= replayed_to]
            known = existing([record.uid for record in late]) if late else set()
            for record in late:
                if record.uid not in known:
                    built.adder.add(record, built.partition)
        built.partition.commit()
    finally:
        built.partition.close_writer()


def settle(damaged: Path, rebuilt_records: int) -> None:
    """Note that a partition was built anew; when all of it is back, nothing of the damaged one is kept."""
    damage = damage_of(damaged)
    lost = max(0, damage.records - rebuilt_records)
    log = _log.error if lost else _log.warning
    log("%s: built anew with %d records, %d are lost", damaged, rebuilt_records, lost)
    if damage.records and not lost:
        shutil.rmtree(damaged, ignore_errors=True)
    else:
        _write_note(damaged, msgspec.structs.replace(damage, rebuilt_records=rebuilt_records))


def settle_replaced(store: Path, partitions: Collection[Partition]) -> None:
    """Finish what a crash interrupted: a partition was built anew, and the damaged one is still waiting."""
    for damaged in waiting(store):
        for partition in partitions:
            if partition.replaces == damaged.name:
                settle(damaged, partition.snapshot.documents)


def _write_note(place: Path, damage: Damage) -> None:
    replace_file(place / NOTE, msgspec.json.encode(damage), durable=True)
