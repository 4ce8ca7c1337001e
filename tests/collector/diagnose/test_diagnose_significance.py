"""Surprise: grows with the evidence, never without it, and is one currency for all signals."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.diagnose.shifts import Shift, common_drift, pooled, shift_of
from collector.diagnose.significance import (
    DECADES_MAX,
    believed,
    corrected,
    longest_decades,
    share_decades,
    shift_decades,
)
from collector.diagnose.spread import Spread

counts = st.integers(0, 400)


@pytest.mark.parametrize(
    ("t", "freedom", "chance"),
    [  # both tails of Student's t, from the usual tables
        (12.706, 1, 0.05),
        (4.303, 2, 0.05),
        (2.776, 4, 0.05),
        (2.306, 8, 0.05),
        (5.041, 8, 0.001),
        (636.62, 1, 0.001),
    ],
)
def test_the_surprise_of_a_shift_is_students_t(t: float, freedom: float, chance: float) -> None:
    """To the digits of the tables."""
    assert shift_decades(t, freedom) == pytest.approx(-math.log10(chance), abs=0.002)


@given(st.floats(0, 1e6), st.floats(0, 1e6), st.floats(1, 50))
def test_a_larger_shift_is_not_less_surprising(one: float, other: float, freedom: float) -> None:
    """And none is beyond measure."""
    low, high = sorted((one, other))
    assert 0 <= shift_decades(low, freedom) <= shift_decades(high, freedom) + 1e-9 <= DECADES_MAX + 1e-9


def test_a_shift_downwards_is_no_fault() -> None:
    """Faster is never accused."""
    assert shift_decades(-50) == 0


@given(counts, counts, counts, counts)
def test_a_share_as_usual_or_below_is_no_surprise(a: int, b: int, c: int, d: int) -> None:
    """Only more than expected counts."""
    hits, visits = sorted((a, b))
    healthy_hits, healthy_visits = sorted((c, d))
    decades = share_decades(hits, visits, healthy_hits, healthy_visits)
    assert 0 <= decades <= DECADES_MAX
    if (
        visits
        and healthy_visits
        and hits / visits <= healthy_hits / healthy_visits
        and 2 * healthy_hits <= healthy_visits
    ):
        assert decades == 0


@given(st.integers(1, 60), st.integers(1, 60), st.integers(0, 60))
def test_more_hits_are_more_surprising(hits: int, more: int, healthy: int) -> None:
    """Of the same number of visits."""
    visits = hits + more
    few = share_decades(hits, visits, 0, healthy)
    many = share_decades(visits, visits, 0, healthy)
    assert many >= few - 1e-9


def test_the_surprise_of_a_share_is_the_chance_of_it() -> None:
    """One in one, after forty without: one in eighty-two, by Jeffreys' prior; drawn and counted."""
    rng = random.Random(5)
    # With one visit nothing is worth less for coming from the same window on that side.
    worth = 40 / (1 + 39 * 0.02)
    drawn = sum(rng.random() < rng.betavariate(0.5, worth + 0.5) for _ in range(200_000)) / 200_000
    assert share_decades(1, 1, 0, 40) == pytest.approx(-math.log10(drawn), abs=0.05)


def test_what_goes_wrong_is_not_expected_of_the_unknown() -> None:
    """An error in an operation that was never seen is a surprise, another way of going on is not."""
    assert share_decades(1, 1, 0, 0) < 0.5 < 1.0 < share_decades(1, 1, 0, 0, rare=True)
    assert share_decades(88, 88, 8, 8, rare=True) < 1.0  # always so while healthy: no news


@given(counts, counts, counts)
def test_a_rule_is_more_surprising_to_break_the_longer_it_was_kept(few: int, more: int, hits: int) -> None:
    """And what healthy runs do as well is no breach of any."""
    shorter, longer = (share_decades(1, 1, 0, healthy, by_rule=True) for healthy in (few, few + more))
    assert 0 <= shorter <= longer + 1e-9
    assert shorter >= share_decades(1, 1, 0, few)
    seen = (1, 1, min(hits, few) + 1, few + 1)
    assert share_decades(*seen, by_rule=True) == share_decades(*seen)


def test_half_of_what_never_happened_never_does() -> None:
    """The mixture, drawn and counted: programs with the rule, and those that just did not break it."""
    rng = random.Random(9)
    worth = 40 / (1 + 39 * 0.02)
    chances = [0.0 if rng.random() < 0.5 else rng.betavariate(0.5, 0.5) for _ in range(400_000)]
    kept = [(1 - chance) ** worth for chance in chances]
    broken = sum(chance * weight for chance, weight in zip(chances, kept, strict=True)) / sum(kept)
    assert share_decades(1, 1, 0, 40, by_rule=True) == pytest.approx(-math.log10(broken), abs=0.05)


@given(st.integers(1, 6), st.integers(1, 400))
def test_the_longest_of_all_are_as_rare_as_any_other_choice(count: int, healthy: int) -> None:
    """So many of all of them, whatever lengths of time are like."""
    assert longest_decades(count, healthy) == pytest.approx(math.log10(math.comb(count + healthy, count)))


@given(st.floats(0, 30), st.floats(0, 30), st.floats(0, 30))
def test_beyond_what_counting_proves_a_length_is_believed_less(
    low: float, high: float, proven: float
) -> None:
    """A longer delay is still more of a surprise."""
    low, high = sorted((low, high))
    assert believed(low, proven) <= believed(high, proven) <= high
    assert believed(low, math.inf) == low


def test_one_request_proves_less_than_a_stretch_of_time() -> None:
    """Its delay may be the machine's; in a stretch of time others would show it, too."""
    healthy = made([1e6 * (1 + number % 7 / 10) for number in range(40)])
    alone, among_others = (
        shift_of(made([64e6]), 1, healthy, 40, one_request=one_request) for one_request in (True, False)
    )
    assert alone is not None and among_others is not None
    assert math.log10(41) < alone.decades() < among_others.decades() - 2


@given(st.floats(0, 30), st.integers(1, 10_000), st.integers(1, 10_000))
def test_looking_more_often_is_worth_less(decades: float, few: int, many: int) -> None:
    """Each tenfold of looks costs a decade."""
    low, high = sorted((few, many))
    assert 0 <= corrected(decades, high) <= corrected(decades, low) <= decades


def made(values: list[float], *, blocks: int = 6) -> Spread:
    spread = Spread()
    for number, value in enumerate(values):
        spread.add(round(value), (number % blocks) * 10**10)
    return spread


def test_a_shift_is_measured_by_how_healthy_runs_vary() -> None:
    """Twice as long is a lot for what never varies, and nothing for what always does."""
    rng = random.Random(1)
    steady = [rng.lognormvariate(14, 0.05) for _ in range(60)]
    wild = [rng.lognormvariate(14, 2.0) for _ in range(60)]
    slower = shift_of(made([2 * v for v in steady]), 60, made(steady), 60)
    as_wild = shift_of(made([2 * v for v in wild]), 60, made(wild), 60)
    assert slower is not None
    assert as_wild is not None
    assert slower.octaves == pytest.approx(1, abs=0.1)
    assert slower.decades() > 2 > as_wild.decades()


def test_a_shift_is_measured_by_how_healthy_times_differ() -> None:
    """Where every ten seconds are another, half as long again is the weather."""
    rng = random.Random(3)
    calm, moody = Spread(), Spread()
    for block in range(6):
        mood = rng.choice([0.5, 1, 2])
        for _ in range(50):
            value = rng.lognormvariate(14, 0.1)
            calm.add(round(value), block * 10**10)
            moody.add(round(mood * value), block * 10**10)
    slower = made([rng.lognormvariate(14, 0.1) * 4 for _ in range(50)])
    against_calm = shift_of(slower, 50, calm, 300)
    against_moody = shift_of(slower, 50, moody, 300)
    assert against_calm is not None
    assert against_moody is not None
    assert against_moody.between > 0.4 > against_calm.between
    assert against_calm.decades() > against_moody.decades() + 1


def test_too_little_to_compare_is_no_shift() -> None:
    """One healthy trace says nothing about variation."""
    one = made([1e6])
    assert shift_of(one, 1, one, 1) is None
    assert shift_of(one, 1, Spread(), 9) is None
    assert shift_of(Spread(), 0, made([1e6] * 9), 9) is None


def test_what_everything_shares_is_drift() -> None:
    """Half of what was seen has moved at least so far; an outlier does not carry it along."""
    shifts = [_shift(octaves) for octaves in (0.9, 1.0, 1.1, 7.0)]
    drift = common_drift(shifts)
    assert drift in (1.0, 1.1)
    assert _shift(7.0).t(drift) > _shift(1.0).t(drift) == pytest.approx(0, abs=0.5)


def test_what_is_shared_is_not_averaged_out() -> None:
    """Ten operations of a service on a bad day are one bad day."""
    one, ten = _shift(1.0), pooled([_shift(1.0) for _ in range(10)])
    assert ten.t() == pytest.approx(one.t())
    assert ten.octaves == pytest.approx(1.0)


def _shift(octaves: float) -> Shift:
    return Shift(octaves=octaves, count=10, sampling=0.2, between=0.25, healthy_mean=20, freedom=8)
