"""`record_change`: an event with OpenTelemetry's manners, which harms nobody."""

from __future__ import annotations

import logging

import pytest

import tracing
from tracing import semconv as sc
from tracing.testing import Captured, capturing


def test_a_change_is_an_event(tracing_capture: Captured) -> None:
    """A log record with a name, what was changed, and the place that says so."""
    tracing.record_change("flag", "new-pricing", old=False, new=True, ticket="OPS-7")
    [line] = tracing_capture.logs
    assert line["message"] == "flag new-pricing changed from False to True"
    assert (line["level"], line["service"], line["logger"]) == ("INFO", "test", "tracing.changes")
    assert line["attributes"] == {
        sc.EVENT_NAME: sc.CHANGE_EVENT,
        sc.CHANGE_KIND: "flag",
        sc.CHANGE_NAME: "new-pricing",
        sc.CHANGE_OLD: False,
        sc.CHANGE_NEW: True,
        "ticket": "OPS-7",
    }
    assert line["source"]["file"] == __file__
    assert line["source"]["function"] == "test_a_change_is_an_event"


def test_inside_a_span_it_has_the_ids(tracing_capture: Captured) -> None:
    """Like every record."""
    with tracing.span("roll out"):
        tracing.record_change("deployment", "orders", new="1.4.2", service="orders")
    [line] = tracing_capture.logs
    assert (line["trace_id"], line["span_id"]) == (f"{1:032x}", f"{1:016x}")
    assert line["attributes"][sc.CHANGE_SERVICE] == "orders"


def test_secrets_stay_at_home(tracing_capture: Captured) -> None:
    """A changed setting may be one."""
    tracing.record_change("config", "database", new="postgres://shop:hunter2@db/shop", password="hunter2")
    assert b"hunter2" not in tracing_capture.raw[0][0]


def test_whatever_is_given_the_program_goes_on(tracing_capture: Captured) -> None:
    """Values that cannot be said, names that a record has already."""

    class Unspeakable:
        def __str__(self) -> str:
            raise ValueError("no")

    tracing.record_change("config", old=Unspeakable())
    tracing.record_change("config", "limit", new=object(), msg="its own", levelname="its own")
    line = tracing_capture.logs[-1]
    assert (line["level"], line["attributes"]["change.msg"]) == ("INFO", "its own")


def test_handlers_of_the_program_do_not_see_it(
    tracing_capture: Captured, caplog: pytest.LogCaptureFixture
) -> None:
    """What the program prints stays as it was."""
    with caplog.at_level(logging.DEBUG):
        tracing.record_change("flag", "x")
    assert caplog.records == []
    assert len(tracing_capture.logs) == 1


def test_without_configuration_nothing_happens() -> None:
    """A library may call it, whoever uses the library."""
    with capturing() as captured:
        pass
    tracing.record_change("flag", "x")
    assert captured.logs == []
