"""One partition: a directory with an index, its dictionary, its records once more, and a note of its format.

A partition is made under another name and renamed when it is whole, so that a directory with a
partition's name can always be opened, whenever the process was killed.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec
import tantivy

from collector.errors import CollectorError, Damaged, DataDirectoryInUse, StoreFailed
from collector.model import Record
from collector.store.embedded import schema as sc
from collector.store.embedded.files import replace_file, sync_directory
from collector.store.embedded.profiles import Dictionary
from collector.store.embedded.records import RECORDS, RecordsFile
from collector.store.embedded.snapshot import Bounds, Figures, Snapshot, Unreadable, guarded, is_panic

# From a format to the next: each takes a partition's directory and leaves it in the next format's form.
# The format is written after each step, so that a crash in between repeats a step and never skips one.
FORMAT_VERSION: Final = 1
UPGRADES: Final[dict[int, Callable[[Path], None]]] = {}

NOTE: Final = "partition.json"
DICTIONARY: Final = "dictionary"
INDEX: Final = "index"


class Note(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a partition says of itself in `partition.json`."""

    format: int
    replaces: str | None = None  # name of the partition whose place it takes


class Partition:
    """A partition that is open for reading, and for writing while `writer` is there."""

    def __init__(self, path: Path, *, read_only: bool, known: Figures | None = None) -> None:
        """Open what is there.

        Args:
            known: what its figures were at the last commit that was noted.
        Raises:
            Damaged: a file is not what was written.
            CollectorError: it was written by a newer version.
        """
        self.path = path
        self.name = path.name
        self._read_only = read_only
        self.replaces = _brought_up_to_date(path, read_only=read_only).replaces
        self.dictionary = Dictionary(path / DICTIONARY, writable=not read_only)
        self._index = guarded(self.name, lambda: sc.open_index(str(path / INDEX)))
        self._writer: tantivy.IndexWriter | None = None
        kept = path / RECORDS
        self._records = RecordsFile(kept) if kept.exists() and not read_only else None
        self.dirty = False
        self._bounds: Bounds | None = None  # kept up to date from the first record that is added
        self._kinds: Counter[str] = Counter()  # likewise
        self._state = self._stat()
        self.snapshot = self._take_snapshot(known)
        self.committed_seq = self._highest_seq()
        self.appended_seq = self.committed_seq
        self.appended = self.snapshot.documents  # records, visible or not

    @classmethod
    def create(cls, path: Path, *, keep_records: bool, replaces: str | None = None) -> Partition:
        """Make an empty partition.

        Args:
            keep_records: keep each record once more, so that a damaged index can be built anew.
            replaces: the name of the partition whose place it takes.
        Raises:
            OSError: the disk is full or failed; nothing is left under the partition's name.
        """
        unfinished = path.with_name(f".new-{path.name}")
        shutil.rmtree(unfinished, ignore_errors=True)
        (unfinished / INDEX).mkdir(parents=True)
        sc.open_index(str(unfinished / INDEX), create=True)
        if keep_records:
            (unfinished / RECORDS).touch()
        _write_note(unfinished, Note(format=FORMAT_VERSION, replaces=replaces))
        sync_directory(unfinished)
        unfinished.rename(path)
        sync_directory(path.parent)
        return cls(path, read_only=False)

    def _stat(self) -> tuple[int, int, int]:
        """Changes whenever a commit or a merge has changed the index."""
        found = (self.path / INDEX / "meta.json").stat()
        return found.st_mtime_ns, found.st_ino, found.st_size

    def _take_snapshot(self, known: Figures | None = None) -> Snapshot:
        guarded(self.name, self._index.reload)
        if self._read_only:
            # After the index: a commit makes the dictionary durable first, so this order leaves no
            # number without its entry.
            self.dictionary.load()
        return Snapshot(self.name, guarded(self.name, self._index.searcher), self.dictionary, known)

    def _highest_seq(self) -> int:
        hits = guarded(self.name, lambda: self.snapshot.top_by(sc.SEQ, 1))
        return hits[0][0] if hits else 0

    def refresh(self) -> None:
        """See what another process has written since the last time; cheap when it has not.

        Raises:
            Damaged: a file is not what was written.
        """
        state = self._stat()
        if state != self._state:
            self.snapshot = self._take_snapshot()
            self._state = state

    # ------------------------------------------------------------ writing

    def open_writer(self, heap_bytes: int) -> None:
        """Get ready to write.

        Raises:
            DataDirectoryInUse: another process writes to it.
            StoreFailed: the disk is full or failed.
        """
        if self._writer is None:
            try:
                self._writer = guarded(self.name, lambda: self._index.writer(heap_bytes, 1))
            except Unreadable as error:
                if "lock" in str(error).lower():
                    raise DataDirectoryInUse(f"{self.path}: another process writes to it") from error
                raise StoreFailed(f"{self.path}: no writer: {error}") from error

    def add(
        self, document: tantivy.Document, *, order: int, record: Record, body: bytes, resource: int
    ) -> None:
        """Write one record into memory; `commit` makes it durable.

        Args:
            order: the record's place in time, as the document has it.
            record, body: as `codec.pack` gives them.
            resource: number of the record's resource in the dictionary.
        Raises:
            StoreFailed: the disk is full or failed.
        """
        assert self._writer is not None
        self.dirty = True
        try:
            self._writer.add_document(document)
            if self._records is not None:
                self._records.add(record, body, resource=resource)
        except BaseException as error:
            raise self._failure(error) from error
        self.appended += 1
        if self._bounds is None:
            self._bounds, self._kinds = self.snapshot.bounds or (order, order), Counter(self.snapshot.kinds)
        low, high = self._bounds
        if order < low or order > high:
            self._bounds = min(low, order), max(high, order)
        self._kinds[record.kind] += 1
        if record.seq > self.appended_seq:
            self.appended_seq = record.seq

    def _failure(self, error: BaseException) -> BaseException:
        if isinstance(error, Exception) or is_panic(error):
            return StoreFailed(f"{self.path}: cannot be written to: {error}")
        return error

    def commit(self) -> None:
        """Make what was added durable and visible; does nothing when nothing was.

        Raises:
            StoreFailed: the disk is full or failed.
        """
        if not self.dirty or self._writer is None:
            return
        try:
            if self._records is not None:
                self._records.save()
            self.dictionary.save()
            self._writer.commit()
        except BaseException as error:
            raise self._failure(error) from error
        self.dirty = False
        self.committed_seq = self.appended_seq
        known = None if self._bounds is None else Figures(self.appended, self._bounds, dict(self._kinds))
        self.snapshot = self._take_snapshot(known)
        self.appended = self.snapshot.documents

    def delete(self, query: tantivy.Query, seqs: Sequence[int]) -> None:
        """Take records out; `commit` makes it durable and visible.

        Args:
            seqs: the numbers of the records; with a 0, for one that has none, records are kept no more.
        Raises:
            OSError: the disk is full or failed.
        """
        assert self._writer is not None
        self.dirty = True
        self._bounds = None
        if self._records is not None:
            if 0 in seqs:  # these cannot be named, and must not come back
                self._records.close()
                self._records = None
                (self.path / RECORDS).unlink()
            else:
                self._records.note_deleted(seqs)
        self._writer.delete_documents_by_query(query)

    def abandon(self) -> None:
        """Forget what was added since the last commit, and the writer, which may be broken."""
        self._writer = None
        if self._records is not None:
            self._records.close()
        self.dirty = False
        self._bounds = None
        self.appended_seq = self.committed_seq
        self.appended = self.snapshot.documents

    def close_writer(self) -> None:
        """Let go of the writer, its thread and its memory; what was committed stays."""
        self.abandon()
        self.dictionary.close()

    @property
    def keeps_records(self) -> bool:
        """Whether each record is kept once more beside the index."""
        return self._records is not None

    @property
    def writing(self) -> bool:
        """Whether a writer is open."""
        return self._writer is not None

    def bytes(self) -> int:
        """Size on disk."""
        total = 0
        for directory in (self.path, self.path / INDEX):
            for entry in os.scandir(directory):
                try:
                    if entry.is_file():
                        total += entry.stat().st_size
                except FileNotFoundError:
                    continue  # a merge has just replaced it
        return total


def _brought_up_to_date(path: Path, *, read_only: bool) -> Note:
    """Read a partition's note, and bring an older one to the present format first."""
    try:
        note = msgspec.json.decode((path / NOTE).read_bytes(), type=Note)
    except (OSError, msgspec.DecodeError) as error:
        raise Damaged(f"{path / NOTE}: {error}") from error
    if note.format > FORMAT_VERSION:
        raise CollectorError(
            f"{path}: written in format {note.format}, this version reads up to {FORMAT_VERSION}; "
            "use the version of backtrail that wrote it, or a newer one"
        )
    if note.format < FORMAT_VERSION and read_only:
        raise CollectorError(
            f"{path}: format {note.format} has to be brought up to date; start the collector"
        )
    while note.format < FORMAT_VERSION:
        UPGRADES[note.format](path)
        note = msgspec.structs.replace(note, format=note.format + 1)
        _write_note(path, note)
    return note


def _write_note(path: Path, note: Note) -> None:
    replace_file(path / NOTE, msgspec.json.encode(note), durable=True)
