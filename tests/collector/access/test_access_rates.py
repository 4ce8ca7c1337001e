"""Shares of senders: who has to wait, and for how long."""

from __future__ import annotations

import pytest

from collector.access import rates
from collector.access.rates import BURST_S, RETRY_AFTER_S_MAX, SenderRates


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


def allowed(shares: SenderRates, sender: str, times: int) -> int:
    """How many of so many requests may begin."""
    return sum(shares.begin(sender) == 0.0 for _ in range(times))


def test_requests_on_average() -> None:
    """What was saved up in silence may be used at once; then as fast as the bound says, each for itself."""
    clock = Clock()
    shares = SenderRates(requests_per_s_max=2.0, bytes_per_s_max=None, clock_s=clock)
    assert allowed(shares, "a", 100) == 2 * BURST_S
    assert allowed(shares, "b", 1) == 1
    assert shares.begin("a") == pytest.approx(0.5)
    clock.now_s += 3.0
    assert allowed(shares, "a", 100) == 6
    clock.now_s += 3_600.0
    assert allowed(shares, "a", 100) == 2 * BURST_S


def test_bytes_are_known_when_they_are_read() -> None:
    """A body may overdraw; the next request waits until it is paid for."""
    clock = Clock()
    shares = SenderRates(requests_per_s_max=None, bytes_per_s_max=1_000, clock_s=clock)
    assert shares.begin("a") == 0.0
    shares.charge("a", 12_000)
    assert shares.begin("a") == pytest.approx(2.0)
    clock.now_s += 1.0
    assert shares.begin("a") == pytest.approx(1.0)
    clock.now_s += 1.0
    assert shares.begin("a") == 0.0
    shares.charge("a", 10_000_000)
    assert shares.begin("a") == RETRY_AFTER_S_MAX


def test_without_a_bound_nothing_is_remembered() -> None:
    """And nobody waits."""
    shares = SenderRates(requests_per_s_max=None, bytes_per_s_max=None)
    assert not shares.is_bounded
    assert allowed(shares, "a", 10_000) == 10_000
    shares.charge("a", 10**12)
    assert shares.begin("a") == 0.0


def test_senders_without_number_take_no_memory_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that was silent longest is forgotten, never the one that is at it."""
    monkeypatch.setattr(rates, "SENDERS_MAX", 3)
    clock = Clock()
    shares = SenderRates(requests_per_s_max=0.1, bytes_per_s_max=None, clock_s=clock)
    assert allowed(shares, "busy", 1) == 1
    for number in range(50):
        shares.begin(f"once-{number}")
        assert shares.begin("busy") > 0.0
        assert shares.begin(f"once-{number}") > 0.0
