"""Records that a store will never take as they are: kept on the collector's disk, with the reason.

One file of lines, only ever appended to: a letter, or the note that one has been dealt with. It is
written anew when more than half of it is of no use. For one process at a time, any of its threads.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Final, Protocol, runtime_checkable

import msgspec

from collector.errors import NotFound, StoreFailed
from collector.model import Record
from collector.store.codec import pack, pack_resource, unpack, unpack_resource
from collector.store.contract import Appended

FILE_NAME: Final = "dead-letters.ndjson"  # in the store's directory
_REWRITE_BYTES_MIN: Final = 1024 * 1024
_NO_RESOURCE: Final = msgspec.Raw()  # this very one is left out


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One record that was refused."""

    uid: str
    stream: str
    reason: str  # Elasticsearch's word, or ours: `timestamp_out_of_range`
    message: str  # the server's sentence
    refused_ns: int  # our clock
    record: msgspec.Raw  # as `codec.pack` writes it
    field: str | None = None  # that the trouble is at, when the server said
    resource: msgspec.Raw = _NO_RESOURCE
    document: str | None = None  # what was sent, JSON

    def as_record(self) -> Record:
        """The record, ready to be appended again."""
        resource = unpack_resource(bytes(self.resource)) if bytes(self.resource) else {}
        return unpack(bytes(self.record), resource)


class _Line(msgspec.Struct, frozen=True, omit_defaults=True):
    letter: DeadLetter | None = None
    done: str | None = None  # uid of a letter that has been dealt with


class _Place(msgspec.Struct, frozen=True):
    offset: int
    length: int


def make_letter(
    record: Record,
    stream: str,
    *,
    reason: str,
    message: str,
    refused_ns: int,
    field: str | None = None,
    document: bytes | None = None,
) -> DeadLetter:
    """Put a record into an envelope."""
    body, record = pack(record)
    return DeadLetter(
        uid=record.uid,
        stream=stream,
        reason=reason,
        message=message,
        refused_ns=refused_ns,
        record=msgspec.Raw(body),
        field=field,
        resource=msgspec.Raw(pack_resource(record.resource)) if record.resource else _NO_RESOURCE,
        document=None if document is None else document.decode("utf-8", "replace"),
    )


class DeadLetters:
    """The file of refused records."""

    def __init__(self, path: Path, *, bytes_max: int = 0) -> None:
        """Open it; a last line that was cut short by a crash is dropped.

        Args:
            path: the file; made with the first letter.
            bytes_max: beyond, nothing more is taken in and the store stops rather than lose a record. Zero is
                for who only reads.
        """
        self._path = path
        self._bytes_max = bytes_max
        self._lock = threading.Lock()
        self._places: dict[str, _Place] = {}
        self._end = 0
        self._useful = 0
        self.unreadable = 0  # lines that were damaged
        if path.is_file():
            self._load()

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, uid: str) -> bool:
        return uid in self._places

    def add(self, letters: Collection[DeadLetter]) -> None:
        """Keep letters; on disk when this returns. One that is there already is replaced.

        Raises:
            StoreFailed: there is no room, or the disk failed.
        """
        if letters:
            self._append([_Line(letter=letter) for letter in letters])

    def remove(self, uids: Collection[str]) -> None:
        """Note that letters have been dealt with; unknown ones are passed over."""
        known = [uid for uid in uids if uid in self._places]
        if known:
            self._append([_Line(done=uid) for uid in known])

    def get(self, uid: str) -> DeadLetter:
        """One letter.

        Raises:
            NotFound: there is none for this record.
        """
        with self._lock:
            place = self._places.get(uid)
            if place is None:
                raise NotFound(f"no dead letter for record {uid!r}")
            return self._read(place)

    def page(self, *, limit: int = 50, after: str | None = None) -> list[DeadLetter]:
        """Letters in the order they came, behind one of them or from the first.

        Raises:
            NotFound: `after` has been dealt with since.
        """
        with self._lock:
            uids = list(self._places)
            if after is not None and after not in self._places:
                raise NotFound(
                    f"dead letter {after!r} has been dealt with, and what came behind it is not known"
                )
            start = 0 if after is None else uids.index(after) + 1
            return [self._read(self._places[uid]) for uid in uids[start : start + limit]]

    def uids(self) -> list[str]:
        """The records of all letters, in the order they came."""
        with self._lock:
            return list(self._places)

    def _append(self, lines: list[_Line]) -> None:
        encoded = [msgspec.json.encode(line) + b"\n" for line in lines]
        with self._lock:
            if any(line.letter for line in lines) and self._end + sum(map(len, encoded)) > self._bytes_max:
                raise StoreFailed(
                    f"{self._path}: {len(self._places)} dead letters fill {self._bytes_max} bytes;"
                    " replay or drop them"
                )
            try:
                with self._path.open("ab") as handle:
                    handle.truncate(self._end)  # of a write that failed half way
                    handle.write(b"".join(encoded))
                    handle.flush()
                    os.fsync(handle.fileno())
            except OSError as error:
                raise StoreFailed(f"{self._path}: {error.strerror}") from error
            for line, body in zip(lines, encoded, strict=True):
                self._take_in(line, len(body))
            if self._end > _REWRITE_BYTES_MIN and self._useful * 2 < self._end:
                self._rewrite()

    def _take_in(self, line: _Line, length: int) -> None:
        uid = line.letter.uid if line.letter is not None else line.done or ""
        before = self._places.pop(uid, None)
        if before is not None:
            self._useful -= before.length
        if line.letter is not None:
            self._places[uid] = _Place(self._end, length)
            self._useful += length
        self._end += length

    def _load(self) -> None:
        with self._path.open("rb") as handle:
            for body in handle:
                if not body.endswith(b"\n"):
                    break  # cut short; the record is still in the write-ahead log
                try:
                    line = msgspec.json.decode(body, type=_Line)
                except msgspec.MsgspecError:
                    self.unreadable += 1
                    self._end += len(body)
                    continue
                self._take_in(line, len(body))

    def _read(self, place: _Place) -> DeadLetter:
        with self._path.open("rb") as handle:
            handle.seek(place.offset)
            letter = msgspec.json.decode(handle.read(place.length), type=_Line).letter
        assert letter is not None
        return letter

    def _rewrite(self) -> None:
        half = self._path.with_suffix(".new")
        with half.open("wb") as handle:
            for body in self._bodies():
                handle.write(body)
            handle.flush()
            os.fsync(handle.fileno())
        half.replace(self._path)
        places, self._places, self._end, self._useful = self._places, {}, 0, 0
        for uid, place in places.items():
            self._places[uid] = _Place(self._end, place.length)
            self._end += place.length
        self._useful = self._end

    def _bodies(self) -> Iterator[bytes]:
        with self._path.open("rb") as handle:
            for place in self._places.values():
                handle.seek(place.offset)
                yield handle.read(place.length)


@runtime_checkable
class KeepsDeadLetters(Protocol):
    """A store that puts aside what it is refused, and can be told to try again."""

    dead_letters: DeadLetters | None  # None: it was opened for reading

    def replay(self, uids: Collection[str] | None, *, edit: Callable[[Record], Record | None]) -> Appended:
        """Append dead letters again; what is taken leaves the letters.

        Args:
            uids: of the records; `None` means all.
            edit: what to send instead of a record; `None` leaves its letter where it is.
        Raises:
            NotFound: there is no letter for a uid; nothing was sent.
            StoreFailed: not this time; what was taken before has left the letters.
        """
        ...
