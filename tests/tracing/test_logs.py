"""Log records: every kind of call becomes a line, and none can recurse, deadlock or raise."""

from __future__ import annotations

import logging
import logging.config
import logging.handlers
import queue
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any

import orjson
import pytest

import tracing
from tracing import health
from tracing.line import decode
from tracing.logs import records
from tracing.logs.records import DEPTH_MAX, level_of
from tracing.sink import slot
from tracing.testing import Captured, capturing

log = logging.getLogger("app.orders")


def test_a_record_is_one_line(tracing_capture: Captured) -> None:
    """Level, message, logger, source, and the ids of the span around."""
    with tracing.span("work"):
        log.warning("order %d of %s", 7, "ann")
    [line] = tracing_capture.logs
    assert {key: line[key] for key in ("level", "service", "message", "logger")} == {
        "level": "WARN",
        "service": "test",
        "message": "order 7 of ann",
        "logger": "app.orders",
    }
    assert (line["trace_id"], line["span_id"]) == (f"{1:032x}", f"{1:016x}")
    assert line["source"]["file"] == __file__
    assert line["source"]["function"] == "test_a_record_is_one_line"


def test_outside_a_span_there_are_no_ids(tracing_capture: Captured) -> None:
    """The keys are absent, never zeroes."""
    log.info("hello")
    assert not {"trace_id", "span_id", "trace_flags"} & tracing_capture.logs[0].keys()


class Brace:
    """The logging cookbook's way to format with braces."""

    def __init__(self, text: str, *args: Any) -> None:
        self.text, self.args = text, args

    def __str__(self) -> str:
        return self.text.format(*self.args)


@pytest.mark.parametrize(
    ("message", "args", "expected"),
    [
        ("plain", (), "plain"),
        ("%s and %r", ("a", "b"), "a and 'b'"),
        ("%(who)s paid", ({"who": "ann"},), "ann paid"),
        (Brace("{0} paid {1:.2f}", "ann", 3), (), "ann paid 3.00"),
        (7, (), "7"),
        (None, (), "None"),
        ("100 %", (), "100 %"),
        ("lone \ud800", (), "lone ?"),
        ("%s", (object,), "<class 'object'>"),
    ],
)
def test_every_way_to_say_it(tracing_capture: Captured, message: Any, args: Any, expected: str) -> None:
    """`%`, dictionaries, braces, objects."""
    for _ in range(2):
        log.info(message, *args)
    assert tracing_capture.messages == [expected] * 2


def test_a_message_that_cannot_be_formatted_is_not_lost(tracing_capture: Captured, capfd: Any) -> None:
    """`logging` prints a traceback and loses the record; the reader of a trace wants both."""
    before = health.counts["message_not_formatted"]
    records.write(log.makeRecord("app", 20, "a.py", 1, "%d items", ("many",), None))
    records.write(log.makeRecord("app", 20, "a.py", 1, "%(missing)s", ({"a": 1},), None))
    first, second = tracing_capture.logs
    assert first["message"] == "%d items" and first["attributes"]["log.args"] == "('many',)"
    assert "TypeError" in first["attributes"]["log.format_error"]
    assert "KeyError" in second["attributes"]["log.format_error"]
    assert health.counts["message_not_formatted"] == before + 2
    assert capfd.readouterr() == ("", "")


def test_extra_becomes_attributes(tracing_capture: Captured) -> None:
    """Of any type, and beyond the limit counted."""
    log.info("paid", extra={"order": 7, "who": {"name": "ann"}, "odd": object(), "when": complex(1)})
    attributes = tracing_capture.logs[0]["attributes"]
    assert (
        attributes["order"] == 7 and attributes["who"] == {"name": "ann"} and attributes["when"] == "(1+0j)"
    )
    assert attributes["odd"].startswith("<object object")
    before = health.counts["attributes_over_limit"]
    log.info("many", extra={f"key{number}": number for number in range(130)})
    assert len(tracing_capture.logs[1]["attributes"]) == records.ATTRIBUTES_MAX
    assert health.counts["attributes_over_limit"] == before + 2


def test_attributes_of_a_record_factory_are_kept(tracing_capture: Captured) -> None:
    """As with `extra=`; what OpenTelemetry's own injection adds is said by the ids already."""
    factory = logging.getLogRecordFactory()

    def made(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = factory(*args, **kwargs)
        record.request = "r-1"
        record.otelTraceID = "0"
        return record

    logging.setLogRecordFactory(made)
    try:
        log.info("hello")
    finally:
        logging.setLogRecordFactory(factory)
    assert tracing_capture.logs[0]["attributes"] == {"request": "r-1"}


def test_an_exception_and_a_stack(tracing_capture: Captured) -> None:
    """`exc_info=True`, an exception, a triple; `stack_info=True`."""
    try:
        raise ValueError("wrong")
    except ValueError as error:
        log.exception("failed")
        log.error("failed", exc_info=error)
        log.error("failed", exc_info=sys.exc_info())
    log.error("outside", exc_info=True)
    log.info("here", stack_info=True)
    *failed, outside, here = tracing_capture.logs
    for line in failed:
        assert line["exception"]["type"] == "ValueError" and line["exception"]["message"] == "wrong"
        assert 'raise ValueError("wrong")' in line["exception"]["stacktrace"]
    assert "exception" not in outside
    assert "test_an_exception_and_a_stack" in here["attributes"]["code.stacktrace"]


@pytest.mark.parametrize(
    ("number", "name", "expected", "own"),
    [
        (10, "DEBUG", "DEBUG", None),
        (30, "WARNING", "WARN", None),
        (50, "CRITICAL", "FATAL", None),
        (5, "TRACE", "TRACE", None),
        (5, "Level 5", "TRACE", "Level 5"),
        (25, "SUCCESS", "INFO", "SUCCESS"),
        (25, "NOTICE", "INFO2", "NOTICE"),
        (35, "AUDIT", "WARN", "AUDIT"),
        (99, "Level 99", "FATAL", "Level 99"),
        (0, "NOTSET", "TRACE", "NOTSET"),
    ],
)
def test_levels(tracing_capture: Captured, number: int, name: str, expected: str, own: str | None) -> None:
    """By name where OpenTelemetry knows it, else the nearest below, with the program's own name beside."""
    level = level_of(number, name)
    assert (level.name, level.own_name) == (expected, own)
    record = log.makeRecord("app", number, "a.py", 1, "m", (), None)
    record.levelname = name
    records.write(record)
    [line] = tracing_capture.logs
    assert line["level"] == expected
    assert line.get("attributes", {}).get("log.level.name") == own


# ---------------------------------------------------------------- log calls inside log calls


def test_a_log_call_inside_a_repr_is_written(tracing_capture: Captured) -> None:
    """And does not recurse, however often the object is met."""

    class Chatty:
        def __repr__(self) -> str:
            log.info("being printed", extra={"me": self})
            return "<chatty>"

    before = health.counts["reentrant_record"]
    log.info("look", extra={"thing": Chatty()})
    log.info("done")
    messages = tracing_capture.messages
    assert messages.count("look") == 1 and messages[-1] == "done"
    assert 1 <= messages.count("being printed") < 2**DEPTH_MAX * DEPTH_MAX
    assert health.counts["reentrant_record"] > before


def test_a_log_call_inside_a_signal_handler(tracing_capture: Captured) -> None:
    """It arrives between any two lines of ours, so nothing may be locked there."""
    seen = 0

    def handler(number: int, frame: Any) -> None:
        nonlocal seen
        seen += 1
        log.info("signal", extra={"odd": object()})

    dropped_before = health.counts["reentrant_record"]
    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    try:
        sent = 0
        while seen < 20:
            log.info("work %d", sent, extra={"odd": object()})
            sent += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    messages = tracing_capture.messages
    assert sum(message.startswith("work") for message in messages) == sent
    dropped = health.counts["reentrant_record"] - dropped_before
    assert messages.count("signal") + dropped == seen, "what came on top of too many others is counted"


def test_a_log_call_inside_del(tracing_capture: Captured) -> None:
    """The collector of garbage runs where it likes."""

    class Leaving:
        def __del__(self) -> None:
            log.info("leaving")

    class Holder:
        def __repr__(self) -> str:
            Leaving()
            return "<holder>"

    log.info("look", extra={"thing": Holder()})
    assert sorted(tracing_capture.messages) == ["leaving", "look"]


def test_a_sink_that_logs_does_not_recurse() -> None:
    """Somebody's exporter may use a library that logs."""

    class Noisy(Captured):
        def write(self, line: bytes, severity_number: int) -> None:
            super().write(line, severity_number)
            if len(self.raw) < 100:
                log.info("wrote", extra={"odd": object()})

    noisy = Noisy()
    with capturing() as captured:
        slot.sink = noisy
        log.info("hello", extra={"odd": object()})
        slot.sink = captured
    assert 1 <= len(noisy.raw) <= DEPTH_MAX


def test_a_sink_that_raises_does_no_harm_and_is_switched_off_once(capsys: Any) -> None:
    """The hook says so, once, and the program's calls go on."""

    class Broken(Captured):
        def write(self, line: bytes, severity_number: int) -> None:
            raise OSError("broken")

    with capturing():
        slot.sink = Broken()
        for _ in range(50):
            log.info("hello")
    assert capsys.readouterr().err.count("log capture failed 10 times") == 1


def test_being_out_of_stack_does_no_harm(tracing_capture: Captured) -> None:
    """Near the recursion limit our own calls may not fit; the program does not notice, the fuse holds."""

    def dig(depth: int) -> int:
        try:
            return dig(depth + 1)
        except RecursionError:
            log.info("at the bottom", extra={"odd": object()})
            return depth

    for _ in range(20):
        dig(0)
    log.info("afterwards")
    assert tracing_capture.messages[-1] == "afterwards"


# ---------------------------------------------------------------- LogHandler and JsonFormatter


@pytest.fixture
def own_logger() -> Iterator[logging.Logger]:
    """A logger that is taken down again."""
    logger = logging.getLogger("own")
    logger.setLevel(logging.DEBUG)
    yield logger
    logger.handlers.clear()
    logger.propagate = True


def test_the_handler_alone_records_its_logger_only(own_logger: logging.Logger) -> None:
    """The explicit form: nothing else is captured."""
    with capturing(capture_logs=False) as captured:
        own_logger.addHandler(tracing.LogHandler(level="INFO"))
        own_logger.debug("too low")
        own_logger.info("mine")
        log.warning("not mine")
        assert captured.messages == ["mine"]


def test_beside_the_capture_the_handler_doubles_nothing(own_logger: logging.Logger) -> None:
    """Both together are one line a record."""
    with capturing() as captured:
        own_logger.addHandler(tracing.LogHandler())
        own_logger.info("mine")
        assert captured.messages == ["mine"]


def test_records_of_another_process_come_through_a_listener(own_logger: logging.Logger) -> None:
    """A queue from a child brings what this process has not seen; its own are not doubled."""
    with capturing() as captured:
        records_queue: queue.Queue[Any] = queue.Queue()
        listener = logging.handlers.QueueListener(records_queue, tracing.LogHandler())
        listener.start()
        foreign = log.makeRecord("child", 20, "a.py", 1, "from a child", (), None)
        foreign.process = 1
        own_logger.addHandler(logging.handlers.QueueHandler(records_queue))
        own_logger.info("from here")
        records_queue.put(foreign)
        listener.stop()
        assert sorted(captured.messages) == ["from a child", "from here"]


def test_the_handler_takes_no_lock(own_logger: logging.Logger) -> None:
    """A thread that is stopped while it logs stops nobody else."""
    handler = tracing.LogHandler()
    own_logger.addHandler(handler)
    assert handler.lock is None
    inside, leave = threading.Event(), threading.Event()

    class Slow:
        def __repr__(self) -> str:
            inside.set()
            leave.wait(30)
            return "slow"

    with capturing(capture_logs=False) as captured:
        thread = threading.Thread(target=lambda: own_logger.info("slow", extra={"thing": Slow()}))
        thread.start()
        assert inside.wait(30)
        own_logger.info("quick")
        assert captured.messages == ["quick"]
        leave.set()
        thread.join(30)
        assert captured.messages == ["quick", "slow"]


def test_dict_config(own_logger: logging.Logger, capsys: Any) -> None:
    """Both by their names, as a program's configuration has them."""
    with capturing(capture_logs=False) as captured:
        logging.config.dictConfig(
            {
                "version": 1,
                "disable_existing_loggers": False,
                "formatters": {"json": {"()": "tracing.JsonFormatter"}},
                "handlers": {
                    "trace": {"class": "tracing.LogHandler", "level": "INFO"},
                    "out": {
                        "class": "logging.StreamHandler",
                        "formatter": "json",
                        "stream": "ext://sys.stdout",
                    },
                },
                "loggers": {"own": {"handlers": ["trace", "out"]}},
            }
        )
        own_logger.info("hello")
        assert captured.messages == ["hello"]
        assert decode(capsys.readouterr().out.encode())["message"] == "hello"


def test_the_formatter_gives_the_same_line_with_the_resource(tracing_capture: Captured) -> None:
    """Whoever reads stdout has no header line, so the resource is in each line."""
    formatter = tracing.JsonFormatter("%(message)s", None, "%")
    with tracing.span("work"), tracing.bound(tenant="acme"):
        record = log.makeRecord("app", 20, "a.py", 1, "order %d", (7,), None, "place", {"extra": 1})
        records.write(record)
        text = formatter.format(record)
    written = orjson.loads(tracing_capture.raw[-1 - len(tracing_capture.spans)][0])
    read = orjson.loads(text)
    assert "\n" not in text
    assert list(read)[-1] == "resource" and read.pop("resource")["service.name"] == "test"
    assert read == written


def test_the_formatter_works_without_configure(monkeypatch: pytest.MonkeyPatch) -> None:
    """For programs that only want such lines on stdout."""
    tracing.uninstall()
    monkeypatch.setenv("OTEL_SERVICE_NAME", "orders")
    text = tracing.JsonFormatter().format(log.makeRecord("app", 20, "a.py", 1, "hello", (), None))
    read = decode(text.encode())
    assert read["service"] == "orders" and read["resource"] == {"service.name": "orders"}
    slot.identify("unknown_service")


def test_levels_stay_where_nobody_asked() -> None:
    """`configure()` without `level=` changes no level."""
    root = logging.getLogger()
    before = root.level
    with capturing(level=None) as captured:
        assert root.level == before
        logging.getLogger("fresh").log(1, "below")
        assert captured.messages == []
    assert root.level == before
