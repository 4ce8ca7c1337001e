"""Who lives and who ships: record locks of the process on small files.

`fcntl.lockf`, not `flock`: a record lock belongs to the process, so it ends with it and is not inherited
by its children, while `flock` would outlive the owner in every child that has the descriptor. Process
ids prove nothing across containers. The price (fcntl(2), "Record locks"): closing *any* descriptor of
the file gives the lock up, so a file that this process has locked must never be opened again; the
registry below sees to that.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

try:
    import fcntl
except ImportError:  # Windows: no directory is ever taken, lines stay in memory
    fcntl = None  # type: ignore[assignment]

AVAILABLE: Final = fcntl is not None

_Key = tuple[int, int, int]  # process, device, inode
# Only single dictionary operations touch it: they are atomic, so no lock of ours can be held at a fork.
_held: Final[dict[_Key, object]] = {}


class ProcessLock:
    """A lock file that this process holds, until `release` or its end."""

    __slots__ = ("_key", "fd")

    def __init__(self, fd: int, key: _Key) -> None:
        self.fd = fd
        self._key = key

    def release(self) -> None:
        """Give the lock up; harmless in a forked child, which never had it."""
        if self.fd < 0:
            return
        if is_same_file(self.fd, self._key[1:]):
            close_quietly(self.fd)
        self.fd = -1
        _held.pop(self._key, None)  # after the close: before it, somebody could lock and lose it to us

    def is_at(self, path: Path) -> bool:
        """Whether the locked file is still the one that is found under this path."""
        try:
            status = path.stat()
        except OSError:
            return False
        return (status.st_dev, status.st_ino) == self._key[1:]


def try_lock(path: Path, *, create: bool = False) -> ProcessLock | None:
    """Take the lock without waiting; `None` when somebody has it, or there is no such file.

    Raises:
        OSError: the file cannot be opened or created, for another reason than its absence.
    """
    if fcntl is None:
        return None
    try:
        if create:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        status = os.stat(path)  # noqa: PTH116
    except (FileNotFoundError, NotADirectoryError):
        if create:
            raise
        return None
    key = (os.getpid(), status.st_dev, status.st_ino)
    token = object()
    if _held.setdefault(key, token) is not token:
        return None
    fd = -1
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not is_same_file(fd, key[1:]) or os.fstat(fd).st_nlink == 0:
            raise BlockingIOError("the file was replaced while we locked it")
    except BaseException as error:
        if fd >= 0:
            close_quietly(fd)
        _held.pop(key, None)
        if isinstance(error, BlockingIOError | PermissionError | FileNotFoundError) and not create:
            return None
        raise
    return ProcessLock(fd, key)


def is_held(path: Path) -> bool:
    """Whether a living process has the lock; it is looked at, not taken, so nobody is kept from it.

    Raises:
        OSError: the file cannot be opened, for another reason than its absence.
    """
    if fcntl is None:
        return False
    try:
        status = os.stat(path)  # noqa: PTH116
    except (FileNotFoundError, NotADirectoryError):
        return False
    key = (os.getpid(), status.st_dev, status.st_ino)
    token = object()
    if _held.setdefault(key, token) is not token:
        return True  # by ourselves: to open the file, and close it, would give the lock up
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.lockf(fd, os.F_TEST, 0)
        except (BlockingIOError, PermissionError):  # POSIX leaves the choice between EAGAIN and EACCES
            return True
        finally:
            close_quietly(fd)
    except FileNotFoundError:
        return False
    finally:
        _held.pop(key, None)
    return False


def is_same_file(fd: int, identity: tuple[int, int]) -> bool:
    """Whether a descriptor still is the file `(device, inode)`: others may have closed and reused it."""
    try:
        status = os.fstat(fd)
    except OSError:
        return False
    return (status.st_dev, status.st_ino) == identity


def close_quietly(fd: int) -> None:
    """Close a descriptor that may be gone already."""
    try:
        os.close(fd)
    except OSError:
        pass
