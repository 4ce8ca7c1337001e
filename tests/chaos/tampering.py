"""Ways to spoil what a process takes for granted: room on the disk, that a write succeeds, what time it is.

Room: a tmpfs that is made as small as what is in it (needs root). Writes: `failing_calls.c`, preloaded, which
a C compiler makes at the start. libfiu fails the very calls by which it is controlled, and cannot be stopped
then; on FUSE the library maps nothing, so that no more would fail there than here. Time: libfaketime, whose
offset is read from a file; `unshare --time` shifts monotonic clocks only, which no wrong clock does.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

MIB: Final = 1024 * 1024
_FAILING_CALLS: Final = Path(__file__).with_name("failing_calls.c")
_FAKETIME: Final = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))


class Disk:
    """A directory on a file system of its own, where we may mount one; else just a directory."""

    def __init__(self, path: Path, *, size_bytes: int) -> None:
        """Mount it.

        Args:
            size_bytes: how large it is while it is not full.
        """
        self.path = path
        self._size_bytes = size_bytes
        path.mkdir(parents=True)
        self.is_small = os.getuid() == 0 and _mount("-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs", path)

    def fill(self, *, free_bytes: int) -> None:
        """Leave only so much room. What grows meanwhile is why it is tried more than once."""
        for _ in range(100):
            disk = os.statvfs(self.path)
            used_bytes = (disk.f_blocks - disk.f_bfree) * disk.f_frsize
            if _mount("-o", f"remount,size={used_bytes + free_bytes}", self.path):
                return
        raise RuntimeError(f"{self.path} grows faster than it can be made small")

    def clear(self) -> None:
        """Room again."""
        if not _mount("-o", f"remount,size={self._size_bytes}", self.path):
            raise RuntimeError(f"{self.path} cannot be made as large as it was")

    def remove(self) -> None:
        """Unmount; what is in it is gone."""
        if self.is_small:
            subprocess.run(["umount", "-l", self.path], check=True)


class FailingCalls:
    """System calls of a process that fail now and then, while we say so."""

    is_available: Final = shutil.which("cc") is not None

    def __init__(self, directory: Path, name: str) -> None:
        self._file = directory / f"calls-{name}"
        self._library = directory / f"calls-{name}.so"
        self._tell(0)
        if self.is_available:
            command = ["cc", "-O1", "-shared", "-fPIC", "-o", self._library, _FAILING_CALLS, "-ldl"]
            subprocess.run(command, check=True)

    @property
    def preloads(self) -> list[Path]:
        """Libraries that the process must be started with."""
        return [self._library] if self.is_available else []

    @property
    def env(self) -> dict[str, str]:
        """What the process must find in its environment."""
        return {"CHAOS_CALLS_FILE": str(self._file)}

    def begin(self, *, share: float) -> None:
        """Have a share of all writes and syncs fail, from now on."""
        self._tell(round(1000 * share))

    def end(self) -> None:
        """Have every call succeed again."""
        self._tell(0)

    def _tell(self, permille: int) -> None:
        with self._file.open("r+b" if self._file.exists() else "wb") as file:  # in place: it is mapped
            file.write(permille.to_bytes(4, "little"))


class Clock:
    """The time of day of a process, which we can set; its monotonic clock goes on as it is."""

    is_available: Final = bool(_FAKETIME)

    def __init__(self, directory: Path, name: str) -> None:
        self._file = directory / f"clock-{name}"
        self.set_back()

    @property
    def preloads(self) -> list[Path]:
        """Libraries that the process must be started with."""
        return _FAKETIME[:1]

    @property
    def env(self) -> dict[str, str]:
        """What the process must find in its environment."""
        if not self.is_available:
            return {}
        return {
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_CACHE_DURATION": "1",  # seconds until a jump is noticed
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",
        }

    def jump(self, hours: int) -> None:
        """Be wrong by so many hours."""
        self._file.write_text(f"{hours:+d}h")

    def set_back(self) -> None:
        """Be right again."""
        self._file.write_text("+0")


def _mount(*arguments: str | Path) -> bool:
    """Whether mount(8) did it."""
    if shutil.which("mount") is None:
        return False
    return subprocess.run(["mount", *arguments], check=False, capture_output=True).returncode == 0
