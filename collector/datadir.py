"""The data directory: one writer at a time, and a format version that says who can read it.

```text
format.json   {"backtrail_data": 1}, written once, before anything else
lock          held with flock for as long as a writer lives; holds its pid, for people
wal/          write-ahead log
ledger.sqlite what has arrived of each spool
store/        the embedded store
tokens.json   who may call; may be made before anything else (`collector.access`)
```
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final, Self

from collector.errors import ConfigurationError, Damaged, DataDirectoryInUse

FORMAT_VERSION: Final = 1
_KEY: Final = "backtrail_data"
# What may lie in a directory before it is a data directory.
_EARLY: Final = frozenset(
    {"lock", "format.json.new", "tokens.json", "tokens.json.new", "tokens.lock", "tokens-used.json"}
)

# From a version to the next: each takes the directory and leaves it in the next version's form. The
# version is written after each step, so that a crash in between repeats a step and never skips one.
UPGRADES: Final[dict[int, Callable[[Path], None]]] = {}


class DataDirectory:
    """A data directory that this process may write to, until `close`.

    The lock is `flock`: it belongs to the open file, so that a second collector in the same process is
    refused, too, and it ends with the process however that ends.
    """

    def __init__(self, path: Path, lock_fd: int) -> None:
        """Use `open`."""
        self.path = path
        self._lock_fd: int | None = lock_fd

    @classmethod
    def open(cls, path: Path) -> Self:
        """Lock a directory, making it if need be, and bring it to the present format.

        Raises:
            ConfigurationError: it cannot be made or written.
            DataDirectoryInUse: another process writes to it.
            Damaged: it holds something else, or was written by a version that this one does not know.
        """
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock_fd = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ConfigurationError(
                f"data_dir {path}: {error.strerror}; name a directory to write to"
            ) from None
        try:
            try:
                fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise DataDirectoryInUse(_in_use(path, lock_fd)) from None
            os.ftruncate(lock_fd, 0)
            os.pwrite(lock_fd, f"{os.getpid()}\n".encode(), 0)
            _bring_to_present_format(path)
        except BaseException:
            os.close(lock_fd)
            raise
        return cls(path, lock_fd)

    def close(self) -> None:
        """Let another process have it; closing twice is harmless."""
        if self._lock_fd is not None:
            os.close(self._lock_fd)
            self._lock_fd = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def check_readable(path: Path) -> None:
    """Check that a directory can be read by this version, without writing to it.

    Raises:
        FileNotFoundError: there is no data here.
        Damaged: it holds something else, or another version wrote it.
    """
    version = read_format(path)
    if version is None:
        raise FileNotFoundError(f"{path}: no data here; a collector or `backtrail import` makes some")
    if version != FORMAT_VERSION:
        raise Damaged(
            f"{path}: written in format {version}, this version reads {FORMAT_VERSION};"
            " start the collector once to bring it up to date"
        )


def read_format(path: Path) -> int | None:
    """The format version of a directory; `None`: it has none.

    Raises:
        Damaged: `format.json` is not ours.
    """
    file = path / "format.json"
    try:
        version = json.loads(file.read_bytes())[_KEY]
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        version = None
    if not isinstance(version, int):
        raise Damaged(
            f"{file}: does not say which format the directory has; it should hold"
            f' {{"{_KEY}": {FORMAT_VERSION}}}'
        )
    return version


def write_atomically(file: Path, content: bytes, *, mode: int = 0o666) -> None:
    """Replace a file so that a crash leaves the old or the new content, never a part.

    Args:
        mode: of the new file, before the umask.
    """
    new = file.with_name(file.name + ".new")
    new.unlink(missing_ok=True)  # of a crash, and perhaps of another mode
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    new.replace(file)
    directory = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _bring_to_present_format(path: Path) -> None:
    version = read_format(path)
    if version is None:
        strange = sorted(entry.name for entry in path.iterdir() if entry.name not in _EARLY)
        if strange:
            raise Damaged(
                f"{path}: is not empty and not a data directory (it holds {strange[0]!r});"
                " name an empty or a new directory"
            )
        version = FORMAT_VERSION
        _write_format(path, version)
    while version < FORMAT_VERSION:
        upgrade = UPGRADES.get(version)
        if upgrade is None:
            raise Damaged(
                f"{path}: written in format {version}, which this version cannot bring up to"
                f" {FORMAT_VERSION}; start a version in between once, or name a new directory"
            )
        upgrade(path)
        version += 1
        _write_format(path, version)
    if version > FORMAT_VERSION:
        raise Damaged(
            f"{path}: written in format {version} by a newer version; this one knows up to {FORMAT_VERSION}"
        )


def _write_format(path: Path, version: int) -> None:
    write_atomically(path / "format.json", json.dumps({_KEY: version}).encode() + b"\n")


def _in_use(path: Path, lock_fd: int) -> str:
    owner = ""
    with contextlib.suppress(OSError):
        owner = os.pread(lock_fd, 32, 0).decode("ascii", "replace").strip()
    by = f" by process {owner}" if owner.isdecimal() else ""
    return (
        f"{path}: in use{by}; stop that collector, name another data_dir, or ask it over HTTP (--url)"
        " instead of opening its directory"
    )
