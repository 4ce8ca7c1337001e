"""The store on Elasticsearch: the contract's methods, each a few steps of the modules around."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, Final, Self

from collector.errors import ConfigurationError, StoreFailed
from collector.model import Record
from collector.store.conditions import And, Condition, Equals, facet_field, matches
from collector.store.contract import (
    EVERYTHING,
    MINUTE_NS,
    Appended,
    Bucket,
    Edge,
    OperationSummary,
    Page,
    Place,
    Rate,
    ServiceSummary,
    StoreStats,
    TraceSummary,
)
from collector.store.deadletters import FILE_NAME, DeadLetters
from collector.store.elastic import admin, counting
from collector.store.elastic import names as n
from collector.store.elastic.connection import Connection, Forbidden
from collector.store.elastic.documents import document_id
from collector.store.elastic.finding import find_traces
from collector.store.elastic.guard import REASONS, MappingGuard
from collector.store.elastic.lifecycle import Lifecycle
from collector.store.elastic.names import Names
from collector.store.elastic.options import ElasticOptions
from collector.store.elastic.reading import Reader
from collector.store.elastic.sender import RETRY_REASONS, BulkSender
from collector.store.elastic.server import Server, ask_server
from collector.store.elastic.state import StateFile
from collector.store.elastic.streams import Streams
from collector.store.elastic.translate import ALL, sayable, translate
from collector.store.elastic.writing import Writer
from collector.store.paging import place_of, place_of_trace, read_cursor, write_cursor
from collector.store.summaries import (
    operation_summaries,
    service_summaries,
    top_buckets,
)
from collector.store.timeline import rates_of, steps_between

logger = logging.getLogger(__name__)

STATE_FILE: Final = "elastic.json"
MAINTENANCE_INTERVAL_S: Final = 600.0  # rollover and retention, where they are ours
REPLAY_RECORDS_MAX: Final = 1_000  # dead letters in memory at once; what comes in is let in between
READ_ONLY: Final = "this store was opened for reading: it has no directory to remember in"
_IDS_MAX: Final = 10_000


class ElasticStore:
    """Keeps records in a cluster's data streams. The promises are the contract's."""

    def __init__(
        self, connection: Connection, options: ElasticOptions, directory: Path | None, *, apply: bool
    ) -> None:
        """Put the parts together; use `open`."""
        self.options = options
        self.names = Names(options.dataset, options.namespace)
        self._connection = connection
        self._apply = apply and directory is not None
        self._streams = Streams(connection, self.names)
        self._reader = Reader(connection, self.names, options)
        self._lifecycle = Lifecycle(connection, self.names, options, self._streams, self._reader)
        self._guard = MappingGuard(
            fields_max=options.fields_max, new_keys_per_hour_max=options.new_keys_per_hour_max
        )
        self._sender = BulkSender(connection, self._streams, options)
        self._server: Server | None = None  # None: never reached since we were opened
        self._reaching = threading.Lock()
        self._writing_lock = threading.Lock()
        self._maintained_s = time.monotonic()
        self._closed = False
        self._writer: Writer | None = None
        self.dead_letters: DeadLetters | None = None
        if directory is not None:
            directory.mkdir(parents=True, exist_ok=True)
            self.dead_letters = DeadLetters(directory / FILE_NAME, bytes_max=options.dead_letters_bytes_max)
            state = StateFile(directory / STATE_FILE, stream=self.names.logs)
            self._writer = Writer(self.names, options, self._sender, state, self.dead_letters, self._guard)

    @classmethod
    def open(cls, options: ElasticOptions, directory: Path | None = None, *, apply: bool = True) -> Self:
        """Connect, and for writing make ready what the cluster needs.

        A cluster that is away, or refuses our credentials, does not keep a collector from starting: the
        write-ahead log takes what comes, and the first append that succeeds makes up for it.

        Args:
            options: which cluster, and how to sign in.
            directory: where this collector keeps what it must remember: how far the cluster is durable, and
                dead letters. One process at a time. `None`: only for reading.
            apply: install or update our templates, which is harmless to repeat.
        Raises:
            ConfigurationError: the server is too old, or an option is wrong.
            Unavailable, Forbidden: for reading, the cluster cannot be asked.
        """
        store = cls(Connection(options), options, directory, apply=apply)
        try:
            store._reach()
        except StoreFailed as error:
            if directory is None:
                store.close()
                raise
            logger.error("the cluster is not there yet, records wait in the write-ahead log: %s", error)
        except BaseException:
            store.close()
            raise
        return store

    @property
    def server(self) -> Server | None:
        """What is at the other end; `None` as long as it has not been reached."""
        return self._server

    def _reach(self) -> Server:
        """Once: find out what the cluster is, and make ready what it needs.

        Raises:
            Unavailable, Forbidden: not this time.
            StoreFailed: it is another cluster than the one we remember; everything has to come again.
        """
        if self._server is not None:
            return self._server
        with self._reaching:
            if self._server is None:
                with self._sender.holding():
                    server = ask_server(self._connection)
                self._sender.hold = None
                if self._apply:
                    self._apply_templates(server)
                if self._writer is not None:
                    self._guard.learn(admin.attribute_keys(self._connection, self.names))
                    self._streams.reload()
                self._server = server
                if self._writer is not None:
                    self._writer.begin(server.cluster_uuid)
            return self._server

    def _apply_templates(self, server: Server) -> None:
        try:
            admin.apply(self._connection, admin.plan(self._connection, self.names, self.options, server))
        except Forbidden as error:
            # Where they are missing nothing is stored in a wrong form: bulks insist on a data stream.
            logger.warning("our key may not see to the templates, an operator's has to: %s", error)

    # ---------------------------------------------------------------- writing

    def append(
        self, records: Sequence[Record], *, check_uids: bool = False, check_since_ns: int = 0
    ) -> Appended:
        """See `Store.append`; each record's fate is known when it returns. Looks in all indices."""
        with self._writing_lock:
            writer = self._writing()
            self._reach()
            return writer.append(records, check_uids=check_uids)

    def begin_append(self, records: Sequence[Record]) -> Callable[[], Appended]:
        """See `AppendsAhead.begin_append`."""
        with self._writing_lock:
            writer = self._writing()
            self._reach()
            batch = writer.begin_append(records, check_uids=False)

        def finish() -> Appended:
            with self._writing_lock:
                return writer.finish(batch)

        return finish

    def commit(self) -> int:
        """See `Store.commit`."""
        with self._writing_lock:
            writer = self._writing()
            if writer.dirty:
                self._reach()
                self._refresh()
            durable_seq = writer.commit()
        if time.monotonic() - self._maintained_s > MAINTENANCE_INTERVAL_S:
            self.maintain()
        return durable_seq

    def _refresh(self) -> None:
        """Make visible what was written; only once that goes, too, there is nothing to hold for."""
        with self._sender.holding():
            self._streams.refresh()
        self._sender.hold = None

    def refresh(self) -> None:
        """See `Store.refresh`."""
        self._streams.refresh()

    def replay(
        self,
        uids: Collection[str] | None = None,
        *,
        edit: Callable[[Record], Record | None] = lambda record: record,
    ) -> Appended:
        """See `KeepsDeadLetters.replay`; from any thread, and also while other records have to wait."""
        if self.dead_letters is None:
            raise ConfigurationError(READ_ONLY)
        chosen = list(dict.fromkeys(self.dead_letters.uids() if uids is None else uids))
        for uid in chosen:
            self.dead_letters.get(uid)
        stored = already_stored = 0
        refused: list[tuple[Record, str]] = []
        for at in range(0, len(chosen), REPLAY_RECORDS_MAX):
            with self._writing_lock:
                self._reach()
                appended = self._writing().replay(chosen[at : at + REPLAY_RECORDS_MAX], edit)
            stored += appended.stored
            already_stored += appended.already_stored
            refused += appended.refused
        self._refresh()
        return Appended(stored=stored, already_stored=already_stored, refused=refused)

    def maintain(self) -> None:
        """Roll over and let go of what has expired, where the server does not; a failure is logged."""
        self._maintained_s = time.monotonic()
        try:
            if self._reach().has_lifecycle:
                return
            self._lifecycle.roll_over()
            if self.options.retention_days is not None:
                age_ns = round(self.options.retention_days * 86_400e9)
                self._lifecycle.drop_indices(time.time_ns() - age_ns)
        except StoreFailed as error:
            logger.warning("rollover and retention have to wait: %s", error)

    def roll_over(self) -> list[str]:
        """Begin a new index for every stream now; return the streams that exist."""
        return self._lifecycle.roll_over(now=True)

    def delete(self, condition: Condition) -> int:
        """See `Store.delete`."""
        with self._writing_lock:
            self._streams.refresh()
            translated = translate(condition)
            everywhere = ",".join(self.names.streams)
            doubtful = [] if translated.doubt is None else self._reader.scan(everywhere, translated.doubt)
            ids = [document_id(record.uid) for record in doubtful if matches(condition, record)]
            deleted = self._lifecycle.delete(translated.certain)
            for at in range(0, len(ids), _IDS_MAX):
                deleted += self._lifecycle.delete({"ids": {"values": ids[at : at + _IDS_MAX]}})
            return deleted

    def drop_before(self, received_ns: int) -> int:
        """See `Store.drop_before`; a partition is a backing index, or a day of arrival in one."""
        with self._writing_lock:
            self._streams.refresh()
            return self._lifecycle.drop_indices(received_ns) + self._lifecycle.drop_days(received_ns)

    def shrink_to(self, bytes_max: int) -> int:
        """Delete the oldest backing indices until the rest takes no more; how many records went.

        The index that a stream writes to stays, whatever its size.
        """
        with self._writing_lock:
            self._streams.refresh()
            return self._lifecycle.shrink_to(bytes_max)

    def close(self) -> None:
        """See `Store.close`; a cluster that is away keeps nobody from closing."""
        if self._closed:
            return
        self._closed = True
        try:
            if self._writer is not None:
                self.commit()
        except StoreFailed as error:
            logger.warning("closed without a last commit, the write-ahead log has the records: %s", error)
        finally:
            self._sender.close()
            self._connection.close()

    # ---------------------------------------------------------------- reading

    def existing(self, uids: Collection[str]) -> set[str]:
        """See `Store.existing`."""
        by_id = {document_id(uid): uid for uid in uids if sayable(uid)}
        found = self._streams.in_indices(self.names.streams, by_id)
        return {by_id[identity] for identity in found}

    def trace(self, trace_id: str, *, records_max: int) -> list[Record]:
        """See `Store.trace`."""
        return self.traces([trace_id], records_max=records_max).get(trace_id, [])

    def traces(self, trace_ids: Collection[str], *, records_max: int) -> dict[str, list[Record]]:
        """See `Store.traces`."""
        ids = [trace_id for trace_id in dict.fromkeys(trace_ids) if sayable(trace_id)]
        found = self._reader.traces(ids, records_max)
        return {trace_id: records for trace_id, records in zip(ids, found, strict=True) if records}

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
        """See `Store.search`."""
        before = None if cursor is None else read_cursor(cursor)
        plan = self._reader.plan(condition, start_ns, end_ns)
        found = self._reader.page(plan, limit + 1, before)
        page = found[:limit]
        more = len(found) > limit and bool(page)
        return Page(
            records=page,
            cursor=write_cursor(place_of(page[-1])) if more else None,
            total=self._reader.count(plan) if with_total else None,
        )

    def count(
        self, condition: Condition = EVERYTHING, *, start_ns: int | None = None, end_ns: int | None = None
    ) -> int:
        """See `Store.count`."""
        return self._reader.count(self._reader.plan(condition, start_ns, end_ns))

    def facets(
        self,
        field: str,
        condition: Condition = EVERYTHING,
        *,
        start_ns: int | None = None,
        end_ns: int | None = None,
        limit: int = 20,
    ) -> list[Bucket]:
        """See `Store.facets`."""
        plan = self._reader.plan(condition, start_ns, end_ns)
        return top_buckets(counting.facet_counts(self._reader, plan, facet_field(field)), limit)

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
        """See `Store.find_traces`."""
        plan = self._reader.plan(condition, start_ns, end_ns)

        def wanted(summary: TraceSummary) -> bool:
            return (
                (error is None or summary.error == error)
                and (min_duration_ns is None or summary.duration_ns >= min_duration_ns)
                and (before is None or place_of_trace(summary) < before)
            )

        return find_traces(self._reader, plan, wanted, limit)

    def services(
        self, condition: Condition = EVERYTHING, *, start_ns: int | None = None, end_ns: int | None = None
    ) -> list[ServiceSummary]:
        """See `Store.services`."""
        plan = self._reader.plan(condition, start_ns, end_ns)
        return service_summaries(counting.tallies(self._reader, plan))

    def operations(
        self,
        service: str,
        condition: Condition = EVERYTHING,
        *,
        start_ns: int | None = None,
        end_ns: int | None = None,
    ) -> list[OperationSummary]:
        """See `Store.operations`."""
        plan = self._reader.plan(And((Equals("service", service), condition)), start_ns, end_ns)
        return operation_summaries(service, counting.tallies(self._reader, plan))

    def edges(
        self, condition: Condition = EVERYTHING, *, start_ns: int | None = None, end_ns: int | None = None
    ) -> list[Edge]:
        """See `Store.edges`."""
        plan = self._reader.plan(And((Equals("kind", "span"), condition)), start_ns, end_ns)
        return counting.edges(self._reader, self.names, plan)

    def rates(
        self,
        condition: Condition = EVERYTHING,
        *,
        start_ns: int,
        end_ns: int,
        step_ns: int = MINUTE_NS,
    ) -> list[Rate]:
        """See `Timeline.rates`."""
        steps = steps_between(start_ns, end_ns, step_ns)
        if not steps:
            return []
        plan = self._reader.plan(condition, start_ns, end_ns)
        return rates_of(steps, counting.tallies_by_step(self._reader, plan, step_ns))

    # ---------------------------------------------------------------- about itself

    def stats(self) -> StoreStats:
        """See `Store.stats`; bytes are those of every copy that the cluster keeps.

        Of a cluster that has not been reached yet nothing is known but `durable_seq`, which we remember.
        """
        durable_seq = self._writer.durable_seq if self._writer is not None else 0
        if self._server is None:
            return StoreStats(
                records=0,
                logs=0,
                spans=0,
                span_starts=0,
                losses=0,
                partitions=0,
                bytes=0,
                oldest_ns=None,
                newest_ns=None,
                durable_seq=durable_seq,
                away="the cluster has not been reached yet",
            )
        everywhere = ",".join(self.names.streams)
        kinds = {"kinds": {"terms": {"field": n.KIND}}}
        answer = self._reader.aggregate(everywhere, ALL, kinds)
        buckets = answer.get("kinds", {}).get("buckets", [])
        counts = {bucket["key"]: bucket["doc_count"] for bucket in buckets}
        oldest_ns, newest_ns = self._reader.edges_of_time()
        self._streams.reload()
        indices = [index for stream in self.names.streams for index in self._streams.backing(stream)]
        return StoreStats(
            records=counts.get("log", 0) + counts.get("span", 0),
            logs=counts.get("log", 0),
            spans=counts.get("span", 0),
            span_starts=counts.get("span_start", 0),
            losses=counts.get("loss", 0),
            partitions=len(indices),
            bytes=admin.size_of(self._connection, indices),
            oldest_ns=oldest_ns,
            newest_ns=newest_ns,
            durable_seq=durable_seq,
        )

    @property
    def hold(self) -> str | None:
        """Why everything waits for a person, in a sentence; `None`: nothing does."""
        return self._sender.hold

    def health(self) -> dict[str, float]:
        """Figures of the way into the cluster, a reason behind a dot; asks nobody."""
        counts = self._writer.counts if self._writer is not None else Counter[str]()
        return {
            "reached": int(self._server is not None),
            "held": int(self.hold is not None),
            "in_flight": self._sender.in_flight,
            "in_flight_limit": self._sender.in_flight_limit,
            "dead_letters": len(self.dead_letters) if self.dead_letters is not None else 0,
            "attribute_fields": self._guard.fields,
            "already_stored": counts["already_stored"],
            "bare": counts["bare"],
            **{f"retries.{reason}": self._sender.retries[reason] for reason in RETRY_REASONS},
            **{f"without_field.{reason}": self._guard.counts[reason] for reason in REASONS},
        }

    def _writing(self) -> Writer:
        if self._writer is None:
            raise ConfigurationError(READ_ONLY)
        return self._writer


def open_store(url: str, directory: Path | None = None, **options: Any) -> ElasticStore:
    """Open the store at `https://…`; `options` are those of `ElasticOptions`, see `ElasticStore.open`."""
    return ElasticStore.open(ElasticOptions.from_url(url, **options), directory)


__all__ = ["ElasticStore", "open_store"]
