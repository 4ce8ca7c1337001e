"""The partitions of a store: which one a record belongs to, opening, rolling, setting aside, dropping.

```text
lock                 held with flock by the writer
state.json           see `state.py`
partitions/
  2026-11-24.0/      what arrived on that day (UTC); .1 when .0 was full; .0~1 is .0 written anew
damaged/…            set aside: not what was written; see `aside.py`
```
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from pathlib import Path
from threading import RLock
from typing import Final

from collector.errors import Damaged, DataDirectoryInUse, StoreFailed
from collector.store.embedded.aside import Damage, set_aside, settle, settle_replaced
from collector.store.embedded.backup import copy_partition
from collector.store.embedded.damage import damaged_files
from collector.store.embedded.files import sync_directory
from collector.store.embedded.limits import StoreLimits
from collector.store.embedded.partition import INDEX, Partition
from collector.store.embedded.rewriting import rewritten
from collector.store.embedded.state import State, read_state, write_state

PARTITIONS: Final = "partitions"
DAY_NS: Final = 86_400_000_000_000

_log: Final = logging.getLogger(__name__)


class Partitions:
    """All partitions of a directory. Readers take `all`; everything else belongs to the writer."""

    def __init__(self, directory: Path, limits: StoreLimits, *, read_only: bool) -> None:
        """Open what is there; what is damaged is set aside and never stops the start.

        Raises:
            DataDirectoryInUse: another process writes to it.
            CollectorError: it was written by a newer version.
            OSError: the directory cannot be made or read.
        """
        self.directory = directory
        self.limits = limits
        self.read_only = read_only
        self.all: tuple[Partition, ...] = ()  # by name, that is by day; replaced, never changed
        self.lost_uncommitted = False  # a partition has gone with what the writer had not committed
        self._home = directory / PARTITIONS
        self._lock = RLock()
        self._lock_file: int | None = None
        if not read_only:
            self._home.mkdir(parents=True, exist_ok=True)
            self._lock_file = _locked(directory / "lock")
            for leftover in self._home.glob(".*"):
                shutil.rmtree(leftover, ignore_errors=True)
        self.state: State = read_state(directory)
        self._unreadable: set[str] = set()  # a reader passes these over, and leaves them where they are
        try:
            self._open_all()
        except BaseException:
            self.close()  # the lock above all
            raise

    def _open_all(self) -> None:
        to_verify = self.limits.verify_at_open_bytes_max
        opened = []
        for path in sorted(self._paths(), key=partition_key, reverse=True):
            partition = self._open(path)
            if partition is None:
                continue
            size = partition.bytes()
            if size <= to_verify:
                to_verify -= size
                if damage := damaged_files(path / INDEX):
                    partition.close_writer()
                    self._set_aside(path, damage[0])
                    continue
            opened.append(partition)
        self.all = _without_replaced(reversed(opened))
        if not self.read_only:
            for partition in opened:
                if partition not in self.all:  # a crash came before the removal of the old one
                    self._remove(partition.path)
            settle_replaced(self.directory, self.all)

    def _paths(self) -> list[Path]:
        try:
            return [path for path in self._home.iterdir() if not path.name.startswith(".")]
        except FileNotFoundError:
            return []

    def _open(self, path: Path) -> Partition | None:
        try:
            known = self.state.partitions.get(path.name)
            partition = Partition(path, read_only=self.read_only, known=known)
            found = partition.snapshot.documents
            if known is not None and found < known.documents and not self.read_only:
                raise Damaged(f"{path}: {found} records of {known.documents}")
        except (Damaged, OSError) as error:
            self._set_aside(path, str(error))
            return None
        return partition

    # ------------------------------------------------------------ damage

    def _set_aside(self, path: Path, reason: str) -> None:
        if self.read_only:
            self._unreadable.add(path.name)
            _log.warning("partition %s is damaged and left out: %s", path.name, reason)
            return
        known = self.state.partitions.pop(path.name, None)
        records = 0 if known is None else known.documents
        self.state.damaged_partitions += 1
        self.state.damaged_records += records
        damage = Damage(reason=reason, records=records, durable_seq=self.state.durable_seq)
        set_aside(self.directory, path, damage, number=self.state.damaged_partitions)
        write_state(self.directory, self.state)

    def set_damaged_aside(self, is_stopping: Callable[[], bool] = lambda: False) -> int:
        """Read every file of every partition; set aside what is not as it was written; how many were."""
        to_read = takewhile(lambda _: not is_stopping(), self.all)
        found = [(one, damage) for one in to_read if (damage := damaged_files(one.path / INDEX))]
        with self._lock:
            for partition, damage in found:
                if partition in self.all:
                    self._forget(partition)
                    self._set_aside(partition.path, damage[0])
        return len(found)

    def adopt(self, made: Partition, damaged: Path) -> int:
        """Take in a partition that was built anew in place of a damaged one; how many records are back.

        Nothing may be uncommitted: the highest `seq` of a day stands for all below it, and the newest
        partition of the day is another one from now on.

        Raises:
            OSError, Damaged: the disk failed.
        """
        day, _ = partition_key(damaged)
        with self._lock:
            target = self._home / f"{day}.{self._next_number(day)}"
            made.path.rename(target)
            sync_directory(self._home)
            partition = Partition(target, read_only=False)
            self._add(partition)
            self.state.rebuilt_partitions += 1
            self.state.rebuilt_records += partition.snapshot.documents
            self.save_state(durable=True)
        settle(damaged, partition.snapshot.documents)
        return partition.snapshot.documents

    def unfinished(self, name: str) -> Path:
        """Where a partition may grow unseen; what a crash leaves there goes at the next start."""
        return self._home / f".unfinished-{name}"

    def _next_number(self, day: str) -> int:
        of_day = self.of_day(day)
        return partition_key(of_day[-1].path)[1] + 1 if of_day else 0

    def _add(self, partition: Partition) -> None:
        with self._lock:
            self.all = tuple(sorted((*self.all, partition), key=lambda one: partition_key(one.path)))

    def _forget(self, partition: Partition) -> None:
        self.lost_uncommitted |= partition.dirty
        self.all = tuple(one for one in self.all if one is not partition)
        partition.close_writer()

    @property
    def unreadable(self) -> int:
        """Partitions that a reader had to leave out."""
        return len(self._unreadable)

    # ------------------------------------------------------------ reading beside a writer

    def refresh(self) -> None:
        """See what another process has written; cheap when it has not written."""
        with self._lock:
            known = {partition.name: partition for partition in self.all}
            present = []
            for path in sorted(self._paths(), key=partition_key):
                if path.name in self._unreadable:
                    continue
                partition = known.get(path.name)
                try:
                    if partition is None:
                        partition = Partition(path, read_only=True)
                    else:
                        partition.refresh()
                except FileNotFoundError:
                    continue  # dropped at this moment
                except (Damaged, OSError) as error:
                    self._set_aside(path, str(error))
                    continue
                present.append(partition)
            self.all = _without_replaced(present)
            self.state = read_state(self.directory)

    # ------------------------------------------------------------ writing

    def for_arrival(self, received_ns: int) -> Partition:
        """The partition, open for writing, of records that arrive at a time; made if need be.

        Raises:
            StoreFailed: the disk is full or failed.
        """
        day = day_of(received_ns)
        of_day = self.of_day(day)
        newest = of_day[-1] if of_day else None
        if newest is None or self.room(newest) <= 0:
            newest = self._begin(day, newest)
        self.open_for_writing(newest)
        return newest

    def seal(self, newest: Partition) -> None:
        """Have what comes from now on begin another partition of the same day.

        Raises:
            StoreFailed: the disk is full or failed.
        """
        self._begin(partition_key(newest.path)[0], newest)

    def _begin(self, day: str, before: Partition | None) -> Partition:
        if before is not None:
            before.commit()  # so that the highest seq of a day stands for all below it
            before.close_writer()
        path = self._home / f"{day}.{self._next_number(day)}"
        try:
            made = Partition.create(path, keep_records=self.limits.keep_records)
        except (OSError, ValueError, Damaged) as error:
            raise StoreFailed(f"{self._home}: no new partition: {error}") from error
        self._add(made)
        return made

    def open_for_writing(self, partition: Partition) -> None:
        """Open a writer; when too many are open, the one of the oldest partition is closed.

        Raises:
            StoreFailed: the disk is full or failed.
        """
        if not partition.writing:
            others = [one for one in self.all if one.writing and one is not partition]
            for oldest in others[: max(0, len(others) + 1 - self.limits.writers_max)]:
                oldest.commit()
                oldest.close_writer()
            partition.open_writer(self.limits.writer_heap_bytes)

    def of_day(self, day: str) -> list[Partition]:
        """The partitions of a day, oldest first."""
        return [partition for partition in self.all if partition_key(partition.path)[0] == day]

    def room(self, partition: Partition) -> int:
        """How many records are sure to fit into a partition; at 0 or below its day needs another one."""
        return min(
            self.limits.partition_records_max - partition.appended,
            self.limits.partition_profiles_max - len(partition.dictionary.profiles),
            self.limits.partition_resources_max - len(partition.dictionary.resources),
        )

    def save_state(self, *, durable: bool = False) -> None:
        """Write down what is durable now.

        Raises:
            OSError: the disk is full or failed.
        """
        self.state.partitions = {one.name: one.snapshot.figures() for one in self.all}
        write_state(self.directory, self.state, durable=durable)

    def shrink_to(self, bytes_max: int) -> int:
        """Remove the oldest partitions until the rest takes no more; how many records went.

        The newest partition stays, whatever its size.
        """
        left = sum(one.bytes() for one in self.all)
        leaving = set()
        for partition in self.all[:-1]:
            if left <= bytes_max:
                break
            left -= partition.bytes()
            leaving.add(partition.name)
        return self.drop(lambda one: one.name in leaving)

    def drop(self, leaves: Callable[[Partition], bool]) -> int:
        """Remove whole partitions and give their space back; how many records went."""
        dropped = 0
        with self._lock:
            for partition in self.all:
                if leaves(partition):
                    dropped += partition.snapshot.documents
                    self._forget(partition)
                    self._remove(partition.path)
            if dropped:
                sync_directory(self._home)
                self.save_state()
        return dropped

    def _remove(self, path: Path) -> None:
        # First renamed, so that half a partition is never taken for one.
        gone = path.with_name(f".dropped-{path.name}")
        path.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)

    def rewritten(self, partition: Partition) -> Partition:
        """A partition without the bytes of what was deleted from it, not yet in its place.

        Raises:
            StoreFailed: the disk is full or failed.
        """
        target = self.unfinished(partition.name)
        shutil.rmtree(target, ignore_errors=True)  # of an attempt that failed
        try:
            return rewritten(partition, target, heap_bytes=self.limits.writer_heap_bytes)
        except (OSError, StoreFailed) as error:
            shutil.rmtree(target, ignore_errors=True)  # half of it would take what is left of a full disk
            raise StoreFailed(f"{partition.path}: cannot be written anew: {error}") from error

    def put_in_place(self, made: Partition, old: Partition) -> None:
        """Have a rewritten partition take the place of the old one, which must not have changed meanwhile.

        Raises:
            StoreFailed: the disk is full or failed.
        """
        day, number, generation = name_parts(old.name)
        target = self._home / f"{day}.{number}~{generation + 1}"
        with self._lock:
            try:
                made.path.rename(target)
                new = Partition(target, read_only=False)
                self.all = tuple(new if one is old else one for one in self.all)
                self._remove(old.path)
                sync_directory(self._home)
                self.save_state()
            except OSError as error:
                raise StoreFailed(f"{old.path}: cannot be replaced: {error}") from error

    def copy_to(self, target: Path) -> int:
        """Copy every partition as it was at its last commit; how many bytes they have.

        Raises:
            StoreFailed: the target is not empty, or files changed too often meanwhile.
            OSError: the disk is full or failed.
        """
        if target.exists() and any(target.iterdir()):
            raise StoreFailed(f"{target}: not empty; give a directory that is, or a new one")
        (target / PARTITIONS).mkdir(parents=True, exist_ok=True)
        # Before the partitions: a number that is durable then is durable in what is copied later. How many
        # records they will have nobody knows by then.
        state = read_state(self.directory)
        state.partitions = {}
        copied = 0
        for partition in self.all:
            try:
                copied += copy_partition(partition.path, target / PARTITIONS / partition.name)
            except FileNotFoundError:
                # Dropped meanwhile.
                shutil.rmtree(target / PARTITIONS / partition.name, ignore_errors=True)
        write_state(target, state, durable=True)
        sync_directory(target / PARTITIONS)
        return copied

    def close(self) -> None:
        """Let go of every file; what was not committed is lost."""
        for partition in self.all:
            partition.close_writer()
        self.all = ()
        if self._lock_file is not None:
            os.close(self._lock_file)
            self._lock_file = None


def _without_replaced(partitions: Iterable[Partition]) -> tuple[Partition, ...]:
    """The partitions without those in whose place another one has come."""
    found = list(partitions)
    replaced = {partition.replaces for partition in found}
    return tuple(partition for partition in found if partition.name not in replaced)


def day_of(received_ns: int) -> str:
    """The day of a time of arrival, UTC, as partitions are named: `2026-11-24`."""
    days = min(max(received_ns, 0) // DAY_NS, 2_932_896)  # the last day of the year 9999
    return f"{datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=days):%Y-%m-%d}"


def end_of_day_ns(day: str) -> int:
    """When the day of a partition is over."""
    return int(datetime.fromisoformat(f"{day}T00:00:00+00:00").timestamp()) * 1_000_000_000 + DAY_NS


def partition_key(path: Path) -> tuple[str, int]:
    """Day and number in a partition's name, which sort by age."""
    day, number, _ = name_parts(path.name)
    return day, number


def name_parts(name: str) -> tuple[str, int, int]:
    """Day, number within the day, and how often it was written anew: `2026-11-24.0~1`."""
    day, _, rest = name.partition(".")
    number, _, generation = rest.partition("~")
    return day, int(number) if number.isdigit() else 0, int(generation) if generation.isdigit() else 0


def _locked(path: Path) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise DataDirectoryInUse(
            f"{path.parent}: another process writes to this store; read it with read_only=True"
        ) from None
    return descriptor
