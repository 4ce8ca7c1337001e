"""What the embedded store costs and answers in: `python tests/bench/bench_store.py --records 2000000`.

One process, one writer thread. Pin it (`taskset -c 0`) to see what one core does. Records are made
beforehand, so that the ingest row is the store's own: `append` in batches and a commit a second's worth.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from collector.model import Record, Source, Status
from collector.store.conditions import And, Equals, Range, Words
from collector.store.embedded import EmbeddedStore, StoreLimits

START_NS = 1_763_942_400_000_000_000  # a midnight, UTC
TRACE_RECORDS = 20
COMMIT_RECORDS = 30_000


def make_records(count: int, seed: int = 1) -> Iterator[Record]:
    """Traces of 20 records, 8 spans and 12 logs, over 24 hours, of 30 services in 60 processes.

    Service n is called by service (n - 1) // 2, so that a trace is a way down a tree of services.
    """
    rng = random.Random(seed)
    words = [f"{a}{b}" for a in ("order", "cart", "card", "stock", "user", "pay") for b in range(400)]
    templates = [" ".join(rng.choices(words, k=8)) for _ in range(300)]
    processes = [
        (f"service-{n % 30}", {"service.name": f"service-{n % 30}", "service.instance.id": f"{n:032x}"})
        for n in range(60)
    ]
    spool_ids = [f"{rng.getrandbits(128):032x}" for _ in processes]
    step_ns = 86_400_000_000_000 // count
    trace_id, spans, way = "", [""], [0]
    for n in range(count):
        position = n % TRACE_RECORDS
        at_ns = START_NS + n * step_ns + rng.randrange(1000)
        if position == 0:
            trace_id, spans = f"{rng.getrandbits(128):032x}", []
        if position == 0:
            way = [rng.randrange(7, 30)]
            while way[-1]:
                way.append((way[-1] - 1) // 2)
            way.reverse()
        process = way[min(position, len(way) - 1) if position < 8 else rng.randrange(len(way))]
        process += 30 * rng.randrange(2)
        service, process_resource = processes[process]
        common: dict[str, Any] = {
            "uid": f"{spool_ids[process]}-{n * 371}",
            "timestamp_ns": at_ns,
            "service": service,
            "trace_id": trace_id,
            "resource": process_resource,
            "received_ns": START_NS + n * step_ns,
            "seq": n + 1,
        }
        if position < 8:
            span_id = f"{rng.getrandbits(64) or 1:016x}"
            failed = rng.random() < 0.01
            yield Record(
                kind="span",
                level="ERROR" if failed else "INFO",
                severity_number=17 if failed else 9,
                name=f"GET /{service}/{rng.randrange(10)}",
                span_kind="SERVER",
                span_id=span_id,
                parent_span_id=spans[min(position, len(way)) - 1] if spans else None,
                duration_ns=int(rng.lognormvariate(15, 1.5)),
                status=Status(code="ERROR") if failed else None,
                attributes={"http.request.method": "GET", "http.response.status_code": 200},
                **common,
            )
            spans.append(span_id)
        else:
            level, severity = rng.choice(
                (("INFO", 9), ("INFO", 9), ("DEBUG", 5), ("WARN", 13), ("ERROR", 17))
            )
            yield Record(
                level=level,
                severity_number=severity,
                span_id=rng.choice(spans),
                message=f"{rng.choice(templates)} {n}",
                logger=f"{service}.views",
                source=Source(file=f"/app/{service}/views.py", line=rng.randrange(20), function="handle"),
                attributes={"order_id": rng.randrange(100_000), "customer": f"c-{rng.randrange(5000)}"},
                **common,
            )


def timed(call: Callable[[], Any], times: int) -> tuple[float, float, float]:
    """Median and slowest of some calls, and their median on the processor, milliseconds."""
    call()
    taken, on_processor = [], []
    for _ in range(times):
        before, before_cpu = time.perf_counter(), time.process_time()
        call()
        taken.append((time.perf_counter() - before) * 1000)
        on_processor.append((time.process_time() - before_cpu) * 1000)
    return statistics.median(taken), max(taken), statistics.median(on_processor)


def ingest(directory: Path, count: int, batch_records: int, *, keep_records: bool) -> dict[str, float]:
    """Append and commit everything; rates leave the making of the records out."""
    store = EmbeddedStore.open(directory, limits=StoreLimits(keep_records=keep_records))
    spent = spent_cpu = 0.0
    slowest_commit = 0.0
    records = make_records(count)
    done = uncommitted = 0
    while batch := list(islice(records, batch_records)):
        before, before_cpu = time.perf_counter(), time.process_time()
        store.append(batch)
        uncommitted += len(batch)
        if uncommitted >= COMMIT_RECORDS:
            commit_before = time.perf_counter()
            store.commit()
            slowest_commit = max(slowest_commit, time.perf_counter() - commit_before)
            uncommitted = 0
        spent += time.perf_counter() - before
        spent_cpu += time.process_time() - before_cpu
        done += len(batch)
    before, before_cpu = time.perf_counter(), time.process_time()
    store.close()
    spent += time.perf_counter() - before
    spent_cpu += time.process_time() - before_cpu
    size = sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
    return {
        "ingest records/s": done / spent,
        "ingest records/cpu-s": done / spent_cpu,
        "slowest commit ms": slowest_commit * 1000,
        "bytes/record": size / done,
        "peak rss MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def queries(directory: Path, count: int) -> dict[str, tuple[float, float, float]]:
    """How many milliseconds each kind of question takes, see `timed`."""
    before = time.perf_counter()
    store = EmbeddedStore.open(directory, read_only=True, limits=StoreLimits(reload_interval_s=3600))
    opening_ms = (time.perf_counter() - before) * 1000
    sample = [record for n, record in enumerate(make_records(count)) if n % max(1, count // 500) == 0]
    trace_ids = [record.trace_id for record in sample if record.trace_id]
    at = iter(range(10**9))
    day = {"start_ns": START_NS, "end_ns": START_NS + 86_400_000_000_000}
    hour = {"start_ns": START_NS + 36_000_000_000_000, "end_ns": START_NS + 39_600_000_000_000}
    error = And((Equals("service", "service-3"), Equals("level", "ERROR")))
    asked: dict[str, tuple[Callable[[], Any], int]] = {
        "trace by id": (lambda: store.trace(trace_ids[next(at) % len(trace_ids)], records_max=1000), 400),
        "newest 50": (lambda: store.search(), 20),
        "newest 50 of service and level": (lambda: store.search(error), 20),
        "text and service, newest 50": (
            lambda: store.search(And((Words(("order7",)), Equals("service", "service-3")))),
            20,
        ),
        "rare word": (lambda: store.search(Words((str(count - 5),))), 50),
        "attribute equal": (lambda: store.search(Equals("order_id", 77)), 50),
        "attribute range, counted": (lambda: store.count(Range("order_id", 10, 2000)), 5),
        "count of a day": (lambda: store.count(error, **day), 10),
        "services of a day": (lambda: store.services(**day), 5),
        "services of an hour": (lambda: store.services(**hour), 5),
        "operations of a day": (lambda: store.operations("service-3", **day), 5),
        "edges of a day": (lambda: store.edges(**day), 3),
        "facet level": (lambda: store.facets("level"), 5),
        "facet customer of errors": (lambda: store.facets("customer", error), 3),
        "20 newest traces": (lambda: store.find_traces(), 10),
        "20 newest traces with an error": (lambda: store.find_traces(error=True), 10),
        "20 newest traces of 10 s": (lambda: store.find_traces(min_duration_ns=10**10), 3),
        "stats": (lambda: store.stats(), 10),
    }
    answers = {"open read-only": (opening_ms, opening_ms, opening_ms)}
    for name, (call, times) in asked.items():
        answers[name] = timed(call, times)
    store.close()
    return answers


def main() -> None:
    """Print the table; with `--json` as one object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=200_000)
    parser.add_argument("--batch", type=int, default=1_000)
    parser.add_argument("--directory", type=Path, help="keep the store here (and use one that is there)")
    parser.add_argument(
        "--keep-records",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="each record once more beside the index, as the service does by default",
    )
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    home = options.directory or Path(tempfile.mkdtemp(prefix="backtrail-bench-"))
    try:
        results: dict[str, Any] = {}
        if not (home / "partitions").exists():
            results["ingest"] = ingest(
                home, options.records, options.batch, keep_records=options.keep_records
            )
        results["queries ms"] = queries(home, options.records)
    finally:
        if options.directory is None:
            shutil.rmtree(home, ignore_errors=True)
    if options.json:
        print(json.dumps(results, indent=2))
        return
    for name, value in results.get("ingest", {}).items():
        print(f"{name:34} {value:12.1f}")
    print(f"{'milliseconds':34} {'median':>12} {'slowest':>12} {'median cpu':>12}")
    for name, columns in results["queries ms"].items():
        print(f"{name:34}", *(f"{column:12.3f}" for column in columns))


if __name__ == "__main__":
    main()
