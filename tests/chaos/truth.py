"""What was sent, written down by the senders themselves where a SIGKILL cannot take it away.

Each writer (a thread of a process) numbers its records 0, 1, 2 … and has a mapped file: how many calls
have begun, and for each number the time at which its call returned. A number that began and did not return
is in doubt: it may be stored or not.
"""

from __future__ import annotations

import mmap
import re
import struct
import time
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

SUFFIX: Final = ".truth"
RECORDS_MAX: Final = 1_000_000  # of one writer; the file is sparse
_BEGUN: Final = struct.Struct("<Q")
_SLOT: Final = struct.Struct("<Q")
_MARK: Final = re.compile(r"chaos ([\w.-]+) ([0-9]+)\b")


class Mark(NamedTuple):
    """A record, by who wrote it and its number."""

    writer: str
    number: int

    def __str__(self) -> str:
        return f"chaos {self.writer} {self.number}"


def mark_of(text: str) -> Mark | None:
    """The mark in a text, `None` when it has none."""
    found = _MARK.search(text)
    return Mark(found[1], int(found[2])) if found else None


class Writer:
    """Numbers the records of one thread. For that thread only."""

    def __init__(self, directory: Path, name: str, *, records_max: int = RECORDS_MAX) -> None:
        """Begin at 0.

        Args:
            name: `<service>.<pid>.<anything unique>`, letters, digits, dots and dashes.
        """
        self.name = name
        self._next = 0
        self._records_max = records_max
        size = _BEGUN.size + records_max * _SLOT.size
        with (directory / f"{name}{SUFFIX}").open("wb+") as file:
            file.truncate(size)
            self._map = mmap.mmap(file.fileno(), size)

    @contextmanager
    def record(self) -> Iterator[Mark]:
        """The mark for one record; the block is the call that writes it."""
        number = self._next
        if number >= self._records_max:
            raise RuntimeError(f"{self.name} has written {number} records, more than its file has room for")
        self._next += 1
        _BEGUN.pack_into(self._map, 0, self._next)
        yield Mark(self.name, number)
        _SLOT.pack_into(self._map, _BEGUN.size + number * _SLOT.size, time.monotonic_ns())


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """What one writer has sent."""

    writer: str
    begun: int  # calls that began: numbers from here on were never sent
    returned_ns: array[int]  # by number: when its call returned, of the monotonic clock; 0: it did not

    @property
    def service(self) -> str:
        """Name of the service that it was a thread of."""
        return self.writer.split(".")[0]

    @property
    def pid(self) -> int:
        """Its process."""
        return int(self.writer.split(".")[1])

    @property
    def returned(self) -> set[int]:
        """Numbers whose calls have returned: these must be stored, or their loss must be told."""
        return {number for number, at_ns in enumerate(self.returned_ns) if at_ns}


def read_truth(directory: Path) -> dict[str, Sent]:
    """Everything that all writers of a run have sent, by writer."""
    found = {}
    for path in sorted(directory.glob(f"*{SUFFIX}")):
        with path.open("rb") as file:
            (begun,) = _BEGUN.unpack(file.read(_BEGUN.size))
            times = array("Q", file.read(begun * _SLOT.size))
        name = path.name.removesuffix(SUFFIX)
        found[name] = Sent(writer=name, begun=begun, returned_ns=times)
    return found
