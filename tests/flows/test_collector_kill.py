"""The collector killed with -9 while four processes send: acknowledged is stored, once, nothing else."""

from __future__ import annotations

import importlib.util
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from collector.client import CollectorClient

pytestmark = pytest.mark.flow

SENDER = Path(__file__).with_name("position_sender.py")
SENDERS = 4
LINES = 8_000  # of each sender: more than they can send before the last kill
KILLS = 7
LINES_BETWEEN_KILLS_MAX = 4_000  # of all: from the first answer to some commits after it
PATIENCE_S = 120.0


@pytest.fixture(scope="module")
def sender() -> ModuleType:
    """The sender's own functions, so that test and sender agree on what the lines are."""
    spec = importlib.util.spec_from_file_location("position_sender", SENDER)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def senders() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Processes that are ended whatever happens."""
    processes: list[subprocess.Popen[bytes]] = []
    yield processes
    for process in processes:
        process.kill()
        process.wait()


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Poll a condition, with a deadline."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"after {PATIENCE_S:g} s: {what}")
        time.sleep(0.01)


def acknowledged(ack_file: Path) -> int:
    """The last offset that a sender saw acknowledged."""
    content = ack_file.read_text() if ack_file.exists() else ""
    return int(content[: content.rfind("\n") + 1].split()[-1]) if "\n" in content else 0


def stored_uids(client: CollectorClient) -> Counter[str]:
    """Every record's identity, as a search finds them, page by page."""
    found: Counter[str] = Counter()
    cursor = None
    while True:
        page = client.logs(limit=1_000, cursor=cursor)
        found.update(record["uid"] for record in page["records"])
        cursor = page["cursor"]
        if cursor is None:
            return found


# The rest of the seeds, more than fifty kills in all, is for `make soak`.
@pytest.mark.parametrize(
    "seed", [1, 2, *(pytest.param(seed, marks=pytest.mark.soak) for seed in range(3, 9))]
)
def test_what_was_acknowledged_is_stored_once(
    seed: int,
    tmp_path: Path,
    collector_process: Callable[..., Any],
    sender: ModuleType,
    senders: list[subprocess.Popen[bytes]],
) -> None:
    """Killed at random points of the stream, and twice while it was still starting."""
    chance = random.Random(seed)
    collector = collector_process()
    collector.start()
    spools = {f"{number:032x}": tmp_path / f"acks-{number}" for number in range(1, SENDERS + 1)}
    offsets = {spool: sender.offsets_of(sender.lines_of(spool, LINES)) for spool in spools}
    for number, (spool, ack_file) in enumerate(spools.items()):
        arguments = [collector.url, spool, str(LINES), str(seed * 100 + number), str(ack_file)]
        senders.append(subprocess.Popen([sys.executable, str(SENDER), *arguments]))

    def lines_acknowledged() -> int:
        return sum(offsets[spool].index(acknowledged(file)) for spool, file in spools.items())

    for number in range(KILLS):
        goal = lines_acknowledged() + chance.randint(1, LINES_BETWEEN_KILLS_MAX)
        wait_until(
            lambda goal=goal: lines_acknowledged() >= goal, f"fewer than {goal} lines are acknowledged"
        )  # type: ignore[misc]
        collector.kill()
        if number % 3 == 1:  # a crash during recovery
            collector.start(wait=False)
            time.sleep(chance.uniform(0.0, 1.0))
            collector.kill()
        collector.start(wait=False)
    assert all(process.poll() is None for process in senders), "they were done before the last kill"
    for process in senders:
        assert process.wait(timeout=PATIENCE_S) == 0

    expected = Counter(f"{spool}-{at}" for spool, ends in offsets.items() for at in ends[:-1])
    collector.wait_ready()
    with CollectorClient(collector.url) as client:
        wait_until(lambda: client.stats()["indexing"]["lag_records"] == 0, "not everything is indexed")
        assert stored_uids(client) == expected
        assert client.stats()["records"] == SENDERS * LINES
        ledger = {spool["spool_id"]: spool for spool in client.ledger()["spools"]}
    assert {spool: (state["mark"], state["missing"]) for spool, state in ledger.items()} == {
        spool: (ends[-1], []) for spool, ends in offsets.items()
    }
    assert collector.terminate() == 0
