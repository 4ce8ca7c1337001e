"""What many records have in common, kept once a partition and named by a number.

A *profile* is every property of a record that takes few values: service, kind, level, logger, span
name, source line, status … and which of the other fields it has. One log statement makes one profile.
A *resource* is the process that wrote the record. A document in the index holds two numbers in place
of a dozen terms, which is what makes writing fast; a condition on such a property is asked of the
profiles in Python, by `conditions.matches` itself, and becomes a set of numbers; counts by service,
level or operation are counts by profile, added up.

Both live in the file `dictionary` of the partition: a line each, its checksum in front, in the order
of their numbers, made durable before a commit that uses them. Names without bound (a service that
puts ids into span names) end in more partitions, not in more memory: see `partition_profiles_max`.
"""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any, BinaryIO, Final, NamedTuple
from zlib import crc32

import msgspec

from collector.errors import Damaged
from collector.model import NO_ATTRIBUTES, ExceptionInfo, Kind, Record, Source, Status
from collector.store.codec import pack_resource, unpack_resource
from collector.store.conditions import Condition, matches

# Which of the fields with many values a record has, as bits.
HAS_MESSAGE: Final = 1
HAS_TRACE_ID: Final = 2
HAS_SPAN_ID: Final = 4
HAS_PARENT_SPAN_ID: Final = 8
HAS_DURATION: Final = 16
HAS_EXCEPTION_MESSAGE: Final = 32

_CONDITIONS_REMEMBERED_MAX: Final = 20  # for each partition; a set may hold thousands of numbers
_RESOURCES_SEEN_MAX: Final = 1_000


class Profile(NamedTuple):
    """The properties; a tuple, because it is made and hashed once for each record that is written."""

    kind: Kind
    level: str
    severity_number: int
    service: str
    logger: str | None
    name: str | None
    span_kind: str | None
    status: str | None
    exception_type: str | None
    source_file: str | None
    source_line: int | None
    source_function: str | None
    has: int
    caller: str | None  # service of the parent span, when it is known and another one

    def as_record(self) -> Record:
        """A record with these properties; fields that are only known to be there are empty."""
        return Record(
            uid="",
            timestamp_ns=0,
            level=self.level,
            severity_number=self.severity_number,
            service=self.service,
            kind=self.kind,
            trace_id="" if self.has & HAS_TRACE_ID else None,
            span_id="" if self.has & HAS_SPAN_ID else None,
            message="" if self.has & HAS_MESSAGE else None,
            logger=self.logger,
            exception=ExceptionInfo(
                type=self.exception_type, message="" if self.has & HAS_EXCEPTION_MESSAGE else None
            ),
            source=Source(file=self.source_file, line=self.source_line, function=self.source_function),
            name=self.name,
            span_kind=self.span_kind,
            parent_span_id="" if self.has & HAS_PARENT_SPAN_ID else None,
            duration_ns=0 if self.has & HAS_DURATION else None,
            status=None if self.status is None else Status(code=self.status),
        )


def profile_of(record: Record, caller: str | None) -> Profile:
    """The profile of a record."""
    exception, source, status = record.exception, record.source, record.status
    has = 0
    if record.message is not None:
        has |= HAS_MESSAGE
    if record.trace_id is not None:
        has |= HAS_TRACE_ID
    if record.span_id is not None:
        has |= HAS_SPAN_ID
    if record.parent_span_id is not None:
        has |= HAS_PARENT_SPAN_ID
    if record.duration_ns is not None:
        has |= HAS_DURATION
    exception_type = None
    if exception is not None:
        exception_type = exception.type
        if exception.message is not None:
            has |= HAS_EXCEPTION_MESSAGE
    file = line = function = None
    if source is not None:
        file, line, function = source.file, source.line, source.function
    return Profile(
        record.kind,
        record.level,
        record.severity_number,
        record.service,
        record.logger,
        record.name,
        record.span_kind,
        None if status is None else status.code,
        exception_type,
        file,
        line,
        function,
        has,
        caller,
    )


class Dictionary:
    """Profiles and resources of one partition: read by many threads, grown by one.

    Entries are only ever added, so a reader's numbers stay good.
    """

    def __init__(self, path: Path, *, writable: bool) -> None:
        self._path = path
        self._writable = writable
        self._read_to = 0
        self._unsaved: list[bytes] = []
        self._file: BinaryIO | None = None
        self._profile_ids: dict[Profile, int] = {}
        self._resource_ids: dict[bytes, int] = {}
        self._seen_resources: dict[int, tuple[dict[str, Any], int]] = {}
        self._lock = Lock()
        self._matching: dict[tuple[str, str], tuple[int, frozenset[int]]] = {}
        self.profiles: list[Profile] = []
        self.profile_records: list[Record] = []  # each profile as a record
        self.resources: list[dict[str, Any]] = []
        self.resource_records: list[Record] = []  # each resource as a record that has nothing else
        self.load()

    def load(self) -> None:
        """Read what was added to the file since the last time; a writer cuts off a torn last line.

        Raises:
            Damaged: a whole line is not what was written.
        """
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._read_to)
            data = file.read()
        end = data.rfind(b"\n") + 1
        for line in data[:end].splitlines():
            self._take(line)
        self._read_to += end
        if self._writable and end < len(data):
            os.truncate(self._path, self._read_to)

    def _take(self, line: bytes) -> None:
        checksum, _, body = line.partition(b" ")
        try:
            whole = int(checksum, 16) == crc32(body)
        except ValueError:
            whole = False
        if not whole:
            raise Damaged(f"{self._path}: entry {len(self.profiles) + len(self.resources)} is damaged")
        if body.startswith(b"["):
            self._add_profile(_profile_decoder.decode(body))
        else:
            self._add_resource(body)

    def profile_id(self, profile: Profile) -> int:
        """The number of a profile, a new one when it was not there."""
        number = self._profile_ids.get(profile)
        if number is None:
            # None of the texts can be without an encoding: records are made storable first.
            self._unsaved.append(msgspec.json.encode(profile))
            number = self._add_profile(profile)
        return number

    def resource_id(self, resource: dict[str, Any]) -> int:
        """The number of a resource, a new one when it was not there."""
        seen = self._seen_resources.get(id(resource))
        if seen is not None and seen[0] is resource:  # the records of a process share one object
            return seen[1]
        number = self._resource_id(resource)
        if len(self._seen_resources) >= _RESOURCES_SEEN_MAX:
            self._seen_resources.clear()
        # The object is kept with its number, so that its id belongs to no other one.
        self._seen_resources[id(resource)] = resource, number
        return number

    def _resource_id(self, resource: dict[str, Any]) -> int:
        body = pack_resource(resource)
        number = self._resource_ids.get(body)
        if number is None:
            self._unsaved.append(body)
            number = self._add_resource(body)
        return number

    def _add_profile(self, profile: Profile) -> int:
        number = len(self.profiles)
        profile, record = _shared_profile(profile)
        self.profile_records.append(record)
        self.profiles.append(profile)
        self._profile_ids[profile] = number
        return number

    def _add_resource(self, body: bytes) -> int:
        number = len(self.resources)
        record = _shared_resource(body)
        self.resource_records.append(record)
        self.resources.append(record.resource)
        self._resource_ids[body] = number
        return number

    def save(self) -> None:
        """Make what was added durable; does nothing when nothing was."""
        if not self._unsaved:
            return
        lines = b"".join(b"%08x %b\n" % (crc32(body), body) for body in self._unsaved)
        if self._file is None:
            self._file = self._path.open("ab")
            self._file.truncate(self._read_to)
        try:
            self._file.write(lines)
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError:
            # A part may have been written; the next attempt begins at the same place.
            self.close()
            raise
        self._read_to += len(lines)
        self._unsaved.clear()

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            file, self._file = self._file, None
            try:
                file.close()
            except OSError:
                pass  # what it still held back is written again by the next `save`

    def matching_profiles(self, condition: Condition) -> frozenset[int]:
        """The numbers of the profiles that fulfil a condition; asked anew only of new ones."""
        return self._matching_numbers("profiles", condition, self.profile_records)

    def matching_resources(self, condition: Condition) -> frozenset[int]:
        """The numbers of the resources that fulfil a condition."""
        return self._matching_numbers("resources", condition, self.resource_records)

    def _matching_numbers(self, of: str, condition: Condition, records: list[Record]) -> frozenset[int]:
        # By its repr, because Equals("x", 1) == Equals("x", True) and they do not mean the same.
        key = of, repr(condition)
        asked, numbers = self._matching.get(key, (0, frozenset()))
        count = len(records)
        if asked < count:
            found = [number for number in range(asked, count) if matches(condition, records[number])]
            numbers = numbers.union(found)
            with self._lock:
                self._matching.pop(key, None)
                if len(self._matching) >= _CONDITIONS_REMEMBERED_MAX:
                    del self._matching[next(iter(self._matching))]  # the one that was made first
                self._matching[key] = count, numbers
        return numbers


# The days of a store have nearly the same profiles and resources: one object each, for all of them.
@lru_cache(maxsize=50_000)
def _shared_profile(profile: Profile) -> tuple[Profile, Record]:
    return profile, profile.as_record()


@lru_cache(maxsize=10_000)
def _shared_resource(body: bytes) -> Record:
    resource = unpack_resource(body) or NO_ATTRIBUTES
    return Record(uid="", timestamp_ns=0, level="", severity_number=0, service="", resource=resource)


_profile_decoder: Final[msgspec.json.Decoder[Profile]] = msgspec.json.Decoder(Profile)
