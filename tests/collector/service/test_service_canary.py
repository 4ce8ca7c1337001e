"""The canary: silent while all is well, loud when a record is missing or there twice."""

from __future__ import annotations

import threading
import urllib.request
from pathlib import Path

import pytest

from collector.errors import NotFound, Overloaded
from collector.service import Collector
from collector.service.canary import Canary, found_by
from collector.settings import Settings

PATIENCE_S = 30.0


class Cage:
    """A tiny collector: what was written, and how often each is found."""

    def __init__(self) -> None:
        self.copies: dict[str, int] = {}
        self.copies_of_new = 1

    def write(self, uid: str, line: bytes) -> None:
        """Keep one, as often as it is told to."""
        self.copies[uid] = self.copies_of_new

    def count(self, trace_id: str) -> int:
        """How often it is there."""
        return self.copies[trace_id]


def test_what_becomes_of_its_records_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    """Found once is well; lost, twice and lost later are not, and are said."""
    cage = Cage()
    canary = Canary(cage.write, cage.count, interval_s=60, timeout_s=0.01)
    assert canary.sing()
    assert canary.sing()  # and the one before is still there
    assert {name: canary.stats()[name] for name in ("found", "lost", "twice")} == {
        "found": 3,
        "lost": 0,
        "twice": 0,
    }
    assert caplog.text == ""
    cage.copies = dict.fromkeys(cage.copies, 0)
    assert not canary.sing()
    assert "earlier record is found 0 times" in caplog.text
    cage.copies_of_new = 2
    assert not canary.sing()
    assert canary.stats()["twice"] == 1
    cage.copies_of_new = 0
    assert not canary.sing()
    assert canary.stats()["lost"] >= 2


def test_a_refusal_is_no_loss() -> None:
    """A collector without room says so; the canary counts that apart."""

    def write(uid: str, line: bytes) -> None:
        raise Overloaded("full", retry_after_s=1.0)

    canary = Canary(write, lambda trace_id: 1, interval_s=60)
    assert not canary.sing()
    assert (canary.stats()["refused"], canary.stats()["lost"]) == (1, 0)


def test_an_unknown_trace_is_nothing() -> None:
    """Not an error: it may still come."""

    def trace(trace_id: str) -> dict[str, object]:
        if trace_id == "known":
            return {"records": 2}
        raise NotFound(trace_id)

    assert [found_by(trace)(name) for name in ("known", "other")] == [2, 0]


def test_it_ends_while_it_waits() -> None:
    """And does not call a record lost that it did not wait for."""
    asked = threading.Event()

    def count(trace_id: str) -> int:
        asked.set()
        return 0

    canary = Canary(lambda uid, line: None, count, interval_s=0.001, timeout_s=PATIENCE_S)
    canary.start()
    assert asked.wait(PATIENCE_S)
    canary.stop()
    assert canary.stats()["lost"] == 0


def test_a_service_with_a_canary(tmp_path: Path) -> None:
    """It goes through the real pipeline, and `/metrics` says how it is."""
    settings = Settings(data_dir=tmp_path / "data", port=0, canary_interval_s=0.1, commit_interval_s=0.05)
    with Collector(settings) as running:
        deadline = threading.Event()
        for _ in range(int(PATIENCE_S / 0.05)):
            with urllib.request.urlopen(f"{running.url}/metrics") as answer:
                text = answer.read().decode()
            samples = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
            if int(samples["backtrail_canary_found_total"]) >= 3:
                break
            deadline.wait(0.05)
        assert int(samples["backtrail_canary_found_total"]) >= 3
        assert samples["backtrail_canary_lost_total"] == samples["backtrail_canary_twice_total"] == "0"
        assert 0 < float(samples["backtrail_canary_found_s"]) < PATIENCE_S
