"""What `/metrics` says, gathered from the rooms.

Counters (`…_total`) are since the start of the process, except those of the ledger, which go back to the
making of the data directory.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final, Protocol, runtime_checkable

from collector.api.app import Backend
from collector.api.metrics import Metric, Sample
from collector.errors import StoreFailed
from collector.service.canary import Canary
from collector.service.listeners import Listeners
from collector.service.pipeline import Pipeline

PREFIX: Final = "backtrail_"

# The closed list: every metric by its name without the prefix. `docs/metrics.md` is made from it.
DESCRIPTIONS: Final[dict[str, str]] = {
    "build_info": "Always 1; the label says which version runs.",
    "ready": "Whether /readyz is green.",
    "http_requests_total": "Requests by operation (of the OpenAPI document; none: no such path) and status.",
    "http_refused_total": "Requests refused or failed, by the kind of the problem that was answered.",
    "http_request_seconds_total": "Time spent on requests, by operation.",
    "http_busy_requests": "Requests that run or wait for a thread, by kind.",
    "http_body_bytes": "Request bodies held in memory.",
    "tail_watchers": "Who watches the live tail.",
    "intake_requests_total": "Requests that brought records, by protocol.",
    "intake_bytes_total": "Their bodies as they came, by protocol.",
    "intake_records_total": "Records taken in, by protocol; what was known already is not counted.",
    "intake_refused_total": "Records refused, by protocol; ledger_refused_total has the reasons.",
    "syslog_messages_total": "Syslog messages taken in.",
    "syslog_pending": "Syslog messages read and not yet in the log.",
    "syslog_connections": "Open syslog connections.",
    "syslog_dropped_total": "Datagrams dropped because there was no room. Alarm on any.",
    "syslog_kernel_dropped_total": "Datagrams that the kernel dropped before we read them. Alarm on any.",
    "syslog_overloaded_total": "Times that syslog messages had to wait for room.",
    "syslog_connections_refused_total": "Syslog connections closed because there were too many.",
    "syslog_messages_too_long_total": "Syslog connections closed because of a message without an end.",
    "files_records_total": "Records read from files.",
    "files_refused_total": "Records of files that were refused; ledger_refused_total has the reasons.",
    "files_open_files": "Files that are being read.",
    "files_overloaded_total": "Times that reading had to wait for room; nothing is lost by it.",
    "files_errors_total": "Times that a file could not be read.",
    "files_files_beyond_the_limit_total": "Times that a file was not read because too many were open.",
    "wal_last_seq": "Number of the last record in the write-ahead log.",
    "wal_bytes": "Size of the write-ahead log.",
    "wal_segments": "Files of the write-ahead log.",
    "wal_appends_total": "Batches that were made durable.",
    "wal_syncs_total": "Syncs of the disk; fewer than batches, because concurrent ones share a sync.",
    "wal_overloaded_total": "Batches refused because the log or the disk was full.",
    "wal_write_errors_total": "Times that the disk refused a write or a sync.",
    "wal_read_errors_total": "Times that the disk refused a read.",
    "wal_torn_bytes_total": "Bytes behind the last whole frame of a segment, as a crash leaves them.",
    "wal_damaged_bytes_total": "Bytes between whole frames that are not what was written. Alarm on any.",
    "wal_lost_records_total": "Records that were in damaged frames. Alarm on any.",
    "indexing_appended_seq": "Number of the last record that the store has been given.",
    "indexing_visible_seq": "Number up to which everything can be found.",
    "indexing_lag_records": "Records that are taken in and cannot be found yet.",
    "indexing_lag_s": "Seconds since the oldest of them was received; 0 when there is none.",
    "indexing_stalled_s": "Seconds since that number last got smaller; 0 when it is 0.",
    "indexing_stored_total": "Records given to the store that it did not have.",
    "indexing_already_stored_total": "Records given to the store that it had: repetitions, harmless.",
    "indexing_refused_total": "Records that the store cannot take, by reason. Alarm on any.",
    "indexing_commits_total": "Commits of the store.",
    "indexing_failures_total": "Times that the store failed; what it was given is given again.",
    "store_records": "What the store holds, by kind; logs and spans are the records.",
    "store_bytes": "Size of the store on disk.",
    "store_partitions": "Partitions of the store.",
    "store_durable_seq": "Number of the last record that would survive a crash without the log.",
    "store_damaged_partitions": "Partitions that were set aside, their files being damaged. Alarm on any.",
    "store_damaged_records": "Records in them, as far as is known.",
    "store_rebuilt_partitions": "Damaged partitions that were built anew.",
    "store_rebuilt_records": "Records that are back. Alarm while fewer than were damaged.",
    "cluster_reached": "Whether Elasticsearch has answered since the start.",
    "cluster_held": "1 while credentials or privileges keep everything in the log. Alarm on any.",
    "cluster_in_flight": "Bulks on their way to Elasticsearch.",
    "cluster_in_flight_limit": "How many may be: more with success, fewer when it is slow or busy.",
    "cluster_dead_letters": "Records that Elasticsearch refuses, kept on our disk. Alarm on any.",
    "cluster_attribute_fields": "Attribute keys that have a field of their own in the mapping.",
    "cluster_retries_total": "Bulks sent again, by reason.",
    "cluster_already_stored_total": "Records found to be in Elasticsearch already: repetitions, harmless.",
    "cluster_bare_total": "Records stored with no attribute as a field, the server having refused one.",
    "cluster_without_field_total": "Attributes without a field of their own, by reason.",
    "ledger_seq": "Number of the last record that the ledger has taken note of.",
    "ledger_saved_seq": "Number up to which it is on disk.",
    "ledger_spools": "Processes that are remembered.",
    "ledger_foreign_requests": "Requests of senders without positions that are remembered.",
    "ledger_set_aside": "1 after a damaged ledger was set aside.",
    "ledger_lines_total": "Lines taken note of.",
    "ledger_refused_total": "Lines refused, by reason.",
    "ledger_mended_total": "Lines taken after a change, by reason.",
    "ledger_lost_total": "Lines that their senders gave up themselves, by reason.",
    "audit_events_total": "Actions of administrators; search for event.name:backtrail.audit.",
    "audit_failures_total": "Times that one could not be stored at once; it is tried again.",
    "audit_lost_total": "Those that only the service's log has, too many having waited. Alarm on any.",
    "retention_dropped_total": "Records dropped by the retention, by reason.",
    "retention_failures_total": "Times that the retention had to wait.",
    "mending_scrubs_total": "Times that every file of the store was read and its checksum compared.",
    "mending_failures_total": "Times that this, or the building anew of what was damaged, failed.",
    "watch_minutes_total": "Minutes that were measured by the baseline.",
    "watch_minutes_not_learned_total": "Minutes that were not as usual, or incomplete: not learned from.",
    "watch_minutes_failed_total": "Minutes that could not be looked at; the log says why. Alarm on any.",
    "watch_traces_seen_total": "Traces that began in those minutes.",
    "watch_traces_read_total": "Traces that were read, as a sample of those.",
    "watch_entries_left_out_total": "Entry points of a minute that were not looked at, being too many.",
    "watch_findings_total": "Findings told, by state: began, ended, usual. Alarm on began.",
    "watch_ongoing": "Episodes that go on: services that are not as usual.",
    "watch_warm": "Whether enough is known to call something unusual.",
    "watch_baseline_minutes": "Minutes that were learned as normal.",
    "watch_baseline_traces": "Traces that the baseline is made of.",
    "watch_seconds_total": "Time spent on looking.",
    "watch_failures_total": "Times that the store, the log or the disk did not answer; it is tried again.",
    "canary_found_total": "Records of the canary that were found once, as they should be.",
    "canary_lost_total": "Records of the canary that were acknowledged and not found. Alarm on any.",
    "canary_twice_total": "Records of the canary that were found twice. Alarm on any.",
    "canary_refused_total": "Records of the canary that were refused.",
    "canary_found_s": "Seconds from the last one's acknowledgement to its being found.",
}


_STORE_FIGURES: Final = (
    "bytes",
    "partitions",
    "durable_seq",
    "damaged_partitions",
    "damaged_records",
    "rebuilt_partitions",
    "rebuilt_records",
)


@runtime_checkable
class InCluster(Protocol):
    """A store that is reached over a network, and knows how that goes."""

    @property
    def hold(self) -> str | None:
        """Why everything waits for a person, in a sentence; `None`: nothing does."""
        ...

    def health(self) -> Mapping[str, float]:
        """Figures by the names of `cluster_…` in `DESCRIPTIONS`, a reason behind a dot."""
        ...


def service_metrics(
    pipeline: Pipeline, backend: Backend, *, ready: bool, canary: Canary | None, listeners: Listeners
) -> Iterator[Metric]:
    """Every metric of a running collector."""
    yield _metric("build_info", [Sample(1, {"version": backend.version})])
    yield _metric("ready", [Sample(int(ready), {})])
    yield from _http(backend)
    yield from _room("intake", _by_count(pipeline.intake.stats()), label="protocol")
    for room, stats in listeners.stats().items():
        yield from _room(room, stats)
    yield from _room("wal", pipeline.wal.stats())
    yield from _room("indexing", pipeline.indexer.stats())
    yield from _store(pipeline)
    if isinstance(pipeline.store, InCluster):
        yield from _room("cluster", pipeline.store.health())
    yield from _room("ledger", pipeline.ledger.stats())
    yield from _room("audit", backend.audit.stats())
    yield from _room("retention", pipeline.housekeeping.stats())
    yield from _room("mending", pipeline.mending.stats())
    yield from _room("watch", pipeline.watch.stats(), label="state")
    if canary is not None:
        yield from _room("canary", canary.stats())


def _http(backend: Backend) -> Iterator[Metric]:
    counts = backend.counts
    requests = (
        Sample(count, {"operation": operation, "status": str(status)})
        for (operation, status), count in sorted(counts.requests.items())
    )
    yield _metric("http_requests_total", requests)
    refused = (Sample(count, {"reason": kind}) for kind, count in sorted(counts.problems.items()))
    yield _metric("http_refused_total", refused)
    seconds = (Sample(taken_s, {"operation": name}) for name, taken_s in sorted(counts.seconds.items()))
    yield _metric("http_request_seconds_total", seconds)
    busy = {"ingest": backend.ingest_workers.busy, "query": backend.query_workers.busy}
    yield _metric("http_busy_requests", (Sample(count, {"kind": kind}) for kind, count in busy.items()))
    yield _metric("http_body_bytes", [Sample(backend.bodies.in_flight_bytes, {})])
    yield _metric("tail_watchers", [Sample(backend.tail.watchers, {})])


def _store(pipeline: Pipeline) -> Iterator[Metric]:
    try:
        stats = pipeline.store.stats()
    except StoreFailed:
        return  # a cluster that is away; how much waits for it is said by the other rooms
    if stats.away is not None:
        return
    kinds = {
        "log": stats.logs,
        "span": stats.spans,
        "span_start": stats.span_starts,
        "loss": stats.losses,
    }
    yield _metric("store_records", (Sample(count, {"kind": kind}) for kind, count in kinds.items()))
    for name in _STORE_FIGURES:
        yield _metric(f"store_{name}", [Sample(getattr(stats, name), {})])


def _by_count(stats: Mapping[str, float]) -> dict[str, float]:
    """`otlp_logs.requests` as `requests.otlp_logs`: the count first, then what it is divided by."""
    return {".".join(reversed(key.rsplit(".", 1))): value for key, value in stats.items()}


def _room(room: str, stats: Mapping[str, float], *, label: str = "reason") -> Iterator[Metric]:
    """The counts of a room; `refused.bad_id` is the sample of `refused` whose reason is `bad_id`."""
    by_name: dict[str, list[Sample]] = {}
    for key, value in sorted(stats.items()):
        counted, _, divided_by = key.partition(".")
        by_name.setdefault(counted, []).append(Sample(value, {label: divided_by} if divided_by else {}))
    for counted, samples in by_name.items():
        gauge = f"{room}_{counted}"
        yield _metric(gauge if gauge in DESCRIPTIONS else f"{gauge}_total", samples)


def _metric(name: str, samples: Iterable[Sample]) -> Metric:
    kind = "counter" if name.endswith("_total") else "gauge"
    return Metric(PREFIX + name, kind, DESCRIPTIONS.get(name, ""), samples)
