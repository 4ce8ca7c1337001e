"""Readiness: green while things move, red when records wait and nothing does."""

from __future__ import annotations

from collector.service.readiness import REFUSAL_REMEMBERED_S, Progress


class Clock:
    """Seconds that pass when told to."""

    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_it_is_red_only_when_records_wait_and_nothing_moves() -> None:
    """A long queue that shrinks is green, an empty one is green for ever, a standstill turns red."""
    clock = Clock()
    progress = Progress(stall_s=30, clock_s=clock)

    def look(at_s: float, taken: int, done: int) -> str:
        clock.now_s = at_s
        return progress.look(taken_seq=taken, done_seq=done).status

    assert look(0, taken=0, done=0) == "ready"
    assert look(1_000, taken=0, done=0) == "ready"  # nothing to do
    assert look(1_001, taken=500, done=0) == "ready"  # it has only just begun to wait
    assert look(1_030, taken=900, done=10) == "ready"  # it moves, if slowly
    assert look(1_059, taken=900, done=10) == "ready"
    assert look(1_061, taken=900, done=10) == "stalled"
    assert look(1_062, taken=900, done=11) == "ready"  # and recovers by itself
    assert look(2_000, taken=900, done=900) == "ready"


def test_a_standstill_says_how_many_wait() -> None:
    """For whoever is woken by it."""
    clock = Clock()
    progress = Progress(stall_s=30, clock_s=clock)
    progress.look(taken_seq=0, done_seq=0)
    clock.now_s = 31
    assert "7 records" in progress.look(taken_seq=7, done_seq=0).detail
    assert not progress.look(taken_seq=7, done_seq=0).is_ready


def test_what_a_person_must_see_to_is_quoted() -> None:
    """At once, and when it has turned red."""
    clock = Clock()
    progress = Progress(stall_s=30, clock_s=clock)
    hold = "403 security_exception: action is unauthorized"
    readiness = progress.look(taken_seq=7, done_seq=0, hold=hold)
    assert readiness.is_ready
    assert hold in readiness.detail
    clock.now_s = 31
    readiness = progress.look(taken_seq=7, done_seq=0, hold=hold)
    assert not readiness.is_ready
    assert hold in readiness.detail


def test_it_is_red_while_senders_are_refused() -> None:
    """Until something is taken again, or nobody has tried for a while."""
    clock = Clock()
    progress = Progress(stall_s=30, clock_s=clock)

    def look(at_s: float, taken: int, refused: int) -> str:
        clock.now_s = at_s
        return progress.look(taken_seq=taken, done_seq=taken, refused=refused).status

    assert look(0, taken=5, refused=0) == "ready"
    assert look(10, taken=5, refused=1) == "full"
    assert look(20, taken=5, refused=1) == "full"
    assert look(21, taken=6, refused=1) == "ready"  # there is room again
    assert look(22, taken=6, refused=3) == "full"
    assert look(22 + REFUSAL_REMEMBERED_S, taken=6, refused=3) == "ready"
