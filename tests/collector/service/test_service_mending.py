"""A running service finds damage in its store, and mends it without being asked."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from collector.client import import_bodies
from collector.errors import StoreFailed
from collector.service.mending import Mending
from collector.service.pipeline import Pipeline
from collector.settings import Settings
from collector.store.memory import MemoryStore

PATIENCE_S = 30.0
LINE = b'{"timestamp":"2026-11-24T05:32:11Z","level":"INFO","service":"orders","message":"hello"}'


def wait_until(condition: Callable[[], bool]) -> bool:
    """Whether something is true before the deadline."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def flip(file: Path) -> None:
    """Flip a bit of a file that may be mapped."""
    with file.open("r+b") as opened:
        (byte,) = opened.read(1)
        opened.seek(0)
        opened.write(bytes([byte ^ 0x10]))


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """With ten records, and nobody at work."""
    with Pipeline.open(Settings(data_dir=tmp_path / "data")) as pipeline:
        for body in import_bodies((f"u-{number}", LINE) for number in range(10)):
            pipeline.intake.records({"backtrail-import": "1"}, body)
    return tmp_path / "data"


def test_a_start_on_damage_is_not_held_up_and_mends_it(data_dir: Path) -> None:
    """The records are away for a moment, then they are back."""
    flip(next((data_dir / "store" / "partitions").glob("*/index/*.term")))
    with Pipeline.open(Settings(data_dir=data_dir)) as pipeline:
        assert pipeline.store.stats().damaged_records == 10
        assert wait_until(lambda: pipeline.store.stats().rebuilt_records == 10)
        assert pipeline.store.count() == 10


def test_a_scrub_finds_it_while_it_runs(data_dir: Path) -> None:
    """Also where no question touches the damage."""
    with Pipeline.open(Settings(data_dir=data_dir)) as pipeline:
        flip(next((data_dir / "store" / "partitions").glob("*/index/*.pos")))
        keeper = Mending(pipeline.store, scrub_interval_s=0.01, interval_s=0.01)
        keeper.start()
        try:
            assert wait_until(lambda: pipeline.store.stats().rebuilt_records == 10)
            assert wait_until(lambda: keeper.stats()["scrubs"] >= 2)
        finally:
            keeper.stop()
        assert pipeline.store.count() == 10
        assert pipeline.store.stats().damaged_partitions == 1


def test_a_failure_is_counted_and_tried_again() -> None:
    """For instance while the disk is full."""
    tried = threading.Semaphore(0)

    class Failing(MemoryStore):
        def scrub(self, is_stopping: Callable[[], bool]) -> int:
            return 0

        def purge_beside(self, is_stopping: Callable[[], bool]) -> int:
            return 0

        def rebuild(self, is_stopping: Callable[[], bool]) -> int:
            tried.release()
            raise StoreFailed("the disk is full")

    keeper = Mending(Failing(), scrub_interval_s=1e9, interval_s=0.01)
    keeper.start()
    try:
        assert tried.acquire(timeout=PATIENCE_S)
        assert tried.acquire(timeout=PATIENCE_S)
    finally:
        keeper.stop()
    assert keeper.stats()["failures"] >= 2


def test_another_store_is_left_alone() -> None:
    """One in memory has no files."""
    keeper = Mending(MemoryStore(), scrub_interval_s=0.01, interval_s=0.01)
    keeper.start()
    keeper.stop()
    assert keeper.stats() == {"scrubs": 0, "failures": 0}
