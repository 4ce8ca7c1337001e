"""One run: the scene, the schedule played, the verdict."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from tests.chaos import faults as of_processes
from tests.chaos import faults_of_disks as of_disks
from tests.chaos.checker import Verdict, check
from tests.chaos.faults import Fault
from tests.chaos.scene import Elasticsearch, Scene
from tests.chaos.schedule import Planned, plan

FAULTS: Final[Sequence[type[Fault]]] = (
    of_processes.KillCollector,
    of_processes.KillStartingCollector,
    of_processes.FreezeCollector,
    of_processes.TurnCollectorClock,
    of_processes.SlowNetwork,
    of_processes.HalfOpenConnections,
    of_processes.ResetConnections,
    of_processes.LoseAnswers,
    of_processes.UnreachableCollector,
    of_processes.KillApplication,
    of_processes.ForkStorm,
    of_processes.TurnApplicationClock,
    of_processes.KillAgent,
    of_processes.TwoAgents,
    of_disks.FillApplicationDisk,
    of_disks.FillCollectorDisk,
    of_disks.FailApplicationCalls,
    of_disks.FailCollectorCalls,
    of_disks.CorruptSpool,
    of_disks.CorruptLog,
    of_disks.CorruptIndex,
    of_disks.ChangeFormat,
)
# Of a store that is a process of its own.
STORE_FAULTS: Final[Sequence[type[Fault]]] = (of_processes.KillStore, of_processes.FreezeStore)


class Result:
    """What a run came to."""

    def __init__(self, verdict: Verdict, injected: Counter[str], skipped: dict[str, str]) -> None:
        self.verdict = verdict
        self.injected = injected  # how often each fault was let happen
        self.skipped = skipped  # faults that this machine cannot have, and what it lacks


def run(
    directory: Path,
    *,
    seed: int,
    length_s: float,
    faults: Sequence[type[Fault]] = FAULTS,
    server: Elasticsearch | None = None,
    tell: Callable[[str], object] = print,
) -> Result:
    """Play the schedule of a seed against a scene of its own, and judge what came of it.

    Args:
        directory: for the scene; must not exist.
        length_s: how long the applications log.
        faults: those that are drawn from.
        server: what the collector stores in; `None`: its own store.
        tell: is given each line of progress.
    """
    schedule = plan(seed, length_s, faults)
    tell(f"seed {seed}, {length_s:g} s, {len(schedule)} faults")
    scene = Scene(directory, seed=seed, server=server)
    try:
        scene.start()
        injected, skipped = _play(scene, schedule, length_s, tell)
        tell("the applications end; what is left is shipped and indexed")
        scene.settle()
        stored = list(scene.stored())
        spools = scene.ledger()
    finally:
        scene.close()
    verdict = check(scene.sent(), stored, spools, scene.destroyed)
    verdict.complaints += scene.complaints
    _keep_evidence(directory / "evidence.json", scene, spools)
    for line in verdict.lines():
        tell(line)
    return Result(verdict, injected, skipped)


def _keep_evidence(file: Path, scene: Scene, spools: list[dict[str, Any]]) -> None:
    """What the verdict was made of, for a person who has to find out why."""
    evidence = {
        "destroyed": [one._asdict() for one in scene.destroyed],
        "spools": spools,
    }
    file.write_text(json.dumps(evidence, indent=1))


def _play(
    scene: Scene, schedule: Sequence[Planned], length_s: float, tell: Callable[[str], object]
) -> tuple[Counter[str], dict[str, str]]:
    """Begin and end each fault in its time, or as soon after it as the ones before allow."""
    injected: Counter[str] = Counter()
    skipped: dict[str, str] = {}
    moments: list[tuple[float, int, Callable[[], None], str]] = []
    for order, one in enumerate(schedule):
        fault = one.fault(scene, random.Random(one.seed))
        lacking = fault.missing()
        if lacking is not None:
            if one.fault.name() not in skipped:
                tell(f"SKIPPED: {one.fault.name()} needs {lacking}")
            skipped[one.fault.name()] = lacking
            continue
        injected[one.fault.name()] += 1
        moments.append((one.begin_s, 2 * order, fault.begin, str(one)))
        moments.append((one.end_s, 2 * order + 1, fault.end, ""))
    started_s = time.monotonic()
    for at_s, _, act, said in sorted(moments, key=lambda moment: moment[:2]):
        time.sleep(max(0.0, started_s + at_s - time.monotonic()))
        if said:
            tell(said)
        act()
    time.sleep(max(0.0, started_s + length_s - time.monotonic()))
    return injected, skipped
