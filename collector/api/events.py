"""Changes and findings: events in the store, listed and, as far as people tell them, taken in.

`CollectorClient.changes` and `CollectorClient.findings` have the same methods with the same arguments,
results and errors.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from collector.api.event_shapes import (
    ChangeObject,
    ChangesObject,
    FindingObject,
    FindingsObject,
    RecordedChangeObject,
)
from collector.api.shapes import JsonObject, plain
from collector.api.words import read_time
from collector.changes import Change, ToldChange, change_line, change_of, changes_condition
from collector.errors import QueryError
from collector.store.conditions import Condition
from collector.store.contract import Page, Store
from collector.watch import FindingEvent, event_of, findings_condition
from tracing.line import format_timestamp

PAGE_EVENTS_MAX: Final = 1_000

Write = Callable[[str, bytes], None]  # identity and line of a record; returns once it is durable
Time = str | int | None  # in human words, or epoch nanoseconds


class _Events:
    """What both have: pages of records that match."""

    def __init__(self, store: Store, clock_ns: Callable[[], int]) -> None:
        self._store = store
        self._clock_ns = clock_ns

    def _page(self, condition: Condition, start: Time, end: Time, limit: int, cursor: str | None) -> Page:
        if not 1 <= limit <= PAGE_EVENTS_MAX:
            raise QueryError(f"limit {limit}: must be in 1..{PAGE_EVENTS_MAX}")
        now_ns = self._clock_ns()
        return self._store.search(
            condition,
            start_ns=read_time(start, now_ns),
            end_ns=read_time(end, now_ns),
            limit=limit,
            cursor=cursor,
        )


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
        page = self._page(changes_condition(service=service, kind=kind), start, end, limit, cursor)
        changes = [change for record in page.records if (change := change_of(record)) is not None]
        return plain(ChangesObject(changes=[_change_view(change) for change in changes], cursor=page.cursor))

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
        page = self._page(findings_condition(service=service, state=state), start, end, limit, cursor)
        events = [event for record in page.records if (event := event_of(record)) is not None]
        return plain(FindingsObject(findings=[_finding_view(event) for event in events], cursor=page.cursor))


def _change_view(change: Change) -> ChangeObject:
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


def _finding_view(event: FindingEvent) -> FindingObject:
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
