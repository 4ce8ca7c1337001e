"""The rows of `python -m tests.bench`: what is measured, against whom, with which bound (DESIGN, budgets)."""

from __future__ import annotations

from tests.bench.harness import Contender, Row

LIB = "tests.bench.library"
MAPPED = (
    "A mapped segment needs a file system that is known to be good; elsewhere it is written like the other."
)


def _peer(package: str, function: str, operations: int) -> Contender:
    name = f"tests.bench.peers:{function}"
    return Contender(name=package, function=name, operations=operations, package=package)


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
            name="log call of a program with handlers of its own",
            unit="µs",
            peer="its FileHandler alone",
            contenders=[
                Contender(name="its FileHandler alone", function=f"{LIB}:log_stdlib", operations=40_000),
                Contender(
                    name="its FileHandler and ours", function=f"{LIB}:log_ours_beside", operations=40_000
                ),
            ],
            note="A handler of the program's takes the record, so it is made as always, and both write.",
        ),
        Row(
            name="log call beside other log libraries",
            unit="µs",
            peer="ours, spool on disk",
            contenders=[
                Contender(name="ours, spool on disk", function=f"{LIB}:log_ours", operations=40_000),
                _peer("structlog", "log_structlog", 20_000),
                _peer("python-json-logger", "log_json_logger", 20_000),
                _peer("loguru", "log_loguru", 5_000),
                _peer("ddtrace", "log_ddtrace", 20_000),
                _peer("sentry-sdk", "log_sentry", 5_000),
                _peer("logfire", "log_logfire", 5_000),
            ],
            note=(
                "structlog, python-json-logger, loguru and ddtrace write to a file; what sentry-sdk and"
                " logfire would send is thrown away. Of these only ours outlives its process in any case."
            ),
        ),
        Row(
            name="log call beside OpenTelemetry's handler",
            unit="µs",
            peer="OTel LoggingHandler + batch",
            contenders=[
                Contender(
                    name="OTel LoggingHandler + batch",
                    function=f"{LIB}:log_otel",
                    operations=20_000,
                    package="opentelemetry-sdk",
                ),
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
                    name="OTel SDK + BatchSpanProcessor",
                    function=f"{LIB}:span_otel",
                    operations=20_000,
                    package="opentelemetry-sdk",
                ),
                Contender(name="ours, spool on disk", function=f"{LIB}:span_ours", operations=30_000),
                Contender(
                    name="ours, tracing.span()", function=f"{LIB}:span_ours_front_door", operations=30_000
                ),
            ],
            bounds={"ours, spool on disk": 0.4, "ours, tracing.span()": 0.4},
        ),
        Row(
            name="span beside other tracers",
            unit="µs",
            peer="ours, spool on disk",
            contenders=[
                Contender(name="ours, spool on disk", function=f"{LIB}:span_ours", operations=30_000),
                _peer("ddtrace", "span_ddtrace", 10_000),
                _peer("sentry-sdk", "span_sentry", 5_000),
                _peer("logfire", "span_logfire", 5_000),
            ],
            note="Ours is a line on the disk; what the others would send is thrown away.",
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
                Contender(
                    name="OTel W3C + baggage",
                    function=f"{LIB}:propagate_otel",
                    operations=30_000,
                    package="opentelemetry-sdk",
                ),
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
