"""The short way of a log call: the same line, no record, and only where nobody would look at one."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tracing
from tracing.logs import LogHandler
from tracing.logs.direct import short_way
from tracing.testing import Captured, capturing

NAME = "short.way"
# None of `getLogger`'s: the test runner hangs handlers of its own on those.
log = logging.Logger(NAME)


@pytest.fixture(autouse=True)
def _alone() -> Iterator[None]:
    """No handler but one that does nothing."""
    log.handlers = [logging.NullHandler()]
    yield
    log.handlers, log.filters, log.disabled = [], [], False


@contextmanager
def counted_records() -> Iterator[list[str]]:
    """How many records are made, by looking at what makes them from outside of `logging`'s own methods."""
    made: list[str] = []
    init = logging.LogRecord.__init__

    def counting(record: logging.LogRecord, *args: Any, **kwargs: Any) -> None:
        made.append("a record")
        init(record, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logging.LogRecord, "__init__", counting)
        yield made


def say(message: object, *args: object, level: int = logging.WARNING) -> None:
    log.log(level, message, *args)


def test_no_record_is_made(tracing_capture: Captured) -> None:
    """Once the level is known, that is: its first line goes the long way."""
    say("first")
    with counted_records() as made, tracing.span("work"):
        say("order %s of %d", "o-1", 7)
    assert made == []
    line = tracing_capture.logs[-1]
    assert (line["message"], line["level"], line["logger"]) == ("order o-1 of 7", "WARN", NAME)
    assert line["span_id"] == tracing_capture.span("work")["span_id"]
    assert (line["source"]["file"], line["source"]["function"]) == (__file__, "say")


@given(
    message=st.text() | st.sampled_from(["%s and %s", "%d %s", "100 %", "password=hunter2", "\ud800"]),
    args=st.lists(st.text() | st.integers() | st.floats() | st.none() | st.binary(), max_size=2),
    level=st.sampled_from([logging.DEBUG, logging.INFO, logging.WARNING, 35, logging.CRITICAL]),
    bound=st.booleans(),
)
def test_both_ways_write_the_same_line(message: str, args: list[object], level: int, bound: bool) -> None:
    """But for the time, which is that of the call; whatever the message and what is put into it."""
    lines = []
    if bound:
        tracing.bind(order="o-1")
    try:
        for is_open in (True, False):
            with capturing() as captured:
                short_way.is_open = is_open
                say("first", level=level)
                say(message, *args, level=level)
            lines.append(captured.logs[-1])
    finally:
        tracing.unbind("order")
    for line in lines:
        line.pop("timestamp")
    assert lines[0] == lines[1]


def with_a_handler() -> Callable[[], None]:
    log.addHandler(logging.StreamHandler())
    return lambda: None


def with_a_filter() -> Callable[[], None]:
    log.addFilter(lambda record: True)
    return lambda: None


def with_a_filtered_handler() -> Callable[[], None]:
    log.handlers[0].addFilter(lambda record: True)
    return lambda: None


def with_a_record_factory() -> Callable[[], None]:
    class Own(logging.LogRecord):
        pass

    logging.setLogRecordFactory(Own)
    return lambda: logging.setLogRecordFactory(logging.LogRecord)


def with_somebody_around(method: str) -> Callable[[], Callable[[], None]]:
    """Sentry, New Relic and others wrap methods of loggers."""

    def wrap() -> Callable[[], None]:
        original = getattr(logging.Logger, method)
        setattr(logging.Logger, method, lambda *args, **kwargs: original(*args, **kwargs))
        return lambda: setattr(logging.Logger, method, original)

    return wrap


def with_a_method_of_its_own() -> Callable[[], None]:
    handle = log.handle
    log.handle = lambda record: handle(record)  # type: ignore[method-assign]
    return lambda: vars(log).pop("handle")


def with_no_handler() -> Callable[[], None]:
    log.handlers.clear()  # logging says so itself, on stderr
    return lambda: None


REASONS: list[Callable[[], Callable[[], None]]] = [
    with_a_handler,
    with_a_filter,
    with_a_filtered_handler,
    with_a_record_factory,
    *map(with_somebody_around, ("callHandlers", "handle", "makeRecord", "findCaller")),
    with_a_method_of_its_own,
    with_no_handler,
]


@pytest.mark.parametrize("reason", REASONS)
def test_somebody_wants_the_record(
    tracing_capture: Captured, reason: Callable[[], Callable[[], None]]
) -> None:
    """Then it is made, and recorded once."""
    say("first")
    undo = reason()
    try:
        with counted_records() as made:
            say("seen")
    finally:
        undo()
    assert made == ["a record"]
    assert tracing_capture.messages == ["first", "seen"]


@pytest.mark.parametrize(
    "options", [{"extra": {"order": 1}}, {"exc_info": True}, {"stack_info": True}, {"stacklevel": 2}]
)
def test_what_only_a_record_can_say(tracing_capture: Captured, options: dict[str, Any]) -> None:
    """Options go the long way, with every key that they bring."""
    say("first")
    with counted_records() as made:
        log.warning("seen", **options)
    assert made == ["a record"]
    assert tracing_capture.messages == ["first", "seen"]


def test_a_subclass_makes_its_own_records(tracing_capture: Captured) -> None:
    """What it does with them is its own affair."""

    class Own(logging.Logger):
        pass

    own = Own("own")
    own.addHandler(logging.NullHandler())
    say("first")  # so that the level is known
    with counted_records() as made:
        own.warning("seen")
    assert made == ["a record"]
    assert tracing_capture.messages == ["first", "seen"]


def test_a_disabled_logger_says_nothing(tracing_capture: Captured) -> None:
    """Even when somebody calls what lies behind its check."""
    say("first")
    log.disabled = True
    log._log(logging.WARNING, "not seen", ())
    assert tracing_capture.messages == ["first"]


def test_our_handler_leaves_it_to_the_capture(tracing_capture: Captured) -> None:
    """With the handler of ours that a program may have added, no record is needed either."""
    say("first")
    log.addHandler(LogHandler())
    with counted_records() as made:
        say("seen")
    assert made == []
    assert tracing_capture.messages == ["first", "seen"]


def test_a_thing_in_place_of_a_handler(tracing_capture: Captured) -> None:
    """It has no level and no filters: logging complains as it always has, and so does the caller."""
    say("first")
    log.handlers.append(object())  # type: ignore[arg-type]
    with pytest.raises(AttributeError):
        say("seen")
    assert tracing_capture.messages == ["first", "seen"]


def test_everything_is_put_back() -> None:
    """The method, after the library has gone."""
    before = logging.Logger._log
    with capturing():
        assert logging.Logger._log is not before
    assert logging.Logger._log is before
