"""The contract kit notices a store that breaks a promise about rates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from collector.store.conditions import Condition
from collector.store.contract import EVERYTHING, MINUTE_NS, Rate
from collector.store.memory import MemoryStore
from collector.store.timeline import rates_of, tally_by_step
from collector.testing.store_rates import TimelineContract

KitRejects = Callable[..., None]


class LeavesOutEmptyMinutes(MemoryStore):
    def rates(self, condition: Condition = EVERYTHING, **asked: Any) -> list[Rate]:
        return [rate for rate in super().rates(condition, **asked) if rate.spans or rate.logs]


class RoundsTimesToFloats(MemoryStore):
    """Takes the last nanoseconds of a minute for the first of the next, as tantivy's histogram does."""

    def rates(self, condition: Condition = EVERYTHING, **asked: Any) -> list[Rate]:
        shifted = MemoryStore()
        records = self._matching(condition, asked["start_ns"], asked["end_ns"])
        shifted.append(
            [msgspec.structs.replace(one, timestamp_ns=int(float(one.timestamp_ns + 1))) for one in records]
        )
        shifted.refresh()
        return shifted.rates(**asked)


class BeginsStepsAtTheStart(MemoryStore):
    def rates(self, condition: Condition = EVERYTHING, **asked: Any) -> list[Rate]:
        steps = range(asked["start_ns"], asked["end_ns"], asked.get("step_ns", MINUTE_NS))
        found = []
        for start_ns in steps:
            records = self._matching(condition, start_ns, min(start_ns + steps.step, asked["end_ns"]))
            for tally in tally_by_step(records, 10**30).values():
                found += rates_of(range(start_ns, start_ns + 1), {start_ns: tally})
        return found


class IgnoresTheCondition(MemoryStore):
    def rates(self, condition: Condition = EVERYTHING, **asked: Any) -> list[Rate]:
        return super().rates(EVERYTHING, **asked)


class AnswersAnything(MemoryStore):
    def rates(self, condition: Condition = EVERYTHING, **asked: Any) -> list[Rate]:
        steps = range(asked["start_ns"], asked["end_ns"], max(1, abs(asked.get("step_ns", MINUTE_NS))))
        return [] if len(steps) > 10_000 else rates_of(steps, {})


BROKEN = (
    ("test_rates_count_by_the_minute", LeavesOutEmptyMinutes),
    ("test_rates_count_by_the_minute", RoundsTimesToFloats),
    ("test_rates_of_longer_steps_are_those_of_their_minutes", BeginsStepsAtTheStart),
    ("test_rates_of_a_condition", IgnoresTheCondition),
    ("test_rates_have_a_limit_and_whole_minutes", AnswersAnything),
)


@pytest.mark.parametrize(("promise", "store"), BROKEN, ids=lambda value: getattr(value, "__name__", value))
def test_the_kit_rejects(promise: str, store: type[MemoryStore], kit_rejects: KitRejects) -> None:
    """A store that breaks this promise fails the promise's test."""
    kit_rejects(promise, store)


def test_every_promise_was_seen_to_fail() -> None:
    """A test nobody has seen fail proves nothing."""
    promises = {name for name in dir(TimelineContract) if name.startswith("test_")}
    assert {promise for promise, _ in BROKEN} == promises
