"""What `/metrics` says, gathered from the rooms. The names are the project's own and documented here.

Counters are since the start of the process, except those of the ledger, which go back to the making of
the data directory.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from collector.api.app import Backend
from collector.api.metrics import Metric, Sample
from collector.service.canary import Canary
from collector.service.pipeline import Pipeline

PREFIX = "backtrail_"


def service_metrics(
    pipeline: Pipeline, backend: Backend, *, ready: bool, canary: Canary | None
) -> Iterator[Metric]:
    """Every metric of a running collector."""
    yield _gauge("build_info", "Always 1; the label says which version runs.", 1, version=backend.version)
    yield _gauge("ready", "Whether /readyz is green.", int(ready))
    yield from _http(backend)
    yield from _store(pipeline)
    yield from _room("wal", pipeline.wal.stats(), gauges=("last_seq", "segments", "bytes"))
    yield from _intake(pipeline.intake.stats())
    yield from _room(
        "indexing",
        pipeline.indexer.stats(),
        gauges=("appended_seq", "visible_seq", "lag_records", "stalled_s"),
    )
    if canary is not None:
        yield from _room("canary", canary.stats(), gauges=("found_s",))
    yield from _room("retention", pipeline.housekeeping.stats())
    yield from _room(
        "ledger",
        pipeline.ledger.stats(),
        gauges=("seq", "saved_seq", "spools", "foreign_requests", "set_aside"),
    )


def _http(backend: Backend) -> Iterator[Metric]:
    counts = backend.counts
    yield Metric(
        PREFIX + "http_requests_total",
        "counter",
        "Requests by operation (of /api/v1/openapi.json; none: no such path) and status.",
        [
            Sample(count, {"operation": operation, "status": str(status)})
            for (operation, status), count in sorted(counts.requests.items())
        ],
    )
    yield Metric(
        PREFIX + "http_request_seconds_total",
        "counter",
        "Time spent on requests, by operation.",
        [Sample(seconds, {"operation": name}) for name, seconds in sorted(counts.seconds.items())],
    )
    yield Metric(
        PREFIX + "http_busy_requests",
        "gauge",
        "Requests that run or wait for a thread, by kind.",
        [
            Sample(backend.ingest_workers.busy, {"kind": "ingest"}),
            Sample(backend.query_workers.busy, {"kind": "query"}),
        ],
    )
    yield _gauge("http_body_bytes", "Request bodies held in memory.", backend.bodies.in_flight_bytes)
    yield _gauge("tail_watchers", "Who watches the live tail.", backend.tail.watchers)


def _store(pipeline: Pipeline) -> Iterator[Metric]:
    stats = pipeline.store.stats()
    yield Metric(
        PREFIX + "store_records",
        "gauge",
        "What the store holds, by kind; logs and spans are the records.",
        [
            Sample(stats.logs, {"kind": "log"}),
            Sample(stats.spans, {"kind": "span"}),
            Sample(stats.span_starts, {"kind": "span_start"}),
            Sample(stats.losses, {"kind": "loss"}),
        ],
    )
    yield _gauge("store_bytes", "Size of the store on disk.", stats.bytes)
    yield _gauge("store_partitions", "Partitions of the store.", stats.partitions)
    yield _gauge("store_durable_seq", "Number of the last record that is durable here.", stats.durable_seq)
    yield _gauge("store_damaged_partitions", "Partitions that were set aside.", stats.damaged_partitions)
    yield _gauge("store_damaged_records", "Records in them, as far as is known.", stats.damaged_records)


def _intake(stats: Mapping[str, float]) -> Iterator[Metric]:
    """Counts of what came in; `otlp_logs.requests` is a sample of `requests` with that protocol."""
    by_metric: dict[str, list[Sample]] = {}
    for key, value in sorted(stats.items()):
        protocol, _, counted = key.rpartition(".")
        by_metric.setdefault(counted, []).append(Sample(value, {"protocol": protocol}))
    for counted, samples in by_metric.items():
        yield Metric(f"{PREFIX}intake_{counted}_total", "counter", f"{counted} taken in.", samples)


def _room(name: str, stats: Mapping[str, float], *, gauges: tuple[str, ...] = ()) -> Iterator[Metric]:
    """The counts of a room. A count `refused.bad_id` is a sample of `refused` with that reason."""
    by_metric: dict[str, list[Sample]] = {}
    for key, value in sorted(stats.items()):
        counted, _, reason = key.partition(".")
        by_metric.setdefault(counted, []).append(Sample(value, {"reason": reason} if reason else {}))
    for counted, samples in by_metric.items():
        if counted in gauges:
            yield Metric(f"{PREFIX}{name}_{counted}", "gauge", f"{counted} of {name}.", samples)
        else:
            yield Metric(f"{PREFIX}{name}_{counted}_total", "counter", f"{counted} of {name}.", samples)


def _gauge(name: str, help: str, value: float, **labels: str) -> Metric:
    return Metric(PREFIX + name, "gauge", help, [Sample(value, labels)])
