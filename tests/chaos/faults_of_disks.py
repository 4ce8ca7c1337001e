"""Faults of disks: full, failing, and with other bytes on them than were written."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar, Final

from collector.datadir import FORMAT_VERSION
from collector.wal import WalFrame
from collector.wal.frames import HEAD
from collector.wal.segments import find
from tests.chaos.checker import Destroyed
from tests.chaos.faults import APPLICATION, COLLECTOR, Fault
from tests.chaos.scene import Program, Scene
from tests.chaos.tampering import MIB, Disk, FailingCalls
from tests.chaos.truth import mark_of
from tracing.spool.adoption import sent_offset
from tracing.spool.reader import Segment, segment_paths, whole_lines

RECOVERY_S: Final = 5.0  # two looks of a spool at its disk: what is in memory is on the disk afterwards
REFUSED_START_TIMEOUT_S: Final = 60.0


class _FullDisk(Fault):
    lasts_s = (2.0, 8.0)
    rest_s = RECOVERY_S
    side: ClassVar[str]

    @property
    def disk(self) -> Disk:
        """The one that is filled."""
        disk: Disk = getattr(self.scene, f"{self.side}_disk")
        return disk

    def missing(self) -> str | None:
        """The right to mount."""
        return None if self.disk.is_small else "the right to mount a tmpfs (root)"

    def begin(self) -> None:
        """To the last byte, or so far that our own reserve is touched."""
        self.disk.fill(free_bytes=self.chance.choice((0, 0, 64 * 1024, 8 * MIB)))

    def end(self) -> None:
        """Room again."""
        self.disk.clear()


class FillApplicationDisk(_FullDisk):
    """Under the spools."""

    target = APPLICATION
    side = "application"


class FillCollectorDisk(_FullDisk):
    """Under the log, the ledger and the store."""

    target = COLLECTOR
    side = "collector"


class _FailingCalls(Fault):
    lasts_s = (2.0, 6.0)
    rest_s = RECOVERY_S

    def __init__(self, scene: Scene, chance: random.Random) -> None:
        super().__init__(scene, chance)
        self.program = self.choose()

    def choose(self) -> Program:
        """Whose calls fail."""
        return self.scene.collector

    def missing(self) -> str | None:
        """What makes the library that is preloaded."""
        return None if FailingCalls.is_available else "a C compiler (cc)"

    def begin(self) -> None:
        """A tenth to a half of all writes and syncs fail."""
        self.program.calls.begin(share=self.chance.uniform(0.1, 0.5))

    def end(self) -> None:
        """Everything succeeds again."""
        self.program.calls.end()


class FailApplicationCalls(_FailingCalls):
    """EIO and short writes in an application, its spool's among them."""

    target = APPLICATION

    def choose(self) -> Program:
        """One that something is preloaded into."""
        return self.chance.choice(self.scene.applications[1:])


class FailCollectorCalls(_FailingCalls):
    """EIO and short writes in the collector: log, ledger and store."""

    target = COLLECTOR


class CorruptSpool(Fault):
    """Record lines in segments that are not yet shipped become nonsense, newlines untouched."""

    target = APPLICATION
    lasts_s = (0.0, 0.0)
    LINES_MAX: ClassVar = 3

    def begin(self) -> None:
        """While their owners and the agents stand still, so that we know what we destroy."""
        programs = [*self.scene.applications, *self.scene.agents]
        standing = [program for program in programs if program.running]
        for program in standing:
            program.suspend()
        try:
            unsent = list(self._unsent_lines())
            for segment, place, line, offset in self.chance.sample(unsent, min(self.LINES_MAX, len(unsent))):
                self._spoil(segment, place, line, offset)
        finally:
            for program in standing:
                program.resume()

    def _unsent_lines(self) -> Iterator[tuple[Path, int, bytes, int]]:
        """Record lines of ours behind the acknowledged offset: file, place in it, line, logical offset."""
        for directory in sorted(self.scene.spools.glob("chaos-*/*")):
            sent = sent_offset(directory) or 0
            for path in segment_paths(directory):
                with suppress(Exception):  # a header that is being written, a thinned segment
                    segment = Segment(path)
                    segment.close()
                    if segment.header.thinned:
                        continue
                    data = path.read_bytes()[segment.header_bytes :]
                    place, offset = segment.header_bytes, segment.header.first_offset
                    for line in whole_lines(data):
                        if offset >= sent and b'"message":"chaos ' in line:
                            yield path, place, line, offset
                        place, offset = place + len(line), offset + len(line)

    def _spoil(self, path: Path, place: int, line: bytes, offset: int) -> None:
        garbage = self.chance.choice((b"\xff\xfe\xff", b"\0\0\0", b'"""', b"\x01{"))
        at = line.index(b'"message":"') + len(b'"message":"')
        with path.open("r+b") as file:
            file.seek(place + at)
            file.write(garbage)
        mark = mark_of(line.decode())
        end = offset + len(line)
        self.scene.destroyed.append(Destroyed("spool", path.parent.name, offset, end, mark))


class _CorruptCollector(Fault):
    target = COLLECTOR

    def begin(self) -> None:
        """Kill it, and change what it finds when it comes back."""
        self.scene.collector.kill()
        self.spoil()

    def spoil(self) -> None:
        """Change files of the data directory."""

    def end(self) -> None:
        """It starts, whatever it finds."""
        self.scene.collector.start()


class CorruptLog(_CorruptCollector):
    """A bit of one frame of the write-ahead log is flipped: at most that frame is lost, and counted."""

    _is_spoiled = False

    def spoil(self) -> None:
        """One of the last frames, which the store may not have yet."""
        segments = [segment for segment in find(self.scene.data / "wal") if segment.size]
        if not segments:
            return
        frames = [found for found in segments[-1].frames() if isinstance(found, tuple)]
        frame, end = self.chance.choice(frames[-8:])
        size = HEAD.size + self._payload_bytes(segments[-1].path, frame, end)
        place = end - self.chance.randrange(1, size)
        with segments[-1].path.open("r+b") as file:
            file.seek(place)
            byte = file.read(1)[0]
            file.seek(place)
            file.write(bytes([byte ^ 1 << self.chance.randrange(8)]))
        self._is_spoiled = True
        self.scene.destroyed += _destroyed(frame)

    def end(self) -> None:
        """It starts, and says that something was damaged."""
        super().end()
        with self.scene.client() as client:
            wal: dict[str, Any] = client.stats()["wal"]
        if self._is_spoiled and not wal["damaged_bytes"] + wal["torn_bytes"]:
            self.scene.complaints.append(f"a damaged frame of the log is not counted: {wal}")

    @staticmethod
    def _payload_bytes(path: Path, frame: WalFrame, end: int) -> int:
        """How long the frame's payload is: its head says so."""
        data = path.read_bytes()
        start = data.rfind(b"\xffBW1", 0, end - len(frame.lines))
        return int(HEAD.unpack_from(data, start)[1])


def _destroyed(frame: WalFrame) -> Iterator[Destroyed]:
    """What a frame holds: each line with its place in its spool, and all of it as one stretch."""
    envelope = frame.envelope
    if envelope.origin is None or envelope.digest is not None:
        return
    yield Destroyed("wal", envelope.origin, envelope.first, envelope.end, None)
    for uid, line in zip(frame.uids() or [], frame.split(), strict=True):
        offset = int(uid.rpartition("-")[2])
        is_record = b'"kind":"span_start"' not in line and b'"kind":"loss"' not in line
        mark = mark_of(line.decode()) if is_record else None
        yield Destroyed("wal", envelope.origin, offset, offset + len(line) + 1, mark)


class CorruptIndex(_CorruptCollector):
    """A bit of an index file of the store is flipped: its partition is built anew from its records."""

    def missing(self) -> str | None:
        """An index of our own."""
        return None if self.scene.is_embedded else "the embedded store"

    def spoil(self) -> None:
        """Any file of any partition's index."""
        files = sorted((self.scene.data / "store" / "partitions").glob("*/index/*.*"))
        files = [path for path in files if path.suffix in (".store", ".term", ".idx", ".fast", ".pos")]
        files = [path for path in files if path.stat().st_size]
        if not files:
            return
        path = self.chance.choice(files)
        content = bytearray(path.read_bytes())
        content[self.chance.randrange(len(content))] ^= 1 << self.chance.randrange(8)
        path.write_bytes(content)


class ChangeFormat(_CorruptCollector):
    """A data directory of a version that is not known: refused in one clear sentence, and untouched."""

    def spoil(self) -> None:
        """Start once with the wrong number, then put the right one back."""
        file = self.scene.data / "format.json"
        right = file.read_bytes()
        version = self.chance.choice((0, FORMAT_VERSION + 1, FORMAT_VERSION + 7))
        file.write_text(json.dumps({"backtrail_data": version}))
        collector = self.scene.collector
        before = collector.log.stat().st_size
        collector.start(wait=False)
        deadline_s = time.monotonic() + REFUSED_START_TIMEOUT_S
        while collector.running and time.monotonic() < deadline_s:
            time.sleep(0.02)
        said = collector.log.read_bytes()[before:].decode(errors="replace")
        if collector.running:
            self.scene.complaints.append(f"a collector runs on data of format {version}")
        elif f"format {version}" not in said or "Traceback" in said:
            self.scene.complaints.append(f"format {version} is not refused in clear words: {said[-400:]}")
        collector.kill()
        file.write_bytes(right)
