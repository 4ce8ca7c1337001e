"""Library rows: a log call, a span, inject + extract. Each function returns seconds for N operations."""

from __future__ import annotations

import gc
import logging
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

DEAD_COLLECTOR = "http://127.0.0.1:9"  # nobody answers; the shipper is on and must not be felt


def timed(operation: Callable[[int], None], operations: int) -> float:
    """Warm up, then time `operation(n)` with the garbage collector as the program would have it."""
    operation(max(operations // 10, 100))
    gc.collect()
    started = time.perf_counter()
    operation(operations)
    return time.perf_counter() - started


# ------------------------------------------------------------------ a log call


def _log_calls(log: logging.Logger) -> Callable[[int], None]:
    def run(count: int) -> None:
        info = log.info
        for number in range(count):
            info("order %s accepted for customer %s", number, "c-4711")

    return run


def logger() -> logging.Logger:
    """The program's logger."""
    found = logging.getLogger("shop.orders")
    found.setLevel(logging.INFO)
    return found


def log_stdlib(directory: Path, operations: int) -> float:
    """The standard library's FileHandler with a usual plain-text format."""
    add_file_handler(directory)
    return timed(_log_calls(logger()), operations)


def add_file_handler(directory: Path) -> None:
    """What a program has that logs plain text into a file."""
    handler = logging.FileHandler(directory / "plain.log")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    logging.getLogger().addHandler(handler)


def configure(directory: Path, **settings: Any) -> None:
    """Ours, spooled to disk, with a collector that is away."""
    import tracing

    tracing.configure(service="bench", spool_dir=str(directory), collector_url=DEAD_COLLECTOR, **settings)


def log_ours(directory: Path, operations: int) -> float:
    """JSON line with ids, inside a span, spooled to disk by one `write`."""
    import tracing

    logging.getLogger().addHandler(logging.NullHandler())
    configure(directory)
    with tracing.span("bench"):
        return timed(_log_calls(logger()), operations)


def log_ours_beside(directory: Path, operations: int) -> float:
    """JSON line with ids, and the program's own FileHandler as in `log_stdlib`: both write."""
    import tracing

    add_file_handler(directory)
    configure(directory)
    with tracing.span("bench"):
        return timed(_log_calls(logger()), operations)


def log_ours_mapped(directory: Path, operations: int) -> float:
    """The same into a mapped segment; needs a directory on a file system that is known to be good."""
    import tracing

    logging.getLogger().addHandler(logging.NullHandler())
    configure(directory, spool_mode="mapped")
    with tracing.span("bench"):
        return timed(_log_calls(logger()), operations)


def log_ours_unredacted(directory: Path, operations: int) -> float:
    """The same as `log_ours` with redaction switched off."""
    import tracing

    logging.getLogger().addHandler(logging.NullHandler())
    configure(directory, redact=False)
    with tracing.span("bench"):
        return timed(_log_calls(logger()), operations)


def log_ours_own_patterns(directory: Path, operations: int) -> float:
    """The same as `log_ours` with patterns of the operator's beside the built-in rules."""
    import tracing

    logging.getLogger().addHandler(logging.NullHandler())
    configure(directory, redact_patterns=(r"MRN\d+", r"\bDE\d{20}\b"))
    with tracing.span("bench"):
        return timed(_log_calls(logger()), operations)


def log_otel(directory: Path, operations: int) -> float:
    """OpenTelemetry's handler and batch processor inside a span; its exporter throws everything away."""
    add_otel_handler()
    with _otel_tracer().start_as_current_span("bench"):
        return timed(_log_calls(logger()), operations)


def add_otel_handler() -> None:
    """OpenTelemetry's handler with its batch processor."""
    from opentelemetry.sdk._logs import LoggerProvider, LoggingHandler
    from opentelemetry.sdk._logs.export import BatchLogRecordProcessor

    provider = LoggerProvider()
    provider.add_log_record_processor(BatchLogRecordProcessor(_discarding_log_exporter()))
    logging.getLogger().addHandler(LoggingHandler(logger_provider=provider))


def _discarding_log_exporter() -> Any:
    from opentelemetry.sdk._logs import export

    base = getattr(export, "LogRecordExporter", None) or export.LogExporter
    results = getattr(export, "LogRecordExportResult", None) or export.LogExportResult

    class Discard(base):  # type: ignore[misc, valid-type]
        def export(self, batch: Any) -> Any:
            return results.SUCCESS

        def shutdown(self) -> None:
            return

        def force_flush(self, timeout_millis: int = 0) -> bool:
            return True

    return Discard()


def otel_provider() -> Any:
    """OpenTelemetry's provider with its batch processor; the exporter throws everything away."""
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

    class Discard(SpanExporter):
        def export(self, spans: Any) -> SpanExportResult:
            return SpanExportResult.SUCCESS

    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(Discard()))
    return provider


def _otel_tracer() -> Any:
    return otel_provider().get_tracer("bench")


# ------------------------------------------------------------------ a span with five attributes

ATTRIBUTES = {
    "http.request.method": "GET",
    "http.route": "/orders/{id}",
    "http.response.status_code": 200,
    "order.id": 4711,
    "customer.tier": "gold",
}


def _spans(tracer: Any) -> Callable[[int], None]:
    def run(count: int) -> None:
        for _ in range(count):
            with tracer.start_as_current_span("GET /orders/{id}", attributes=ATTRIBUTES):
                pass

    return run


def span_otel(directory: Path, operations: int) -> float:
    """OpenTelemetry's SDK span into its batch processor; its exporter throws everything away."""
    tracer = _otel_tracer()
    with tracer.start_as_current_span("parent"):
        return timed(_spans(tracer), operations)


def span_ours(directory: Path, operations: int) -> float:
    """Our light span through the same OpenTelemetry API, its line spooled to disk."""
    import tracing

    configure(directory)
    tracer = tracing.get_tracer("bench")
    with tracer.start_as_current_span("parent"):
        return timed(_spans(tracer), operations)


def span_ours_front_door(directory: Path, operations: int) -> float:
    """Our `tracing.span(...)`, as a user writes it."""
    import tracing

    configure(directory)

    def run(count: int) -> None:
        for _ in range(count):
            with tracing.span("GET /orders/{id}", attributes=ATTRIBUTES):
                pass

    with tracing.span("parent"):
        return timed(run, operations)


def span_beside(directory: Path, operations: int) -> float:
    """The SDK's provider was set before `configure()`: its own spans, and our processor on top of theirs."""
    from opentelemetry import trace

    provider = otel_provider()
    trace.set_tracer_provider(provider)
    configure(directory)
    tracer = provider.get_tracer("bench")
    with tracer.start_as_current_span("parent"):
        return timed(_spans(tracer), operations)


# ------------------------------------------------------------------ inject + extract


def propagate_otel(directory: Path, operations: int) -> float:
    """OpenTelemetry's default propagators: W3C trace context and baggage."""
    from opentelemetry import propagate

    def run(count: int) -> None:
        for _ in range(count):
            carrier: dict[str, str] = {}
            propagate.inject(carrier)
            propagate.extract(carrier)

    with _otel_tracer().start_as_current_span("parent"):
        return timed(run, operations)


def propagate_ours(directory: Path, operations: int) -> float:
    """Ours: W3C trace context, baggage and X-Trace-ID."""
    import tracing

    configure(directory)

    def run(count: int) -> None:
        for _ in range(count):
            carrier: dict[str, str] = {}
            tracing.inject(carrier)
            tracing.extract(carrier)

    with tracing.span("parent"):
        return timed(run, operations)


# ------------------------------------------------------------------ the start of a process


def _start(program: str, *arguments: str) -> float:
    """Seconds that a program takes which does nothing else."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", program, *arguments], check=True, timeout=60)
    return time.perf_counter() - started


def start_without(directory: Path, operations: int) -> float:
    """The interpreter alone; `operations` is 1."""
    return _start("pass")


def start_imported(directory: Path, operations: int) -> float:
    """`import tracing`, which no name of it is asked for; `operations` is 1."""
    return _start("import tracing")


def start_configured(directory: Path, operations: int) -> float:
    """`configure()` and one span, then the end without exit handlers; `operations` is 1."""
    program = """
import os, sys, tracing
tracing.configure(service="bench", spool_dir=sys.argv[1], collector_url=sys.argv[2])
with tracing.span("work"):
    pass
os._exit(0)
"""
    return _start(program, str(directory / "spool"), DEAD_COLLECTOR)


# ------------------------------------------------------------------ the end of a process

EXIT_RECORDS = 100_000
EXIT_PROGRAM = """
    import logging, sys, time

    logging.getLogger().addHandler(logging.NullHandler())
    if sys.argv[1] == "with":
        import tracing

        tracing.configure(service="bench", spool_dir=sys.argv[2], collector_url=sys.argv[3])
    logger = logging.getLogger("shop")
    for number in range(int(sys.argv[4])):
        logger.warning("record %d", number)
    print(time.monotonic(), flush=True)  # one clock for all processes of a machine
"""


def _exit(directory: Path, how: str) -> float:
    """Seconds from a program's last statement until its parent hears that it has ended."""
    arguments = [how, str(directory / "spool"), DEAD_COLLECTOR, str(EXIT_RECORDS)]
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(EXIT_PROGRAM), *arguments],
        stdout=subprocess.PIPE,
        check=True,
        timeout=120,
    )
    return time.monotonic() - float(done.stdout)


def exit_without(directory: Path, operations: int) -> float:
    """A program that has logged into nothing; `operations` is 1."""
    return _exit(directory, "without")


def exit_with(directory: Path, operations: int) -> float:
    """The same program with all its records unsent and a collector that is away; `operations` is 1."""
    return _exit(directory, "with")
