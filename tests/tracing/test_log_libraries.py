"""loguru, structlog and queues of `logging`: one record each, with the ids of the moment of the call."""

from __future__ import annotations

import io
import logging
import logging.handlers
import queue
from collections.abc import Iterator
from typing import Any

import loguru
import pytest
import structlog

import tracing
from tracing.testing import Captured, capturing


@pytest.fixture
def captured() -> Iterator[Captured]:
    """Both libraries turned on."""
    with capturing(level="INFO") as lines:
        tracing.instrument("loguru", "structlog")
        yield lines
        tracing.uninstrument()


@pytest.fixture
def logger() -> Iterator[Any]:
    """loguru's logger, without the handlers of others."""
    loguru.logger.remove()
    yield loguru.logger
    loguru.logger.remove()


# ---------------------------------------------------------------- loguru


def test_loguru(captured: Captured, logger: Any) -> None:
    """Message, level, bound values, place and exception; what it prints stays as it was."""
    printed, alone = io.StringIO(), io.StringIO()
    for out in (printed, alone):
        options = {"level": "INFO", "format": "{level} {message} {extra}", "diagnose": False}
        handlers = [logger.add(out, **options) for _ in range(2)]
        with tracing.span("order"):
            logger.debug("too low")
            logger.bind(order=7, name="x").info("placed {}", "today")
            logger.success("done")
            try:
                raise LookupError("no stock")
            except LookupError:
                logger.exception("failed")
        for handler in handlers:
            logger.remove(handler)
        if out is printed:
            tracing.uninstrument()
    assert printed.getvalue().replace("\r", "") == alone.getvalue()
    placed, done, failed = captured.logs
    assert (placed["message"], placed["level"]) == ("placed today", "INFO")
    assert placed["attributes"] == {"order": 7, "extra.name": "x"}
    assert placed["logger"] == __name__ and placed["source"]["function"] == "test_loguru"
    assert (done["level"], done["attributes"]["log.level.name"]) == ("INFO", "SUCCESS")
    assert failed["exception"]["message"] == "no stock"
    assert {line["span_id"] for line in captured.logs} == {f"{1:016x}"}


def test_loguru_s_own_switches_count(captured: Captured, logger: Any) -> None:
    """Levels, filters and `disable()` are the program's decision."""
    logger.add(io.StringIO(), level="WARNING", filter=lambda record: "secret" not in record["message"])
    logger.info("too low")
    logger.warning("kept")
    logger.disable(__name__)
    logger.warning("disabled")
    logger.enable(__name__)
    assert captured.messages == ["kept"]


def test_out_of_logging_into_loguru(captured: Captured, logger: Any) -> None:
    """The usual `InterceptHandler`: a record is written once; what loguru says itself meanwhile is, too."""
    logger.add(io.StringIO())

    class Intercept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            logger.opt(depth=6, exception=record.exc_info).log(record.levelname, record.getMessage())
            logger.info("beside")

    stdlib = logging.getLogger("intercepted")
    handler = Intercept()
    stdlib.addHandler(handler)
    try:
        stdlib.warning("order %d", 7)
    finally:
        stdlib.removeHandler(handler)
    assert captured.messages == ["order 7", "beside"]


def test_out_of_loguru_into_logging(captured: Captured, logger: Any) -> None:
    """The usual `PropagateHandler`: the same the other way round."""

    class Propagate(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            logging.getLogger("propagated").handle(record)
            logging.getLogger("propagated").warning("beside")

    logger.add(Propagate(), format="{message}")
    logger.bind(order=7).warning("order")
    logger.warning("another")
    assert captured.messages == ["order", "beside", "another", "beside"]


# ---------------------------------------------------------------- structlog


@pytest.fixture
def configured() -> Iterator[None]:
    """structlog's settings are global."""
    yield
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


@pytest.mark.usefixtures("configured")
def test_structlog_that_prints(captured: Captured, capsys: Any) -> None:
    """Its default writes to standard output, past `logging`."""
    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, structlog.processors.JSONRenderer()],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
    )
    structlog.contextvars.bind_contextvars(tenant="acme")
    log = structlog.get_logger().bind(order=7)
    with tracing.span("order"):
        log.debug("too low")
        log.warning("placed", name="x")
        try:
            raise LookupError("no stock")
        except LookupError:
            log.exception("failed")
    assert len(capsys.readouterr().out.splitlines()) == 2
    placed, failed = captured.logs
    assert (placed["message"], placed["level"]) == ("placed", "WARN")
    assert placed["attributes"] == {"tenant": "acme", "order": 7, "extra.name": "x"}
    assert placed["logger"] == __name__ and placed["source"]["function"] == "test_structlog_that_prints"
    assert failed["exception"]["message"] == "no stock" and failed["level"] == "ERROR"
    assert {line["span_id"] for line in captured.logs} == {f"{1:016x}"}


@pytest.mark.usefixtures("configured")
def test_events_that_a_processor_drops(captured: Captured) -> None:
    """They are no records either."""

    def drop(_logger: Any, _method: str, event: Any) -> Any:
        raise structlog.DropEvent

    structlog.configure(processors=[drop])
    structlog.get_logger().info("noise")
    assert captured.logs == []


@pytest.mark.usefixtures("configured")
def test_structlog_on_logging(captured: Captured) -> None:
    """Once, and with its values as attributes where a formatter would make text of them."""
    structlog.configure(
        processors=[structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    log = structlog.get_logger("shop").bind(order=7)
    log.warning("placed")
    log.warning("charged", password="hush")
    placed, charged = captured.logs
    assert (placed["message"], placed["logger"]) == ("placed", "shop")
    assert placed["attributes"] == {"order": 7}
    assert charged["attributes"]["order"] == 7 and "hush" not in str(charged)


# ---------------------------------------------------------------- queues of logging


def test_a_queue_keeps_the_ids_of_the_moment_of_the_call(captured: Captured) -> None:
    """The listener handles records in another thread, later, and nothing is written twice."""
    records: queue.SimpleQueue[Any] = queue.SimpleQueue()
    handled: list[str] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            handled.append(record.getMessage())

    stdlib = logging.getLogger("queued")
    sending = logging.handlers.QueueHandler(records)
    listener = logging.handlers.QueueListener(records, Handler(), tracing.LogHandler())
    stdlib.addHandler(sending)
    try:
        with tracing.span("order"):
            stdlib.warning("order %d", 7)
        listener.start()
        listener.stop()  # which waits until the queue is empty
    finally:
        stdlib.removeHandler(sending)
    [line] = captured.logs
    assert line["message"] == "order 7" and line["span_id"] == captured.span("order")["span_id"]
    assert handled == ["order 7"]
