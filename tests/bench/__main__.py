"""`python -m tests.bench [--rounds N] [--only TEXT]`: every row, printed as it comes, saved as JSON."""

from __future__ import annotations

import argparse
import sys

from tests.bench.harness import Contender, Row, machine, measure, save, show

LIB = "tests.bench.library"
MAPPED = (
    "A mapped segment needs a file system that is known to be good; elsewhere it is written like the other."
)


def library_rows() -> list[Row]:
    """The library's budgets."""
    return [
        Row(
            name="log call",
            unit="µs",
            peer="stdlib FileHandler, plain text",
            contenders=[
                Contender(
                    name="stdlib FileHandler, plain text", function=f"{LIB}:log_stdlib", operations=40_000
                ),
                Contender(name="ours, spool on disk", function=f"{LIB}:log_ours", operations=40_000),
                Contender(name="ours, mapped segment", function=f"{LIB}:log_ours_mapped", operations=40_000),
            ],
            bounds={"ours, spool on disk": 0.85, "ours, mapped segment": 0.7},
            note=MAPPED,
        ),
        Row(
            name="log call beside OpenTelemetry's handler",
            unit="µs",
            peer="OTel LoggingHandler + batch",
            contenders=[
                Contender(name="OTel LoggingHandler + batch", function=f"{LIB}:log_otel", operations=20_000),
                Contender(name="ours, spool on disk", function=f"{LIB}:log_ours", operations=40_000),
                Contender(name="ours, mapped segment", function=f"{LIB}:log_ours_mapped", operations=40_000),
            ],
            bounds={"ours, spool on disk": 0.45, "ours, mapped segment": 0.4},
            note=MAPPED,
        ),
        Row(
            name="redaction, of a log call without a secret",
            unit="µs",
            peer="redaction off",
            contenders=[
                Contender(name="redaction off", function=f"{LIB}:log_ours_unredacted", operations=40_000),
                Contender(name="redaction on", function=f"{LIB}:log_ours", operations=40_000),
                Contender(
                    name="with own patterns", function=f"{LIB}:log_ours_own_patterns", operations=40_000
                ),
            ],
            note="What looking for keys and patterns costs; both are spooled to disk.",
        ),
        Row(
            name="span start + end, 5 attributes",
            unit="µs",
            peer="OTel SDK + BatchSpanProcessor",
            contenders=[
                Contender(
                    name="OTel SDK + BatchSpanProcessor", function=f"{LIB}:span_otel", operations=20_000
                ),
                Contender(name="ours, spool on disk", function=f"{LIB}:span_ours", operations=30_000),
                Contender(
                    name="ours, tracing.span()", function=f"{LIB}:span_ours_front_door", operations=30_000
                ),
            ],
            bounds={"ours, spool on disk": 0.4, "ours, tracing.span()": 0.4},
        ),
        Row(
            name="span where a provider is already set",
            unit="µs",
            peer="their provider alone",
            contenders=[
                Contender(name="their provider alone", function=f"{LIB}:span_otel", operations=20_000),
                Contender(
                    name="their provider and our processor", function=f"{LIB}:span_beside", operations=20_000
                ),
            ],
            note="The span is the SDK's own; ours is the line that is made of it and spooled to disk.",
        ),
        Row(
            name="inject + extract",
            unit="µs",
            peer="OTel W3C + baggage",
            contenders=[
                Contender(name="OTel W3C + baggage", function=f"{LIB}:propagate_otel", operations=30_000),
                Contender(name="ours", function=f"{LIB}:propagate_ours", operations=60_000),
            ],
            bounds={"ours": 0.5},
        ),
        Row(
            name="start of a process",
            unit="µs",
            peer="interpreter alone",
            contenders=[
                Contender(name="interpreter alone", function=f"{LIB}:start_without", operations=1),
                Contender(name="import tracing", function=f"{LIB}:start_imported", operations=1),
                Contender(name="configure() and a span", function=f"{LIB}:start_configured", operations=1),
            ],
            note="Goal: `import tracing` at most 60 ms over the interpreter's own.",
        ),
        Row(
            name="exit with 100 000 unsent records, collector away",
            unit="µs",
            peer="without us",
            contenders=[
                Contender(name="without us", function=f"{LIB}:exit_without", operations=1),
                Contender(name="with us", function=f"{LIB}:exit_with", operations=1),
            ],
            note="From the last statement until the process is gone. Bound: 50 ms longer than without us.",
        ),
    ]


def handoff_rows() -> list[Row]:
    """What each hand-off inside the process costs; the bound is 1.5 µs more than without it."""
    steps = {
        "Queue.put + get": ("queue", 100_000),
        "Queue.put, then get + task_done by a worker": ("delivery", 100_000),
        "asyncio.Queue.put_nowait + get": ("asyncio_queue", 100_000),
        "Thread.start + join": ("thread", 5_000),
        "ThreadPoolExecutor.submit": ("submit", 50_000),
    }
    return [
        Row(
            name=f"hand-off: {name}",
            unit="µs",
            peer="without",
            contenders=[
                Contender(
                    name="without", function=f"tests.bench.handoffs:{step}_plain", operations=operations
                ),
                Contender(
                    name="handed over", function=f"tests.bench.handoffs:{step}_carried", operations=operations
                ),
            ],
            note="Bound: 1.5 µs more a step (`put`, `get`, `start`, `submit`) than without it.",
        )
        for name, (step, operations) in steps.items()
    ]


def service_rows() -> list[Row]:
    """The service's budgets."""
    service = "tests.bench.service"
    return [
        Row(
            name="native ingest, embedded store, durable acknowledgements",
            unit="/s",
            peer="ours",
            contenders=[Contender(name="ours", function=f"{service}:ingest", operations=100_000)],
            note="Collector in its own process; until everything is searchable. Goal: ≥ 30 000/s.",
        ),
        Row(
            name="trace by id, 100 000 records stored",
            unit="µs",
            peer="in the store",
            contenders=[
                Contender(name="in the store", function=f"{service}:trace_in_store", operations=500),
                Contender(name="through the API", function=f"{service}:trace_through_api", operations=500),
            ],
            note="Goal at 2 M records: p50 ≤ 1 ms in the store, ≤ 10 ms through the API.",
        ),
    ]


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="interleaved runs of each contender")
    parser.add_argument("--only", default="", help="rows whose name contains this text")
    options = parser.parse_args()
    print("\n".join(f"{key}: {value}" for key, value in machine().items()))
    results = []
    for row in library_rows() + handoff_rows() + service_rows():
        if options.only in row.name:
            results.append(
                measure(row, options.rounds, lambda text: print(f"\r{text:78.78}", end="", file=sys.stderr))
            )
            print("\r" + " " * 78 + "\r", end="", file=sys.stderr)
            print(show(results[-1]), flush=True)
    print(f"\nsaved: {save(results)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
