"""Everything breaks for a while, and at the end every record is there once, or its loss is told."""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.chaos.run import FAULTS, run
from tests.chaos.schedule import plan

SEED = 20261124
SHORT_S = 100.0  # and a minute to settle
LONG_S = 1_800.0
SOAK_SEEDS = (1,)  # `make chaos` takes others


@pytest.mark.flow
@pytest.mark.parametrize(
    ("seed", "length_s"),
    [
        pytest.param(SEED, SHORT_S, marks=pytest.mark.timeout(1_800), id="short"),
        *(
            pytest.param(
                seed, LONG_S, marks=[pytest.mark.soak, pytest.mark.timeout(3_600)], id=f"long-{seed}"
            )
            for seed in SOAK_SEEDS
        ),
    ],
)
def test_nothing_is_lost_in_silence_and_nothing_stored_twice(
    tmp_path: Path, need: Callable[[bool, str], None], seed: int, length_s: float
) -> None:
    """`python -m tests.chaos --seed …` plays the same schedule again."""
    result = run(tmp_path / "scene", seed=seed, length_s=length_s)
    assert result.verdict.ok, f"seed {seed}:\n" + "\n".join(result.verdict.lines())
    assert result.verdict.stored > length_s * 100, "too little was sent for a verdict"
    if os.environ.get("CI") == "true":
        lacking = ", ".join(f"{fault}: {what}" for fault, what in result.skipped.items())
        need(not result.skipped, f"everything that faults are made with ({lacking})")


def test_a_seed_gives_one_schedule() -> None:
    """So that a run that failed can be played again; another seed gives another."""
    assert plan(1, 120, FAULTS) == plan(1, 120, FAULTS)
    assert plan(1, 120, FAULTS) != plan(2, 120, FAULTS)


@pytest.mark.parametrize("seed", range(20))
def test_a_target_suffers_one_fault_at_a_time_and_rests_where_it_must(seed: int) -> None:
    """And all is over a while before the end."""
    length_s = 120.0
    for target in {fault.target for fault in FAULTS}:
        planned = [one for one in plan(seed, length_s, FAULTS) if one.fault.target == target]
        assert planned
        for before, after in itertools.pairwise(planned):
            assert before.end_s + before.fault.rest_s < after.begin_s
        assert planned[-1].end_s < length_s


def test_each_fault_comes_once_before_any_comes_again() -> None:
    """So that a short run misses few."""
    planned = plan(random.Random(0).randrange(1000), 1_800, FAULTS)
    for target in {fault.target for fault in FAULTS}:
        kinds = {fault for fault in FAULTS if fault.target == target}
        first = [one.fault for one in planned if one.fault.target == target][: len(kinds)]
        assert set(first) == kinds
