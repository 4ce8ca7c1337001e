"""The doctor's page, and what it says of what it could not try."""

from __future__ import annotations

from tracing.doctor.command import _not_tried
from tracing.doctor.findings import Finding, HopResult
from tracing.doctor.page import page, summary
from tracing.doctor.trying import Program, _explained, _unfinished

KEPT = {"log ids": "kept", "parent": "kept", "baggage": "kept", "exception": "kept", "concurrent": "4 of 4"}


def hop(**fields: object) -> HopResult:
    """A hop that was kept, unless it is said otherwise."""
    return HopResult(**{"hop": "Queue", "layer": "Inside", "by": ("queues",), "cells": KEPT, **fields})  # type: ignore[arg-type]


def test_what_is_on_and_has_no_hop_is_named() -> None:
    """Brokers that were not tried for want of an address have lines of their own."""
    program = Program(instrumented=frozenset({"queues", "gunicorn", "pika", "redis"}))
    [finding] = _not_tried(program, [hop()])
    assert (finding.state, finding.what) == ("note", "turned on, and not tried here: gunicorn")
    assert list(_not_tried(Program(instrumented=frozenset({"queues"})), [hop()])) == []


def test_each_word_of_a_row_counts() -> None:
    """Kept in every column, or it is said in which it was lost."""
    assert hop().is_kept
    assert hop(cells=KEPT | {"cancellation": "–"}).is_kept
    assert hop(cells=KEPT | {"concurrent": "3 of 4"}).lost == ["concurrent"]
    lines = list(page([], [hop(cells=KEPT | {"exception": "lost", "concurrent": "3 of 4"})], 100))
    assert lines[1].endswith("lost after an exception, only 3 of 4 at once kept")


def test_a_missing_package_is_told_as_that() -> None:
    """The extra that brings what carries the context."""
    lost = hop(hop="requests", by=("requests",), cells=KEPT | {"parent": "lost"})
    program = Program(instrumented=frozenset(), missing={"requests": "requests"})
    assert _explained(lost, program).advice == "pip install 'backtrail[instrumentation]'"


def test_a_hop_that_hung_or_died_is_not_called_lost_for_a_reason() -> None:
    """The time was up, or the process ended; nothing is known of the context."""
    assert "the time was up" in _unfinished(
        "Timeout (0:03:00)!\nThread 0x1 (most recent call first):\n  File x\n"
    )
    assert _unfinished("Traceback\nMemoryError: no\n") == "the process ended: MemoryError: no"
    broken = hop(cells={}, broken="the time was up")
    assert _explained(broken, Program(instrumented=frozenset({"queues"}))) == broken
    assert not broken.is_kept


def test_the_sum_counts_what_was_tried() -> None:
    """Kept, not tried, arrived, and what else is to be mended."""
    hops = [hop(arrived=True), hop(arrived=False), hop(cells={}, not_tried="give --kafka HOST:9092")]
    said = summary([Finding(state="bad", what="x"), Finding(state="note", what="y")], hops)
    assert said == "2 of 2 hops kept, 1 not tried, 1 of 2 arrived in the collector, 1 other thing to mend"
