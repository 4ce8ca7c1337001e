"""A copy of a data directory, taken while a collector may be writing to it, and its way back.

```text
backup.json   {"backtrail_backup": 1, "made", "files": {name: [bytes, CRC-32]}}, written last: without it
              the backup is not whole
data/         the data directory of that moment, as a crash would have left it
```

The parts are copied one after the other, in an order that makes them fit: the log, the ledger, the store,
and the log again. What the ledger has noted and the store holds is then in one of the two copies of the
log as well, unless the store has it for certain; a start from the copy recovers as after a crash, and what
was acknowledged before the backup began is in it. The two copies of the log are one when the newest segment
of the first is still there for the second, because the oldest go first; otherwise all is done once more.
What was learned to be normal comes along at the end; it fits whatever the rest is.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path, PurePosixPath
from typing import Final
from zlib import crc32

import msgspec

from collector.datadir import FORMAT_VERSION, check_readable, write_atomically
from collector.errors import ConfigurationError, Damaged, StoreFailed
from collector.ledger.file import NAME as LEDGER
from collector.service.pipeline import STORE, WAL
from collector.store.embedded.state import read_state, write_state
from collector.watch import DIRECTORY as BASELINE
from collector.watch import FILES as BASELINE_FILES
from tracing.line import format_timestamp

BACKUP_VERSION: Final = 1
MANIFEST: Final = "backup.json"
DATA: Final = "data"
_FORMAT: Final = "format.json"
_READ_BYTES: Final = 1 << 20
_ATTEMPTS_MAX: Final = 5  # each fails only when a whole segment of the log came and went meanwhile


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a backup says of itself."""

    backtrail_backup: int
    data_format: int
    made: str
    files: dict[str, tuple[int, int]]  # bytes and CRC-32, by the name below `data/`

    @property
    def bytes(self) -> int:
        """Of all files."""
        return sum(size for size, _ in self.files.values())


def back_up(data_dir: Path, target: Path, *, clock_ns: Callable[[], int] = time.time_ns) -> Manifest:
    """Copy a data directory, also beside a running collector.

    Args:
        target: a new or an empty directory; on the same file system the store's files are linked.
    Raises:
        FileNotFoundError: there is no data.
        ConfigurationError: the target is not empty, or the records are in a cluster.
        Damaged: the directory is not ours, or of another version.
        StoreFailed: it changed too fast to be copied.
        OSError: the disk is full or failed. What was copied so far is left, without a manifest.
    """
    check_readable(data_dir)
    if (data_dir / STORE / "elastic.json").exists():
        raise ConfigurationError(f"{data_dir}: its records are in a cluster; use the cluster's own snapshots")
    _check_empty(target, "back up to")
    for _ in range(_ATTEMPTS_MAX):
        if _copy_all(data_dir, target / DATA):
            break
        shutil.rmtree(target / DATA)
    else:
        raise StoreFailed(f"{data_dir}: its log changed too fast to be copied; try again when less comes in")
    manifest = Manifest(
        backtrail_backup=BACKUP_VERSION,
        data_format=FORMAT_VERSION,
        made=format_timestamp(clock_ns()),
        files={path.relative_to(target / DATA).as_posix(): _measure(path) for path in _files(target / DATA)},
    )
    write_atomically(target / MANIFEST, msgspec.json.format(msgspec.json.encode(manifest), indent=1))
    return manifest


def restore(backup: Path, data_dir: Path) -> Manifest:
    """Make a data directory of a backup; every file is held against its checksum.

    Raises:
        ConfigurationError: the data directory is not empty.
        Damaged: this is no whole backup, or a file of it is not what was written; nothing is left behind.
        OSError: the disk is full or failed; nothing is left behind.
    """
    manifest = read_manifest(backup)
    _check_empty(data_dir, "restore to")
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        for name, expected in sorted(manifest.files.items()):
            if name != _FORMAT:
                _copy_checked(backup / DATA / name, data_dir / name, expected)
        # Last, because a directory that has it is taken for whole.
        _copy_checked(backup / DATA / _FORMAT, data_dir / _FORMAT, manifest.files[_FORMAT])
        _sync_directories(data_dir)
    except BaseException:
        for entry in data_dir.iterdir():
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        raise
    return manifest


def read_manifest(backup: Path) -> Manifest:
    """What a backup says of itself.

    Raises:
        Damaged: it is none, is not whole, or needs a newer version.
    """
    file = backup / MANIFEST
    try:
        said = json.loads(file.read_bytes())
        if said["backtrail_backup"] > BACKUP_VERSION or said["data_format"] > FORMAT_VERSION:
            raise Damaged(f"{file}: written by a newer version of backtrail; restore it with that one")
        manifest = msgspec.convert(said, Manifest)
    except FileNotFoundError:
        raise Damaged(f"{backup}: no {MANIFEST} in it, so it is no backup, or one that never ended") from None
    except (ValueError, KeyError, TypeError) as error:
        raise Damaged(f"{file}: not what `backtrail backup` writes: {error}") from None
    outside = [name for name in manifest.files if not _is_inside(name)]
    if outside or _FORMAT not in manifest.files:
        raise Damaged(f"{file}: not what `backtrail backup` writes: {(outside or [_FORMAT])[0]!r:.80}")
    return manifest


# ---------------------------------------------------------------- the parts


def _copy_all(data_dir: Path, target: Path) -> bool:
    """Copy every part in the order that makes them fit; False: the log moved on too far meanwhile."""
    target.mkdir(mode=0o700, parents=True)
    newest = _copy_log(data_dir / WAL, target / WAL)
    _copy_ledger(data_dir / LEDGER, target / LEDGER)
    _copy_store(data_dir / STORE, target / STORE)
    if newest is not None and not (data_dir / WAL / newest).exists():
        return False
    _copy_log(data_dir / WAL, target / WAL)
    _copy_baseline(data_dir / BASELINE, target / BASELINE)
    shutil.copyfile(data_dir / _FORMAT, target / _FORMAT)
    return True


def _copy_log(source: Path, target: Path) -> str | None:
    """Copy the segments that are new or have grown; the name of the newest, `None` without any.

    The end of the one that is being written may be torn, which every reader of a log expects.
    """
    target.mkdir(exist_ok=True)
    segments = sorted(source.glob("*.wal")) if source.is_dir() else []
    for segment in segments:
        copied = target / segment.name
        try:
            if not copied.exists() or copied.stat().st_size != segment.stat().st_size:
                shutil.copyfile(segment, copied)
        except FileNotFoundError:
            continue  # released meanwhile, and so durable in the store
    return segments[-1].name if segments else None


def _copy_ledger(source: Path, target: Path) -> None:
    if not source.exists():
        return
    with (
        closing(sqlite3.connect(f"{source.resolve().as_uri()}?mode=ro", uri=True)) as theirs,
        closing(sqlite3.connect(target)) as ours,
    ):
        theirs.backup(ours)


def _copy_baseline(source: Path, target: Path) -> None:
    """What was learned to be normal; each file is whole at any time, because it is replaced when written."""
    target.mkdir(mode=0o700)
    # The state last, as it is written: where it is newer than the rest, a minute is not learned; where it
    # was older, one would be learned twice.
    for name in BASELINE_FILES:
        with contextlib.suppress(FileNotFoundError):  # nothing has been learned yet
            shutil.copyfile(source / name, target / name)


def _copy_store(source: Path, target: Path) -> None:
    from collector.store.embedded import EmbeddedStore  # loads tantivy, which others need not wait for

    # A number that is durable before the store is opened is durable in every partition that is seen then.
    # Whatever more the copies have is in the log, too, and is passed over when it is read again.
    durable_seq = read_state(source).durable_seq
    store = EmbeddedStore.open(source, read_only=True)
    try:
        store.backup(target)
    finally:
        store.close()
    state = read_state(target)
    state.durable_seq = min(state.durable_seq, durable_seq)
    write_state(target, state, durable=True)


# ---------------------------------------------------------------- files


def _check_empty(directory: Path, purpose: str) -> None:
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise ConfigurationError(f"{directory}: not an empty directory; name a new one to {purpose}")


def _is_inside(name: str) -> bool:
    path = PurePosixPath(name)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts


def _files(directory: Path) -> Iterator[Path]:
    return (path for path in sorted(directory.rglob("*")) if path.is_file())


def _measure(path: Path) -> tuple[int, int]:
    """Size and checksum."""
    size = checksum = 0
    with path.open("rb") as file:
        while block := file.read(_READ_BYTES):
            size += len(block)
            checksum = crc32(block, checksum)
    return size, checksum


def _copy_checked(source: Path, target: Path, expected: tuple[int, int]) -> None:
    size = checksum = 0
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        with source.open("rb") as theirs, target.open("xb") as ours:
            while block := theirs.read(_READ_BYTES):
                size += len(block)
                checksum = crc32(block, checksum)
                ours.write(block)
            ours.flush()
            os.fsync(ours.fileno())
    except FileNotFoundError:
        raise Damaged(f"{source}: missing; the backup is not whole") from None
    if (size, checksum) != expected:
        raise Damaged(f"{source}: not what was written: {size} bytes, CRC-32 {checksum:08x}")


def _sync_directories(top: Path) -> None:
    for directory, _, _ in os.walk(top):
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


__all__ = ["BACKUP_VERSION", "Manifest", "back_up", "read_manifest", "restore"]
