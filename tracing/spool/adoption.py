"""What dead processes left: found, taken by one adopter at a time, closed in their name, deleted when sent.

A spool may be shipped by whoever holds its `shipper` lock. Its owner is dead when the `lock` file can be
locked too; an incarnation never comes back, because its id is drawn once.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Final

from tracing.spool.directory import UNFINISHED_PREFIX, write_new
from tracing.spool.format import (
    LOCK_FILE,
    SENT_FILE,
    SHIPPER_FILE,
    SegmentHeader,
    close_line,
    is_about_the_spool,
    is_spool_id,
    loss_line,
    segment_name,
    segment_number,
    sent_text,
    service_of,
)
from tracing.spool.locks import ProcessLock, try_lock
from tracing.spool.losses import Loss
from tracing.spool.reader import (
    Batch,
    Hole,
    SpoolReader,
    end_offset,
    is_of_other_format,
    open_segment,
    segment_paths,
    sent_offset,
    unplaced_data,
    whole_lines,
)
from tracing.spool.tail import Tail
from tracing.spool.untold import untold

# A process that makes a directory needs milliseconds; what is unfinished after an hour died on the way.
UNFINISHED_AGE_S_MAX: Final = 3600.0


class Claim:
    """A spool that this process may ship until `release`, because it holds the `shipper` lock.

    Attributes:
        path: its directory.
        sent: logical offset up to which everything is acknowledged.
        is_dead: whether its owner is gone.
        is_closed: whether a close line ends it, so that it can be deleted once everything has been sent.
        losses: what was found missing and is not written down yet.
    """

    def __init__(self, path: Path, shipper_lock: ProcessLock, *, is_dead: bool, is_closed: bool) -> None:
        self.path = path
        self.is_dead = is_dead
        self.is_closed = is_closed
        self.losses: list[Loss] = []
        self._lock = shipper_lock
        self._reader = SpoolReader(path)
        sent = sent_offset(path)
        self.sent = first_offset(path) if sent is None else sent

    @classmethod
    def try_claim(cls, path: Path) -> Claim | None:
        """Take a spool; `None` when somebody else ships it, it has gone, or it is not ours to read.

        What a version with another format has left waits for one that understands it, untouched.

        The spool of a dead process gets its close line here, if it has none.
        """
        try:
            lock = try_lock(path / SHIPPER_FILE)
            if lock is None and not (path / SHIPPER_FILE).exists():
                lock = try_lock(path / SHIPPER_FILE, create=True)
        except OSError:
            return None
        if lock is None:
            return None
        if is_of_other_format(path):
            lock.release()
            return None
        try:
            is_dead = _is_dead(path)
            return cls(path, lock, is_dead=is_dead, is_closed=is_dead and _close_for_the_dead(path))
        except BaseException as error:
            lock.release()
            if isinstance(error, OSError):
                return None
            raise

    def read(self, bytes_max: int) -> Batch | None:
        """Return the next lines to send, `None` when everything is sent. Holes become `losses`."""
        while True:
            found = self._reader.read(self.sent, bytes_max)
            if not isinstance(found, Hole):
                return found
            if found.reason == "damaged" and not self.is_dead:
                return None  # perhaps a line that is just being copied: only its owner can tell
            self.lose(found.reason, 1, found.begin, found.end)
            self.acknowledge(found.end)

    def acknowledge(self, offset: int) -> None:
        """Write down that everything before an offset need not be sent again."""
        self.sent = offset
        write_sent(self.path, offset)

    def _settle(self) -> None:
        """Write losses down as lines of this very spool, which are then sent like any other.

        Only for the dead: a living owner alone may write to its spool.
        """
        tail = Tail.open(self.path) if self.is_dead else None
        if tail is None:
            self.losses.clear()
            return
        try:
            while self.losses:
                loss = self.losses[0]
                tail.append(
                    loss_line(
                        tail.service,
                        time.time_ns(),
                        reason=loss.reason,
                        count=loss.count,
                        begin=loss.begin,
                        end=loss.end,
                    )
                )
                del self.losses[0]
        except OSError:
            self.losses.clear()  # a full disk: better the line that tells of a loss than everything after it
        finally:
            tail.close()

    def lose(self, reason: str, count: int, begin: int, end: int) -> None:
        """Remember what is missing, for `tidy` to write down."""
        self.losses.append(Loss(reason, count, begin, end))

    def tidy(self, *, is_all_sent: bool) -> bool:
        """Write losses down, delete what has been sent.

        Returns:
            Whether nothing is left to be done, until the owner writes more.
        """
        if self.losses:
            self._settle()
            return False
        delete_before(self.path, self.sent)
        if is_all_sent and self.is_dead and self.is_closed:
            delete_spool(self.path)
        return is_all_sent

    def release(self) -> None:
        """Let others ship it."""
        self._reader.close()
        self._lock.release()


def spools(service: Path) -> Iterator[Path]:
    """Return the spools of a service directory, the oldest first."""
    found: list[tuple[float, Path]] = []
    try:
        with os.scandir(service) as entries:
            for entry in entries:
                if is_spool_id(entry.name):
                    found.append((entry.stat().st_mtime, Path(entry.path)))
                elif entry.name.startswith(UNFINISHED_PREFIX):
                    _delete_unfinished(Path(entry.path))
    except OSError:
        pass  # deleted while we looked: what was found before is still worth a visit
    return iter([path for _, path in sorted(found)])


def services(root: Path) -> list[Path]:
    """Return the service directories of a spool root."""
    try:
        with os.scandir(root) as entries:
            return sorted(Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False))
    except OSError:
        return []


def first_offset(directory: Path) -> int:
    """Return where the oldest segment that is left begins; 0 when there is none."""
    for path in segment_paths(directory):
        segment = open_segment(path)
        if segment is not None:
            segment.close()
            return segment.header.first_offset
    return 0


def write_sent(directory: Path, offset: int) -> None:
    """Write the acknowledged offset down, in place: losing it costs sending again, never a record."""
    try:
        fd = os.open(directory / SENT_FILE, os.O_WRONLY | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
    except OSError:
        return
    try:
        text = sent_text(offset)
        os.pwrite(fd, text, 0)
        os.ftruncate(fd, len(text))
    except OSError:
        pass
    finally:
        os.close(fd)


def delete_before(directory: Path, sent: int) -> None:
    """Delete the segments that end at or before an offset, never the last."""
    for path, following in pairwise(segment_paths(directory)):
        next_segment = open_segment(following)
        if next_segment is None:
            return
        next_segment.close()
        if next_segment.header.first_offset > sent:
            return
        _unlink(path)


def delete_spool(directory: Path) -> None:
    """Delete a spool: segments first, so that what a crash leaves is never sent again."""
    for path in segment_paths(directory):
        _unlink(path)
    try:
        for path in directory.iterdir():
            _unlink(path)
        directory.rmdir()
    except OSError:
        pass


def _is_dead(path: Path) -> bool:
    """Whether nobody holds the life lock. The one who asks holds the shipper lock, so no two ask at once."""
    lock = try_lock(path / LOCK_FILE)
    if lock is None:
        return not (path / LOCK_FILE).exists()
    lock.release()
    return True


def _close_for_the_dead(path: Path) -> bool:
    """End a spool whose owner could not: what it had not told, and `killed`, at the time of its last write.

    Returns:
        Whether the spool has a close line now; on a full disk it has not, and is closed another time.
    """
    tail = Tail.open(path)
    if tail is None and _write_off(path):
        tail = Tail.open(path)
    if tail is None:
        return not segment_paths(path)  # nothing at all, or nothing that could be understood
    try:
        if not tail.is_closed:
            for loss in untold(path):
                if not tail.tells(loss):  # killed between the line and the note that it is written
                    tail.append(
                        loss_line(
                            tail.service,
                            tail.modified_ns,
                            reason=loss.reason,
                            count=loss.count,
                            begin=loss.begin,
                            end=loss.end,
                        )
                    )
            tail.append(
                close_line(
                    tail.service,
                    tail.modified_ns,
                    count=tail.lines,
                    end_offset=tail.end_offset,
                    ended="killed",
                )
            )
        return True
    except OSError:
        return False
    finally:
        tail.close()


def _write_off(path: Path) -> bool:
    """Count the lines of a dead spool's only segment as damaged, because nothing says where it begins.

    What was sent before bounds it: it begins at or before that offset. So a segment of our own that begins
    behind everything it can hold says how many lines there were, at most. Where segments before it are still
    there, it begins behind those, sent or not: they are read, and it is left as it is.

    Returns:
        Whether that segment is there now.
    """
    paths, sent = segment_paths(path), sent_offset(path)
    number = segment_number(paths[-1].name) if paths else None
    if len(paths) != 1 or number is None or sent is None or not is_spool_id(path.name):
        return False
    data = unplaced_data(paths[-1])
    header = SegmentHeader(spool_id=path.name, segment=number, first_offset=sent, resource={}, thinned=True)
    end = max(sent + len(data), end_offset(header, data))
    lines = sum(not is_about_the_spool(line) for line in whole_lines(data))
    header = replace(header, segment=number + 1, first_offset=end, first_line=lines, thinned=False)
    told = loss_line(
        service_of(header, path),
        time.time_ns(),
        reason="damaged",
        count=lines,
        begin=sent,
        end=end,
    )
    try:
        write_new(path / segment_name(number + 1), header.encode() + told)
    except OSError:
        return False  # a full disk: another time
    write_sent(path, end)  # or what lies between would be taken for deleted, and counted once more
    return True


def _delete_unfinished(path: Path) -> None:
    """Delete what a process left that died while it made its directory."""
    try:
        if time.time() - path.stat().st_mtime < UNFINISHED_AGE_S_MAX:
            return
        lock = try_lock(path / LOCK_FILE)
    except OSError:
        return
    if lock is not None or not (path / LOCK_FILE).exists():
        delete_spool(path)
    if lock is not None:
        lock.release()


def _unlink(path: Path) -> None:
    try:
        path.unlink()
    except OSError:
        pass
