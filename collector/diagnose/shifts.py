"""How far a distribution has moved against the healthy one, measured by how healthy ones move."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from typing import Final

import msgspec

from collector.diagnose.significance import believed, longest_decades, shift_decades
from collector.diagnose.spread import Spread

# A short baseline shows less variation than there is; these are floors under what it shows, in octaves.
DEVIATION_FLOOR: Final = 0.3  # of single observations: a quarter more or less is nothing
DRIFT_FLOOR: Final = 0.25  # of the mean of a stretch of time


class Shift(msgspec.Struct, frozen=True, kw_only=True):
    """A shift of the mean on the scale of octaves, and how much of it is chance."""

    octaves: float
    count: int  # observations in the window
    sampling: float  # standard error of `octaves` for drawing so few
    between: float  # and for stretches of time being different, which all of a service share
    healthy_mean: float  # octaves above a nanosecond
    freedom: float  # degrees of freedom of the standard error
    # Of one request: the decades that counting alone proves. In a stretch of time, where what holds up one
    # run holds up others, the shift is measured against them all.
    proven: float = math.inf
    trust: float = 1.0  # what its surprise is worth, 0..1: less where the measure itself is in doubt

    def t(self, drift: float = 0.0) -> float:
        """The shift in standard errors, what everything shares taken off."""
        return (self.octaves - drift) / math.hypot(self.sampling, self.between)

    def decades(self, drift: float = 0.0) -> float:
        """Its surprise, what everything shares taken off."""
        return self.trust * believed(shift_decades(self.t(drift), self.freedom), self.proven)

    def excess_ns(self, drift: float = 0.0) -> float:
        """What the shift costs all observations of the window together."""
        return self.count * (
            math.exp2(self.healthy_mean + self.octaves - drift) - math.exp2(self.healthy_mean)
        )


def shift_of(
    seen: Spread, traces: int, healthy: Spread, healthy_traces: int, *, one_request: bool = False
) -> Shift | None:
    """Compare what a window saw with what is healthy; None: there is too little of one of them.

    Args:
        traces, healthy_traces: that the observations belong to. Those of one trace are not independent,
            so it is the traces that are counted as chances.
        one_request: only one trace is asked about, and nothing beside it tells what the machine was like.
    """
    if not seen.count or not traces or healthy.count < 2 or healthy_traces < 2:
        return None
    deviation = max(DEVIATION_FLOOR, healthy.deviation)
    return Shift(
        octaves=seen.mean - healthy.mean,
        count=seen.count,
        sampling=deviation * math.sqrt(1 / traces + 1 / healthy_traces),
        between=max(DRIFT_FLOOR, between_blocks(healthy, deviation)),
        healthy_mean=healthy.mean,
        freedom=healthy_traces - 1,
        proven=longest_decades(traces, healthy_traces) if one_request else math.inf,
    )


def pooled(shifts: Iterable[Shift]) -> Shift:
    """The mean shift of several operations of one service, each observation weighing the same.

    Neither what differs between stretches of time nor what differs between traces is averaged out: it
    does so for all of them at once.
    """
    shifts = list(shifts)
    count = sum(shift.count for shift in shifts)
    weights = [(shift.count / count, shift) for shift in shifts]
    return Shift(
        octaves=sum(weight * shift.octaves for weight, shift in weights),
        count=count,
        sampling=sum(weight * shift.sampling for weight, shift in weights),
        between=sum(weight * shift.between for weight, shift in weights),
        healthy_mean=max(shift.healthy_mean for shift in shifts),
        freedom=sum(weight * shift.freedom for weight, shift in weights),
        proven=min(shift.proven for shift in shifts),
        trust=sum(weight * shift.trust for weight, shift in weights),
    )


def between_blocks(spread: Spread, deviation: float) -> float:
    """Standard deviation of the mean between stretches of time, beyond what sampling explains."""
    blocks = [(count, total / count) for count, total in spread.blocks.values() if count]
    if len(blocks) < 2:
        return 0.0
    weight = sum(count for count, _ in blocks)
    mean = sum(count * value for count, value in blocks) / weight
    scatter = sum(count * (value - mean) ** 2 for count, value in blocks) / weight
    sampling = deviation**2 * (len(blocks) - 1) / weight
    return math.sqrt(max(0.0, scatter - sampling))


def common_drift(shifts: Collection[Shift]) -> float:
    """What half of all observations have moved by at least; downwards and upwards alike."""
    ordered = sorted(shifts, key=lambda shift: shift.octaves)
    half = sum(math.sqrt(shift.count) for shift in ordered) / 2
    seen = 0.0
    for shift in ordered:
        seen += math.sqrt(shift.count)
        if seen >= half:
            return shift.octaves
    return 0.0
