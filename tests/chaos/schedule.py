"""From a seed to what happens when. Pure: the same seed and length give the same schedule on any machine."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from typing import Final, NamedTuple

from tests.chaos.faults import Fault

PAUSE_S: Final = (0.5, 4.0)  # between two faults of one target
FIRST_S: Final = 1.0  # undisturbed at the beginning
QUIET_SHARE: Final = 0.9  # of the time, faults may begin in


class Planned(NamedTuple):
    """One fault."""

    begin_s: float  # since the start of the run
    end_s: float
    fault: type[Fault]
    seed: int  # of what the fault itself leaves to chance

    def __str__(self) -> str:
        return f"{self.begin_s:7.1f} … {self.end_s:7.1f} s  {self.fault.name()} (seed {self.seed})"


def plan(seed: int, length_s: float, faults: Sequence[type[Fault]]) -> list[Planned]:
    """What befalls each target, one fault at a time; targets suffer independently of each other.

    Each target goes through all of its faults in random order before any comes again, so that a short run
    misses few. In a run of half an hour some last for minutes.
    """
    chance = random.Random(seed)
    by_target: dict[str, list[type[Fault]]] = defaultdict(list)
    for fault in faults:
        by_target[fault.target].append(fault)
    planned = []
    for _, kinds in sorted(by_target.items()):
        at_s = FIRST_S
        waiting: list[type[Fault]] = []
        while True:
            at_s += chance.uniform(*PAUSE_S)
            if not waiting:
                waiting = chance.sample(kinds, len(kinds))
            fault = waiting.pop()
            shortest_s, longest_s = fault.lasts_s
            if longest_s > 10 and chance.random() < 0.1:
                longest_s = max(longest_s, length_s / 15)  # two minutes of thirty
            lasts_s = chance.uniform(shortest_s, longest_s)
            if at_s + lasts_s > QUIET_SHARE * length_s:
                break
            planned.append(
                Planned(round(at_s, 3), round(at_s + lasts_s, 3), fault, chance.randrange(1_000_000))
            )
            at_s += lasts_s + fault.rest_s
    return sorted(planned, key=lambda one: (one.begin_s, one.fault.name()))
