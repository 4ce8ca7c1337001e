"""Lines on standard output, or in one file: for whoever collects them by other means.

Such a line has no header line before it, so the process's resource is put at its end, where the record
line has its place for it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from os import getpid
from pathlib import Path
from typing import Any, Final

from tracing import semconv as sc
from tracing.line import dumps

STDOUT_FD: Final = 1
REOPEN_CHECK_INTERVAL_S: Final = 1.0  # as long as a rotated file may still get lines


class StreamExporter:
    """Writes each line to a descriptor, whole, with the resource at its end. Never raises.

    One `write` a line: on a file or a terminal, and on a pipe up to 4096 bytes (PIPE_BUF), lines of other
    processes are never mixed into it. A descriptor that does not take a line loses it, which is counted;
    one that blocks blocks the caller, as `print` would.
    """

    def __init__(self, fd: int, resource: Mapping[str, Any]) -> None:
        self._fd = fd
        self._resource = dict(resource)
        self._end = (0, b"")  # process id, and the piece that ends its lines
        self._lines = 0
        self._lost = 0

    def write(self, line: bytes, severity_number: int) -> None:
        """Take one line, its newline included."""
        try:
            pid, end = self._end
            if pid != getpid():
                end = self._end_of_lines()
            self._write_whole(line[:-2] + end)
            self._lines += 1
        except Exception:
            self._lost += 1

    def flush(self, timeout_s: float) -> bool:
        """Nothing waits anywhere."""
        return True

    def close(self, ended: str = "exit") -> None:
        """Nothing is to be said at the end."""

    def stats(self) -> dict[str, int]:
        """Return counts: `lines` written, `lost_write_failed`."""
        return {"lines": self._lines, "lost_write_failed": self._lost}

    def _write_whole(self, data: bytes) -> None:
        written = os.write(self._fd, data)
        while written < len(data):  # a pipe took a part; a line without its end would spoil the next one
            written += os.write(self._fd, data[written:])

    def _end_of_lines(self) -> bytes:
        """Make the piece for this process: after a fork, the id in it is another one."""
        pid = getpid()
        resource = dumps({**self._resource, sc.PROCESS_PID: pid})
        end = b',"%s":%s}\n' % (sc.RESOURCE.encode(), resource)
        self._end = (pid, end)
        return end


class FileExporter(StreamExporter):
    """Appends to a file, shared by any number of processes, and follows it when it is rotated.

    Raises:
        OSError: the file cannot be opened for appending.
    """

    def __init__(self, path: Path, resource: Mapping[str, Any]) -> None:
        self._path = path
        self._check_at_s = time.monotonic() + REOPEN_CHECK_INTERVAL_S
        super().__init__(_open(path), resource)

    def _write_whole(self, data: bytes) -> None:
        now_s = time.monotonic()
        if now_s >= self._check_at_s:
            self._check_at_s = now_s + REOPEN_CHECK_INTERVAL_S
            self._follow()
        super()._write_whole(data)

    def _follow(self) -> None:
        """Open the file anew when something else, or nothing, is found under its name.

        The descriptor keeps its number: `dup2` exchanges what is behind it in one step, so that a thread
        which writes at this moment writes to the old file or to the new one, and never to a stranger's.
        """
        try:
            status, held = self._path.stat(), os.fstat(self._fd)
            if (status.st_dev, status.st_ino) == (held.st_dev, held.st_ino):
                return
        except FileNotFoundError:
            pass
        fresh = _open(self._path)
        os.dup2(fresh, self._fd, inheritable=False)
        os.close(fresh)


def _open(path: Path) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
