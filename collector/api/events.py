"""Changes and findings: events in the store, listed and, as far as people tell them, taken in.

`CollectorClient.changes` and `CollectorClient.findings` have the same methods with the same arguments,
results and errors.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

from collector.api.event_shapes import (
    ChangeObject,
    ChangesObject,
    FindingObject,
    FindingsObject,
    RecordedChangeObject,
)
from collector.api.shapes import JsonObject, plain
from collector.api.words import read_time
from collector.changes import ToldChange, change_line, change_of, changes_condition
from collector.errors import QueryError
from collector.model import Record
from collector.store.conditions import Condition
from collector.store.contract import Store
from collector.watch import event_of, findings_condition
from tracing.line import format_timestamp

PAGE_EVENTS_MAX: Final = 1_000

Write = Callable[[str, bytes], None]  # identity and line of a record; returns once it is durable
View = TypeVar("View")  # an event as it is given to people
Time = str | int | None  # in human words, or epoch nanoseconds


class _Events:
    """What both have: pages of records that match."""

    def __init__(self, store: Store, clock_ns: Callable[[], int]) -> None:
        self._store = store
        self._clock_ns = clock_ns

    def _page(
        self,
        condition: Condition,
        view: Callable[[Record], View | None],
        *,
        start: Time,
        end: Time,
        limit: int,
        cursor: str | None,
    ) -> tuple[list[View], str | None]:
        """Events as they are given, and where the next page begins; what `view` cannot read is left out."""
        if not 1 <= limit <= PAGE_EVENTS_MAX:
            raise QueryError(f"limit {limit}: must be in 1..{PAGE_EVENTS_MAX}")
        now_ns = self._clock_ns()
        page = self._store.search(
            condition,
            start_ns=read_time(start, now_ns),
            end_ns=read_time(end, now_ns),
            limit=limit,
            cursor=cursor,
        )
        views = [found for record in page.records if (found := view(record)) is not None]
        return views, page.cursor


class ChangeAnswers(_Events):
    """What was changed on purpose.

    Args:
        write: takes a record in; `None`: this is only read.
    """

    def __init__(self, store: Store, clock_ns: Callable[[], int], write: Write | None = None) -> None:
        super().__init__(store, clock_ns)
        self._write = write

    def list(
        self,
        *,
        start: Time = None,
        end: Time = None,
        service: str | None = None,
        kind: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> JsonObject:
        """Changes, newest first, a page at a time (`event_shapes.ChangesObject`).

        Args:
            start: earliest time, in human words or epoch nanoseconds, included.
            end: latest time, not included.
            service: only those that concern it, or everybody.
            kind: only of this kind.
            limit: how many.
            cursor: of the page before.
        Raises:
            QueryError: a time cannot be understood, the limit is out of range, or the cursor is not ours.
        """
        condition = changes_condition(service=service, kind=kind)
        found, after = self._page(condition, _change_view, start=start, end=end, limit=limit, cursor=cursor)
        return plain(ChangesObject(changes=found, cursor=after))

    def record(self, told: ToldChange) -> JsonObject:
        """Take a change in (`event_shapes.RecordedChangeObject`); it is durable when this returns.

        Raises:
            Refused: it cannot be taken; the message says why.
            Overloaded: there is no room.
            QueryError: this data is only read.
        """
        if self._write is None:
            raise QueryError("a change is told to the running collector; name it with its URL")
        uid, line = change_line(told, now_ns=self._clock_ns())
        self._write(uid, line)
        return plain(RecordedChangeObject(uid=uid))


class FindingAnswers(_Events):
    """What the watch has found."""

    def list(
        self,
        *,
        start: Time = None,
        end: Time = None,
        service: str | None = None,
        state: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> JsonObject:
        """Findings, newest first, a page at a time (`event_shapes.FindingsObject`).

        Args:
            start: earliest time, in human words or epoch nanoseconds, included.
            end: latest time, not included.
            service: only those that accuse it.
            state: only these moments: `began`, `ended`, `usual`.
            limit: how many.
            cursor: of the page before.
        Raises:
            QueryError: a time cannot be understood, the limit is out of range, or the cursor is not ours.
        """
        condition = findings_condition(service=service, state=state)
        found, after = self._page(condition, _finding_view, start=start, end=end, limit=limit, cursor=cursor)
        return plain(FindingsObject(findings=found, cursor=after))


def _change_view(record: Record) -> ChangeObject | None:
    change = change_of(record)
    if change is None:
        return None
    return ChangeObject(
        uid=change.uid,
        timestamp=format_timestamp(change.timestamp_ns),
        kind=change.kind,
        service=change.service,
        name=change.name,
        old=change.old,
        new=change.new,
        message=change.message,
        attributes=change.record.attributes,
    )


def _finding_view(record: Record) -> FindingObject | None:
    event = event_of(record)
    if event is None:
        return None
    return FindingObject(
        uid=event.uid,
        id=event.id,
        state=event.state,
        timestamp=format_timestamp(event.start_ns),
        began=format_timestamp(event.began_ns),
        service=event.service,
        operation=event.operation,
        instance=event.instance,
        fault=event.fault,
        summary=event.summary,
        confidence=event.confidence,
        decades=event.decades,
        entries=event.entries,
        signals=event.signals,
        location=event.location,
        template=event.template,
        evidence=event.evidence,
        traces=event.traces,
    )
