"""The other libraries' log call and span: what a team might use in our place, set up as their manuals say.

Each writes its line to a file, or, where its way out is a network, into an exporter or transport that
throws everything away, so that nobody pays for a network that the others do not have. Each function
returns seconds for N operations.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.bench.library import ATTRIBUTES, logger, timed

MESSAGE = "order %s accepted for customer %s"


def _calls(log: Callable[..., Any], *names: str) -> Callable[[int], None]:
    """Calls of a logger that takes its values by name, or, without names, as `logging` does."""

    def positional(count: int) -> None:
        for number in range(count):
            log(MESSAGE, number, "c-4711")

    def named(count: int) -> None:
        for number in range(count):
            log("order accepted", order=number, customer="c-4711")

    return named if names else positional


def _to_file(directory: Path, formatter: logging.Formatter) -> None:
    handler = logging.FileHandler(directory / "lines.log")
    handler.setFormatter(formatter)
    logging.getLogger().addHandler(handler)


# ------------------------------------------------------------------ a log call


def log_json_logger(directory: Path, operations: int) -> float:
    """python-json-logger: a formatter for the standard library's FileHandler."""
    from pythonjsonlogger.orjson import OrjsonFormatter

    _to_file(directory, OrjsonFormatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    return timed(_calls(logger().info), operations)


def log_structlog(directory: Path, operations: int) -> float:
    """structlog as its page on performance advises: orjson, bytes, ids by contextvars."""
    import orjson
    import structlog

    structlog.configure(
        cache_logger_on_first_use=True,
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.format_exc_info,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(serializer=orjson.dumps),
        ],
        logger_factory=structlog.BytesLoggerFactory(file=(directory / "lines.log").open("wb")),
    )
    structlog.contextvars.bind_contextvars(
        trace_id="0af7651916cd43dd8448eb211c80319c", span_id="b7ad6b7169203331"
    )
    return timed(_calls(structlog.get_logger("shop.orders").info, "order", "customer"), operations)


def log_loguru(directory: Path, operations: int) -> float:
    """loguru into a file, serialised as JSON."""
    from loguru import logger as loguru_logger

    loguru_logger.remove()
    loguru_logger.add(directory / "lines.log", serialize=True)
    return timed(_calls(loguru_logger.bind(name="shop.orders").info, "order", "customer"), operations)


def log_ddtrace(directory: Path, operations: int) -> float:
    """ddtrace: its log injection puts ids on each record; a FileHandler writes them as text."""
    tracer = _ddtrace()
    from ddtrace import patch

    patch(logging=True)
    _to_file(
        directory,
        logging.Formatter(
            "%(asctime)s %(levelname)s %(name)s"
            " [dd.trace_id=%(dd.trace_id)s dd.span_id=%(dd.span_id)s] %(message)s"
        ),
    )
    with tracer.trace("bench"):
        return timed(_calls(logger().info), operations)


def log_sentry(directory: Path, operations: int) -> float:
    """sentry-sdk with structured logs switched on, in a transaction; its transport throws everything away."""
    import sentry_sdk

    _sentry(enable_logs=True)
    logging.getLogger().addHandler(logging.NullHandler())
    with sentry_sdk.start_transaction(name="bench"):
        return timed(_calls(logger().info), operations)


def log_logfire(directory: Path, operations: int) -> float:
    """logfire's handler, in a span; its exporter throws everything away."""
    import logfire

    _logfire()
    logging.getLogger().addHandler(logfire.LogfireLoggingHandler())
    with logfire.span("bench"):
        return timed(_calls(logger().info), operations)


# ------------------------------------------------------------------ a span with five attributes


def span_ddtrace(directory: Path, operations: int) -> float:
    """ddtrace; its writer throws everything away."""
    tracer = _ddtrace()

    def run(count: int) -> None:
        for _ in range(count):
            with tracer.trace("GET /orders/{id}") as span:
                for key, value in ATTRIBUTES.items():
                    span.set_tag(key, value)

    with tracer.trace("parent"):
        return timed(run, operations)


def span_sentry(directory: Path, operations: int) -> float:
    """sentry-sdk: spans of transactions of 500, less than the 1 000 that one keeps; nothing is sent."""
    import sentry_sdk

    _sentry()

    def run(count: int) -> None:
        for first in range(0, count, 500):
            with sentry_sdk.start_transaction(name="parent"):
                for _ in range(min(500, count - first)):
                    with sentry_sdk.start_span(op="http.server", name="GET /orders/{id}") as span:
                        for key, value in ATTRIBUTES.items():
                            span.set_data(key, value)

    return timed(run, operations)


def span_logfire(directory: Path, operations: int) -> float:
    """logfire; its exporter throws everything away."""
    import logfire

    _logfire()
    attributes: dict[str, Any] = {key.replace(".", "_"): value for key, value in ATTRIBUTES.items()}

    def run(count: int) -> None:
        for _ in range(count):
            with logfire.span("GET /orders/{id}", **attributes):
                pass

    with logfire.span("parent"):
        return timed(run, operations)


# ------------------------------------------------------------------ their set-up


def _ddtrace() -> Any:
    os.environ.update(
        DD_TRACE_STARTUP_LOGS="0",
        DD_INSTRUMENTATION_TELEMETRY_ENABLED="0",
        DD_REMOTE_CONFIGURATION_ENABLED="0",
    )
    from ddtrace.trace import TraceFilter, tracer

    class Discard(TraceFilter):
        def process_trace(self, trace: Any) -> None:
            return

    tracer.configure(trace_processors=[Discard()])
    return tracer


def _sentry(**options: Any) -> None:
    import sentry_sdk
    from sentry_sdk.transport import Transport

    class Discard(Transport):
        def capture_envelope(self, envelope: Any) -> None:
            return

    sentry_sdk.init(
        dsn="http://key@127.0.0.1:9/1",
        transport=Discard,
        traces_sample_rate=1.0,
        default_integrations=True,
        **options,
    )


def _logfire() -> None:
    import logfire
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

    class Discard(SpanExporter):
        def export(self, spans: Any) -> SpanExportResult:
            return SpanExportResult.SUCCESS

    logfire.configure(
        send_to_logfire=False,
        console=False,
        metrics=False,
        inspect_arguments=False,
        additional_span_processors=[BatchSpanProcessor(Discard())],
    )
