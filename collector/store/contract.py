"""The store's promises. `collector.testing.store_contract` holds one test for each of them.

Who may call what: one thread writes (`append`, `commit`, `refresh`, `delete`); any thread reads.

Durable: a record is safe once `commit` has returned a sequence number at or above its own. Before,
it may be lost by a crash; the write-ahead log still has it. `durable_seq` survives a restart.
Repeatable: appending a record whose `seq` is not above the highest one of its partition changes nothing,
nor does a `uid` that is already stored when `append` is called with `check_uids=True`. Sequence numbers
therefore never start again while the store lives: a new write-ahead log begins above `durable_seq`.
Failing: when `append` or `commit` raises `StoreFailed`, what was appended since the last commit is gone
from the store; the caller appends it again from the write-ahead log, everything above `durable_seq`.
Visible: after `refresh` (which `commit` includes) every earlier `append` is found.
Faithful: a record comes back as it was appended, in a copy of its own; what JSON cannot say (NaN, lone
surrogates, values of unknown types) comes back as `collector.store.codec` writes it.
Ordered: a trace by `(timestamp_ns, uid)`, earliest first; a search newest first by the same key.
Counted: `log` and `span` are records; `span_start` and `loss` are kept, found by `trace`, and neither
counted nor found by a search that does not ask for their `kind`.
Absent: an unknown trace, uid or value is an empty answer, never an error.
Removed: what `delete` or `drop_before` took out is in no answer after it returned, and stays out.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Final, Protocol, runtime_checkable

import msgspec

from collector.model import Record
from collector.store.conditions import Condition, Everything

Place = tuple[int, str]  # in an ordered answer: a time in nanoseconds, and what decides within it

EVERYTHING = Everything()
MINUTE_NS: Final = 60_000_000_000
STEPS_MAX: Final = 1_500  # a day by the minute


class Appended(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a batch; the three add up to its size."""

    stored: int
    already_stored: int
    refused: list[tuple[Record, str]] = []  # cannot be taken ever; with a word for the reason


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """A part of a search's answer, newest first."""

    records: list[Record]
    cursor: str | None  # for the next page; None: this was the last
    total: int | None = None  # all that match, if it was asked for


class TraceSummary(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a list of traces. Its root is the earliest span without a stored parent.

    A trace without spans is named by its earliest log. Start and duration span all its records.
    """

    trace_id: str
    service: str
    name: str
    start_ns: int
    duration_ns: int
    error: bool
    spans: int
    logs: int


class Bucket(msgspec.Struct, frozen=True, kw_only=True):
    """How many records share a value."""

    value: str
    count: int


class ServiceSummary(msgspec.Struct, frozen=True, kw_only=True):
    """One service in a time range."""

    service: str
    spans: int
    logs: int
    errors: int
    operations: int
    duration_p50_ns: int | None  # of its spans, from the stored buckets: within 2.5 %
    duration_p95_ns: int | None


class OperationSummary(msgspec.Struct, frozen=True, kw_only=True):
    """One operation of a service in a time range."""

    service: str
    name: str
    spans: int
    errors: int
    duration_p50_ns: int
    duration_p95_ns: int
    duration_p99_ns: int


class Edge(msgspec.Struct, frozen=True, kw_only=True):
    """Calls from one service to another, seen as a span whose parent ran elsewhere."""

    caller: str
    callee: str
    calls: int
    errors: int


class Rate(msgspec.Struct, frozen=True, kw_only=True):
    """What happened in one step of time."""

    start_ns: int
    spans: int
    logs: int
    errors: int
    duration_p50_ns: int | None  # of the spans, from the stored buckets: within 2.5 %
    duration_p95_ns: int | None


class StoreStats(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a store."""

    records: int  # logs and spans
    logs: int
    spans: int
    span_starts: int
    losses: int
    partitions: int
    bytes: int  # on disk; 0 for a store in memory
    oldest_ns: int | None
    newest_ns: int | None
    durable_seq: int
    damaged_partitions: int = 0  # set aside since the store was made
    damaged_records: int = 0  # that were in them, as far as is known
    away: str | None = None  # why nothing but `durable_seq` is known at the moment
    rebuilt_partitions: int = 0  # of the damaged ones, out of what is kept of them beside their index
    rebuilt_records: int = 0  # that are back


class Store(Protocol):
    """Keeps records and finds them again. The promises are in the module's docstring."""

    def append(
        self, records: Sequence[Record], *, check_uids: bool = False, check_since_ns: int = 0
    ) -> Appended:
        """Take a batch in; not durable before `commit`.

        Args:
            records: with `seq` rising, or 0 for records that did not go through a write-ahead log.
            check_uids: look each `uid` up first, for senders that may repeat themselves.
            check_since_ns: what arrived before this time need not be looked at for it.
        Raises:
            StoreFailed: the disk is full or failed; see "Failing" above.
        """
        ...

    def commit(self) -> int:
        """Make every appended record durable and visible; return the highest `seq` that is.

        Raises:
            StoreFailed: the disk is full or failed; see "Failing" above.
        """
        ...

    def refresh(self) -> None:
        """Make every appended record visible, durable or not."""
        ...

    def existing(self, uids: Collection[str]) -> set[str]:
        """Which of these are stored and visible."""
        ...

    def trace(self, trace_id: str, *, records_max: int) -> list[Record]:
        """The records of a trace of every kind, earliest first; a limit keeps the earliest."""
        ...

    def traces(self, trace_ids: Collection[str], *, records_max: int) -> dict[str, list[Record]]:
        """Many traces at once, each as `trace` gives it; `records_max` for each; absent ones left out.

        They come in the order asked for, so that what is made of them is the same each time.
        """
        ...

    def search(
        self,
        condition: Condition = EVERYTHING,
        *,
        start_ns: int | None = None,
        end_ns: int | None = None,
        limit: int = 50,
        cursor: str | None = None,
        with_total: bool = False,
    ) -> Page:
        """Records that match, newest first; `start_ns` is included, `end_ns` is not.

        Raises:
            QueryError: the cursor is not one of ours.
        """
        ...

    def count(
        self, condition: Condition = EVERYTHING, *, start_ns: int | None = None, end_ns: int | None = None
    ) -> int:
        """How many records match, exactly."""
        ...

    def facets(
        self,
        field: str,
        condition: Condition = EVERYTHING,
        *,
        start_ns: int | None = None,
        end_ns: int | None = None,
        limit: int = 20,
    ) -> list[Bucket]:
        """The most frequent values of a field, by count, then value; a list counts once for each value.

        Raises:
            QueryError: the field is one of words, a time or a duration.
        """
        ...

    def find_traces(
        self,
        condition: Condition = EVERYTHING,
        *,
        start_ns: int | None = None,
        end_ns: int | None = None,
        min_duration_ns: int | None = None,
        error: bool | None = None,
        before: Place | None = None,
        limit: int = 20,
    ) -> list[TraceSummary]:
        """Traces with a span or log that matches, newest first by their start, then by their id.

        Args:
            min_duration_ns, error: asked of the whole trace.
            before: only traces behind this place, `(start_ns, trace_id)` of the last one that was given;
                a trace moves when a record of it arrives that is earlier than all others.
        """
        ...

    def services(
        self, condition: Condition = EVERYTHING, *, start_ns: int | None = None, end_ns: int | None = None
    ) -> list[ServiceSummary]:
        """Every service with a record that matches, by name; only those records are counted."""
        ...

    def operations(
        self,
        service: str,
        condition: Condition = EVERYTHING,
        *,
        start_ns: int | None = None,
        end_ns: int | None = None,
    ) -> list[OperationSummary]:
        """Every operation of a service with a span that matches, by name; only those are counted."""
        ...

    def edges(
        self, condition: Condition = EVERYTHING, *, start_ns: int | None = None, end_ns: int | None = None
    ) -> list[Edge]:
        """Who calls whom, by caller and callee; the condition and the times are asked of the called spans.

        The caller is the service of the parent span, whenever that span was. What is known of a call
        stays known when only the parent's record is deleted.
        """
        ...

    def stats(self) -> StoreStats:
        """Counts and sizes; cheap enough to be asked every second."""
        ...

    def delete(self, condition: Condition) -> int:
        """Take out every record that matches, of any kind, at once and durably; return how many.

        Appended records that are not visible yet are made visible first, so that none escapes.
        """
        ...

    def drop_before(self, received_ns: int) -> int:
        """Let go of records that arrived before a time, as whole partitions; return how many.

        A partition goes when everything in it arrived earlier, so some earlier records may stay a while.
        """
        ...

    def close(self) -> None:
        """Commit and let go of every file; closing twice is harmless."""
        ...


@runtime_checkable
class AppendsAhead(Protocol):
    """A store far away, that can be on its way with one batch while the next is being made."""

    def begin_append(self, records: Sequence[Record]) -> Callable[[], Appended]:
        """Begin an `append` without `check_uids`, and wait for nothing.

        Returns:
            What waits for the batch, and gives what `append` would. To be called in the order of beginning,
            and of every batch before the next `append`, `commit`, `delete` or `drop_before`.
        Raises:
            StoreFailed: here or there; then every batch that was begun and is not finished has failed, too,
                and nothing of them is on its way any more.
        """
        ...


class Timeline(Protocol):
    """What a store may know beside: how records come over time."""

    def rates(
        self,
        condition: Condition = EVERYTHING,
        *,
        start_ns: int,
        end_ns: int,
        step_ns: int = MINUTE_NS,
    ) -> list[Rate]:
        """Records, errors and durations step by step, empty steps too, earliest first.

        Steps begin at multiples of `step_ns` since 1970; of the first and the last only what lies between
        `start_ns` (included) and `end_ns` (not included) is counted.

        Raises:
            QueryError: the step is not whole minutes, or there would be more than `STEPS_MAX` steps.
        """
        ...
