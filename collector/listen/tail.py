"""Files that grow: a thin shell around `Intake.file_lines`.

A file is known by device, inode and first line, so that renaming it changes nothing and another file in
its place is another one. How far it was read is a mark of the ledger, written with the records
themselves: there is no checkpoint to disagree with. A file that shrank below its mark was emptied and
written anew (`copytruncate`), and counts as another one from then on.
"""

from __future__ import annotations

import glob
import hashlib
import logging
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, tzinfo
from pathlib import Path
from typing import BinaryIO, Final

from collector.errors import Overloaded, Refused
from collector.intake import Intake, Placed
from collector.receive.foreign import Foreign
from collector.receive.loose import fields_of_text
from collector.receive.multiline import Grouped, Grouper
from tracing import semconv as sc

logger = logging.getLogger(__name__)

LOG_FILE: Final = "log.file.path"  # OpenTelemetry's name; of the resource
_HEAD_BYTES_MAX: Final = 1_024  # so much of the first line tells files apart
_PACKED_SUFFIXES: Final = (".gz", ".bz2", ".xz", ".zst", ".lz4", ".zip")  # what rotation leaves behind


@dataclass(frozen=True, slots=True, kw_only=True)
class TailLimits:
    """Bounds of reading files."""

    poll_interval_s: float = 0.25
    search_interval_s: float = 2.0  # for new files; globs over large trees are slow
    files_max: int = 1_000
    read_bytes: int = 1024**2  # of one file at once, so that a large one does not starve the others
    batch_records_max: int = 1_000  # handed over at once; a small log could never take a large batch
    record_bytes_max: int = 131_072  # lines that belong together; longer ones are cut
    settle_s: float = 1.0  # a record whose next line may belong to it waits for so long
    rotated_s: float = 10.0  # a file that was renamed or deleted is read on for so long


@dataclass(frozen=True, slots=True, kw_only=True)
class TailSource:
    """What to read."""

    pattern: str  # a path, or a glob; `**` matches any directories
    service: str | None = None  # of lines that do not name one; None: the file's name without its endings
    zone: tzinfo = UTC  # of times that do not name one


class FileTail:
    """Reads every file that matches, and what is appended to it, for as long as it runs."""

    def __init__(
        self,
        intake: Intake,
        sources: Sequence[TailSource],
        *,
        limits: TailLimits | None = None,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare; `start` begins.

        Args:
            intake: is given the records, and knows how far a file was taken.
            sources: what to read.
            limits: bounds; the defaults if `None`.
            clock_s: a clock that never goes back.
        """
        self._intake = intake
        self._sources = sources
        self._limits = limits or TailLimits()
        self._clock_s = clock_s
        self._files: dict[tuple[int, int], _File] = {}  # by device and inode
        self._counts: Counter[str] = Counter()
        self._searched_s = -1e9
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="backtrail-tail", daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def stop(self, timeout_s: float = 10.0) -> None:
        """Hand over what was read, and end."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        for file in self._files.values():
            file.close()
        self._files.clear()

    def stats(self) -> dict[str, int]:
        """Counts since the start: records, files, errors, files that are not read for want of room."""
        return {**self._counts, "open_files": len(self._files)}

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                busy = self.poll()
            except Exception:
                logger.exception("reading files failed")
                self._counts["errors"] += 1
                busy = False
            if not busy:
                self._stopping.wait(self._limits.poll_interval_s)

    def poll(self) -> bool:
        """Look for new files and read what was appended; return whether there is more already."""
        now_s = self._clock_s()
        if now_s - self._searched_s >= self._limits.search_interval_s:
            self._searched_s = now_s
            self._search(now_s)
        busy = False
        for key, file in list(self._files.items()):
            try:
                busy |= file.read_on(now_s)
            except Overloaded as error:
                logger.warning("%s: %s", file.path, error)
                self._counts["overloaded"] += 1
                return False  # nobody else would find room either
            except OSError as error:
                logger.warning("%s: %s", file.path, error)
                self._counts["errors"] += 1
                file.close()
                del self._files[key]
                continue
            if file.is_over(now_s):
                file.close()
                del self._files[key]
        return busy

    def _search(self, now_s: float) -> None:
        present: set[tuple[int, int]] = set()
        for source in self._sources:
            # `Path.glob` wants to be told a root, and gives up on directories it may not read
            for name in sorted(glob.glob(source.pattern, recursive=True)):  # noqa: PTH207
                path = Path(name)
                if path.suffix in _PACKED_SUFFIXES or not path.is_file():
                    continue
                try:
                    status = path.stat()
                except OSError:
                    continue  # gone since the glob
                key = (status.st_dev, status.st_ino)
                if key in present:
                    continue
                present.add(key)
                if key not in self._files:
                    self._open(key, path, source)
        for key, file in self._files.items():
            file.note_presence(key in present, now_s)

    def _open(self, key: tuple[int, int], path: Path, source: TailSource) -> None:
        if len(self._files) >= self._limits.files_max:
            self._counts["files_beyond_the_limit"] += 1
            return
        try:
            self._files[key] = _File(path, source, self._intake, self._limits, self._counts)
        except OSError as error:
            logger.warning("%s: %s", path, error)
            self._counts["errors"] += 1


class _File:
    """One open file: where it is read, and the lines that wait for the next one."""

    def __init__(
        self, path: Path, source: TailSource, intake: Intake, limits: TailLimits, counts: Counter[str]
    ) -> None:
        self.path = path
        self._source = source
        self._intake = intake
        self._limits = limits
        self._counts = counts
        self._stream: BinaryIO = path.open("rb", buffering=0)
        self._origin = ""  # empty: the first line is not whole yet
        self._head = b""  # the first line: what tells that the content is still the same
        self._is_emptied = False  # seen with other content before
        self._grouper = Grouper(limits.record_bytes_max)
        self._mark = 0  # of the ledger: everything before it is durable
        self._read = 0  # behind the last line that the grouper has
        self._size = 0
        self._grown_s = 0.0
        self._absent_since_s: float | None = None
        service = source.service or path.name.partition(".")[0] or path.name
        self._resource = {sc.SERVICE_NAME: service, LOG_FILE: str(path)}

    def close(self) -> None:
        """Let go of the file."""
        self._stream.close()

    def note_presence(self, present: bool, now_s: float) -> None:
        """Whether the last search found the file under a name that matches."""
        if present:
            self._absent_since_s = None
        elif self._absent_since_s is None:
            self._absent_since_s = now_s

    def is_over(self, now_s: float) -> bool:
        """Whether the file was renamed away or deleted, and nothing was appended to it since."""
        gone_s = self._absent_since_s
        return gone_s is not None and now_s - max(gone_s, self._grown_s) > self._limits.rotated_s

    def read_on(self, now_s: float) -> bool:
        """Read once; return whether there may be more already.

        Raises:
            Overloaded: there is no room; the same bytes are read again later.
            OSError: the file cannot be read.
        """
        size = os.fstat(self._stream.fileno()).st_size
        if not self._is_same_content(size):
            if self._origin:
                self._hand_over(self._grouper.flush())
                self._is_emptied = True
            self._recognise(size)
        self._size = size
        if not self._origin:
            return False
        lines, more = self._next_lines()
        done: list[Grouped] = []
        for line in lines:
            done += self._grouper.feed(line, self._read)
            self._read += len(line)
        if lines:
            self._grown_s = now_s
        elif now_s - self._grown_s > self._limits.settle_s:
            done += self._grouper.flush()
        self._hand_over(done)
        return more

    def _is_same_content(self, size: int) -> bool:
        if not self._origin or size < self._read:
            return False
        return size == self._size or os.pread(self._stream.fileno(), len(self._head), 0) == self._head

    def _recognise(self, size: int) -> None:
        """Find out which file this is, and how far it was taken."""
        self._origin = ""
        head = os.pread(self._stream.fileno(), _HEAD_BYTES_MAX, 0)
        if b"\n" not in head and len(head) < _HEAD_BYTES_MAX:
            return  # it may yet grow, and would then be another file
        self._head = head[: head.find(b"\n") + 1] if b"\n" in head else head
        status = os.fstat(self._stream.fileno())

        def origin_of(generation: int) -> str:
            return _origin(status.st_dev, status.st_ino, generation, self._head)

        generation = 0  # of contents with this first line: the last one that is known, or the next
        while self._intake.file_mark(origin_of(generation + 1)):
            generation += 1
        mark = self._intake.file_mark(origin_of(generation))
        if mark > size or (mark and self._is_emptied):
            generation, mark = generation + 1, 0
        self._origin, self._mark, self._is_emptied = origin_of(generation), mark, False
        self._restart()

    def _restart(self) -> None:
        """Read on from what the log has."""
        self._grouper = Grouper(self._limits.record_bytes_max)
        self._read = self._mark

    def _next_lines(self) -> tuple[list[bytes], bool]:
        """The next lines that have their newline, and whether there may be more already.

        A line that fills a whole read without an end counts as one; else it could never be passed.
        """
        data = os.pread(self._stream.fileno(), self._limits.read_bytes, self._read)
        full = len(data) >= self._limits.read_bytes
        lines = [line + b"\n" for line in data.split(b"\n")[:-1]]
        return ([data] if full and not lines else lines), full

    def _hand_over(self, done: list[Grouped]) -> None:
        size = self._limits.batch_records_max
        while done:
            part = done[:size]
            records = [Placed(one.start, self._record(one)) for one in part if one.text.strip()]
            first, end = self._mark, part[-1].end
            try:
                taken = self._intake.file_lines(self._origin, self._resource, records, first=first, end=end)
            except Refused:
                if len(part) == 1:
                    raise
                size = len(part) // 2  # too much at once for a small log
                continue
            except Overloaded:
                self._restart()
                raise
            del done[:size]
            self._mark = end
            self._counts["records"] += taken.stored
            self._counts["refused"] += taken.refused_count

    def _record(self, grouped: Grouped) -> Foreign:
        text = grouped.text.decode("utf-8", "replace")
        fields = fields_of_text(text, zone=self._source.zone)
        fields.setdefault(sc.SERVICE, self._resource[sc.SERVICE_NAME])
        fields.setdefault(sc.MESSAGE, text)
        return Foreign(fields, self._resource)


def _origin(device: int, inode: int, generation: int, head: bytes) -> str:
    digest = hashlib.blake2b(f"{device} {inode} {generation} ".encode(), digest_size=16)
    digest.update(head)
    return digest.hexdigest()
