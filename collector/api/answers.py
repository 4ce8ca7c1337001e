"""Questions -> answers: what HTTP, the CLI on a data directory and tests all call.

Every method takes what a person types (a query, a time in human words, an id) and returns the plain JSON
object of `shapes`; `CollectorClient` has the same methods with the same arguments, the same results and
the same errors, so that a program need not care which of the two it holds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Protocol, Unpack

from collector.api import contexts, exports, rates, shapes, templates, views
from collector.api.asking import Asking
from collector.api.causes import CauseAnswers
from collector.api.events import ChangeAnswers, FindingAnswers, Write
from collector.api.filters import DeploymentFilters, OriginFilters, RecordFilters
from collector.api.letters import DeadLetterAnswers
from collector.api.pages import newest_pages
from collector.api.shapes import JsonObject, plain
from collector.api.traces import TracesAsked, traces_of
from collector.api.words import checked_trace_id, read_duration, read_structure
from collector.errors import NotFound, QueryError, StoreFailed
from collector.ledger import Ledger
from collector.model import Trace
from collector.store.conditions import And
from collector.store.contract import MINUTE_NS, Store, StoreStats
from collector.store.paging import read_cursor
from collector.trace.build import build_trace
from collector.watch import Measures

PAGE_RECORDS_MAX: Final = 1_000  # longest page; whoever wants all of it exports
CAUSE_WINDOW_DEFAULT_NS: Final = 15 * MINUTE_NS


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerLimits:
    """How much one answer may hold."""

    trace_records_max: int = 120_000  # a chain of 100 000 spans is drawn in seconds; more helps nobody
    page_records_max: int = PAGE_RECORDS_MAX


class HasStats(Protocol):
    """Anything that counts what it does."""

    def stats(self) -> Mapping[str, object]:
        """Counters and gauges by name."""
        ...


class Answers(Asking):
    """Answers questions about what a store holds.

    Args:
        store: any store that keeps the contract.
        ledger: what is known of the senders; without it no trace is said to be complete.
        intake: counted in `stats`, as are `wal` and `indexing`; absent without a running service.
        write: takes a record in, for changes that are told; `None`: this is only read.
        measures: what is known to be normal; without it, that is learned for each question.
        clock_ns: now, epoch nanoseconds, for times such as `15m`.
    """

    def __init__(
        self,
        store: Store,
        *,
        ledger: Ledger | None = None,
        intake: HasStats | None = None,
        wal: HasStats | None = None,
        indexing: HasStats | None = None,
        limits: AnswerLimits | None = None,
        write: Write | None = None,
        measures: Measures | None = None,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.dead_letters = DeadLetterAnswers.of(store)
        self.changes = ChangeAnswers(store, clock_ns, write)
        self.findings = FindingAnswers(store, clock_ns)
        status_of = self._status_of = ledger.trace_status if ledger is not None else None
        self._causes = CauseAnswers(store, status_of=status_of, measures=measures)
        self._store = store
        self._ledger = ledger
        self._counted = {"intake": intake, "wal": wal, "indexing": indexing}
        self._limits = limits or AnswerLimits()
        super().__init__(clock_ns, page_records_max=self._limits.page_records_max)

    def trace(self, trace_id: str) -> JsonObject:
        """The call chain of one trace (`shapes.TraceObject`).

        Raises:
            QueryError: not a trace id.
            NotFound: nothing is stored under it.
        """
        return plain(views.trace_view(self.trace_model(trace_id)))

    def trace_model(self, trace_id: str) -> Trace:
        """The same as `trace`, as the model's value."""
        trace_id = checked_trace_id(trace_id)
        records_max = self._limits.trace_records_max
        records = self._store.trace(trace_id, records_max=records_max)
        if not records:
            raise NotFound.of_trace(trace_id)
        status = self._ledger.trace_status(records) if self._ledger is not None else None
        hit = len(records) >= records_max
        return build_trace(trace_id, records, status=status, records_max_hit=hit)

    def traces(
        self,
        q: str = "",
        *,
        start: str | int | None = None,
        end: str | int | None = None,
        operation: str | None = None,
        min_duration: str | int | None = None,
        error: bool | None = None,
        limit: int = 20,
        cursor: str | None = None,
        **origin: Unpack[OriginFilters],
    ) -> JsonObject:
        """Traces with a record that matches, newest first, a page at a time (`shapes.TracesObject`).

        Args:
            q: search text; the empty text matches all; `a >> b` and `a > b` ask how spans stand.
            start: earliest time of a matching record, in human words or epoch nanoseconds, included.
            end: latest time, not included.
            operation: the matching span's name.
            min_duration: of the whole trace, as `250ms` or in nanoseconds.
            error: whether the trace has an error; `None`: either.
            limit: how many, at most `page_records_max`.
            cursor: of the page before.
            origin: of the matching record; with a structure: of every one.
        Raises:
            QueryError: a text cannot be understood, the limit is out of range, or the cursor is not ours.
        """
        start_ns, end_ns = self._times(start, end)
        asked = TracesAsked(
            start_ns=start_ns,
            end_ns=end_ns,
            min_duration_ns=read_duration(min_duration),
            error=error,
            limit=self._checked_limit(limit),
            before=None if cursor is None else read_cursor(cursor),
        )
        filters = self.condition(operation=operation, **origin)
        structure = read_structure(q, self._clock_ns())
        records_max = self._limits.trace_records_max
        return plain(traces_of(self._store, structure, filters, asked, trace_records_max=records_max))

    def logs(
        self,
        q: str = "",
        *,
        start: str | int | None = None,
        end: str | int | None = None,
        limit: int = 50,
        cursor: str | None = None,
        total: bool = False,
        **filters: Unpack[RecordFilters],
    ) -> JsonObject:
        """Records that match, newest first, a page at a time (`shapes.LogsObject`).

        Args:
            q: search text; the empty text matches all.
            start: earliest time, in human words or epoch nanoseconds, included.
            end: latest time, not included.
            limit: how many, at most `page_records_max`.
            cursor: of the page before.
            total: count all that match, too.
            filters: what else a record must be.
        Raises:
            QueryError: a text cannot be understood, the limit is out of range, or the cursor is not ours.
        """
        start_ns, end_ns = self._times(start, end)
        page = self._store.search(
            self.condition(q, **filters),
            start_ns=start_ns,
            end_ns=end_ns,
            limit=self._checked_limit(limit),
            cursor=cursor,
            with_total=total,
        )
        records = [views.record_view(record) for record in page.records]
        return plain(shapes.LogsObject(records=records, cursor=page.cursor, total=page.total))

    def facets(
        self,
        field: str,
        q: str = "",
        *,
        start: str | int | None = None,
        end: str | int | None = None,
        limit: int = 20,
        **filters: Unpack[RecordFilters],
    ) -> JsonObject:
        """The most frequent values of a field in the records that match (`shapes.FacetsObject`).

        Args:
            field: as in a search: `service`, `level`, `http.route`, `resource.host.name`.
            q: search text, and the rest as for `logs`.
            limit: how many values.
        Raises:
            QueryError: a text cannot be understood, or the field has no values to count.
        """
        start_ns, end_ns = self._times(start, end)
        buckets = self._store.facets(
            field,
            self.condition(q, **filters),
            start_ns=start_ns,
            end_ns=end_ns,
            limit=self._checked_limit(limit),
        )
        values = [views.same_fields(bucket, shapes.BucketObject) for bucket in buckets]
        return plain(shapes.FacetsObject(field=field, values=values))

    def export(
        self,
        format: str = "ndjson",
        *,
        q: str = "",
        start: str | int | None = None,
        end: str | int | None = None,
        limit: int | None = None,
        **filters: Unpack[RecordFilters],
    ) -> Iterator[bytes]:
        """Every record that matches, newest first, in a format for other tools, a piece at a time.

        Args:
            format: `ndjson`, `csv` or `otlp-json` (`collector.api.exports`).
            q: search text, and the rest as for `logs`.
            limit: how many records; `None`: all.
        Raises:
            QueryError: a text cannot be understood.
        """
        if format not in exports.FORMATS:
            raise QueryError(f"format {format!r:.80}: {', '.join(exports.FORMATS)} are known")
        start_ns, end_ns = self._times(start, end)
        condition = self.condition(q, **filters)
        pages = newest_pages(
            self._store,
            condition,
            start_ns=start_ns,
            end_ns=end_ns,
            limit=limit,
            page_records_max=self._limits.page_records_max,
        )
        return exports.written(exports.FORMATS[format], pages)

    def export_trace(self, trace_id: str) -> Iterator[bytes]:
        """One call chain for Perfetto and chrome://tracing.

        Raises:
            QueryError: not a trace id.
            NotFound: nothing is stored under it.
        """
        return exports.chrome_trace(self.trace_model(trace_id))

    def root_cause(
        self,
        trace_id: str | None = None,
        *,
        start: str | int | None = None,
        end: str | int | None = None,
        explain: bool = False,
        **deployment: Unpack[DeploymentFilters],
    ) -> JsonObject:
        """What caused the fault of a trace, or of a time range (`shapes.VerdictObject`).

        Args:
            trace_id: the trace; or:
            start: beginning of the time range, by default 15 minutes before its end.
            end: end of the time range, by default now.
            explain: say how it was come by: each signal's figures, and the distributions.
            deployment: of a time range: only traces with a record of it; what is normal is learned from
                traces of the same environment and of any version.
        Raises:
            QueryError: both or neither were given, or one cannot be understood.
            NotFound: nothing is stored under the trace id.
        """
        if trace_id is not None:
            if any(given is not None for given in (start, end, *deployment.values())):
                raise QueryError(
                    "root cause: name a trace_id, or a time range (perhaps with environment and version),"
                    " not both"
                )
            return self._causes.of_trace(checked_trace_id(trace_id), explain=explain)
        if start is None and end is None:
            raise QueryError("root cause: name a trace_id or a time range, for instance start=15m")
        start_ns, end_ns = self._window(start, end, CAUSE_WINDOW_DEFAULT_NS)
        return self._causes.of_window(
            start_ns,
            end_ns,
            condition=self.condition(**deployment),
            measure=self.condition(environment=deployment.get("environment")),
            explain=explain,
        )

    def context_losses(
        self, *, start: str | int | None = None, end: str | int | None = None, service: str | None = None
    ) -> JsonObject:
        """Where the context was lost (`context_shapes.ContextLossesObject`).

        Args:
            start, end: the time range; by default the last hour.
            service: only places in it, or whose probable parent is in it.
        Raises:
            QueryError: a time cannot be understood, or the range is empty.
        """
        start_ns, end_ns = self._window(start, end)
        return contexts.context_losses(
            self._store,
            start_ns,
            end_ns,
            now_ns=self._clock_ns(),
            service=service,
            status_of=self._status_of,
        )

    def services(
        self,
        *,
        start: str | int | None = None,
        end: str | int | None = None,
        **deployment: Unpack[DeploymentFilters],
    ) -> JsonObject:
        """Every service seen (`shapes.ServicesObject`)."""
        start_ns, end_ns = self._times(start, end)
        condition = self.condition(**deployment)
        found = self._store.services(condition, start_ns=start_ns, end_ns=end_ns)
        services = [views.same_fields(item, shapes.ServiceObject) for item in found]
        return plain(shapes.ServicesObject(services=services))

    def operations(
        self,
        service: str,
        *,
        start: str | int | None = None,
        end: str | int | None = None,
        **deployment: Unpack[DeploymentFilters],
    ) -> JsonObject:
        """Every operation of a service (`shapes.OperationsObject`); of an unknown service: none."""
        start_ns, end_ns = self._times(start, end)
        condition = self.condition(**deployment)
        found = self._store.operations(service, condition, start_ns=start_ns, end_ns=end_ns)
        operations = [views.same_fields(item, shapes.OperationObject) for item in found]
        return plain(shapes.OperationsObject(service=service, operations=operations))

    def rates(
        self,
        q: str = "",
        *,
        start: str | int | None = None,
        end: str | int | None = None,
        step: str | int | None = None,
        operation: str | None = None,
        **origin: Unpack[OriginFilters],
    ) -> JsonObject:
        """Spans, logs, errors and durations of what matches, step by step (`shapes.RatesObject`).

        Args:
            q: search text, and the origin as for `traces`.
            start: beginning, by default an hour before the end.
            end: end, by default now.
            step: length of a step in whole minutes, `1m`; by default as short as gives 120 steps at most.
            operation: the span's name.
        Raises:
            QueryError: a text cannot be understood, or there would be too many steps.
        """
        start_ns, end_ns = self._window(start, end)
        condition = self.condition(q, operation=operation, **origin)
        return plain(rates.rates(self._store, condition, start_ns, end_ns, read_duration(step)))

    def service_rates(
        self,
        service: str,
        *,
        start: str | int | None = None,
        end: str | int | None = None,
        step: str | int | None = None,
        operation: str | None = None,
        **deployment: Unpack[DeploymentFilters],
    ) -> JsonObject:
        """Requests that a service answered, those that failed, and how long they took, step by step.

        The same as `rates`, of its spans that came in from elsewhere (`SERVER` and `CONSUMER`) only.
        """
        start_ns, end_ns = self._window(start, end)
        condition = self.condition(service=service, operation=operation, **deployment)
        requests = And((condition, rates.REQUESTS))
        return plain(rates.rates(self._store, requests, start_ns, end_ns, read_duration(step)))

    def templates(
        self,
        q: str = "",
        *,
        start: str | int | None = None,
        end: str | int | None = None,
        limit: int = 50,
        **filters: Unpack[RecordFilters],
    ) -> JsonObject:
        """What the logs that match say, values left out, most frequent first (`shapes.TemplatesObject`).

        Args:
            q: search text, and the filters as for `logs`.
            start: beginning, by default an hour before the end.
            end: end, by default now.
            limit: how many.
        Raises:
            QueryError: a text cannot be understood, or the limit is out of range.
        """
        start_ns, end_ns = self._window(start, end)
        condition = self.condition(q, **filters)
        limit = self._checked_limit(limit)
        return plain(templates.templates(self._store, condition, start_ns, end_ns, limit=limit))

    def topology(
        self,
        *,
        start: str | int | None = None,
        end: str | int | None = None,
        **deployment: Unpack[DeploymentFilters],
    ) -> JsonObject:
        """Who calls whom (`shapes.TopologyObject`); environment and version are those of the called."""
        start_ns, end_ns = self._times(start, end)
        condition = self.condition(**deployment)
        edges = [
            views.same_fields(edge, shapes.EdgeObject)
            for edge in self._store.edges(condition, start_ns=start_ns, end_ns=end_ns)
        ]
        seen = {item.service for item in self._store.services(condition, start_ns=start_ns, end_ns=end_ns)}
        names = seen | {edge.caller for edge in edges} | {edge.callee for edge in edges}
        return plain(shapes.TopologyObject(services=sorted(names), edges=edges))

    def stats(self) -> JsonObject:
        """Counts and sizes (`shapes.StatsObject`); `records` counts logs and spans, each once.

        A store that is away costs its own figures only: what waits for it is worth knowing just then.
        """
        counters = {
            name: None if part is None else dict(part.stats()) for name, part in self._counted.items()
        }
        stored: StoreStats | StoreFailed
        try:
            stored = self._store.stats()
        except StoreFailed as error:
            stored = error
        return plain(views.stats_view(stored, **counters))

    def ledger(self) -> JsonObject:
        """What arrived of each process, and what is missing (`shapes.LedgerObject`)."""
        spools = [] if self._ledger is None else self._ledger.spools()
        return plain(shapes.LedgerObject(spools=[views.spool_view(spool) for spool in spools]))
