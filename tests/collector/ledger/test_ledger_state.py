"""One spool's account: what is here, what is missing, what the sender says itself."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.admit import Close, Loss
from collector.ledger import Hole, SpoolState
from collector.ledger.state import HOLES_MAX
from collector.wal import Envelope

RESOURCE = {"service.name": "orders", "service.instance.id": "o-1", "host.name": "h", "process.pid": 7}


def envelope(first: int, end: int, **more: object) -> Envelope:
    return Envelope(received_ns=1_000 + end, resource=RESOURCE, origin="s", first=first, end=end, **more)  # type: ignore[arg-type]


def state_after(*envelopes: Envelope) -> SpoolState:
    state = SpoolState(spool_id="s")
    for one in envelopes:
        state.apply(one, 1)
    return state


def test_a_spool_is_introduced_by_its_resource() -> None:
    """Who it is, for people; who forked it."""
    state = state_after(envelope(0, 10, parent="p"), envelope(10, 20))
    assert (state.service, state.instance, state.host, state.pid, state.parent) == (
        "orders",
        "o-1",
        "h",
        7,
        "p",
    )
    assert (state.mark, state.lines, state.missing) == (20, 2, [])
    assert (state.first_received_ns, state.last_received_ns) == (1_010, 1_020)


def test_an_unknown_spool_wants_everything_and_promises_nothing() -> None:
    """Wherever it begins."""
    state = SpoolState(spool_id="s")
    assert state.wanted(500, 900) == [(500, 900)]
    assert state.acknowledged(500) == 500


def test_what_is_here_is_not_wanted_again() -> None:
    """Overlap in front, repetition of the whole, news behind."""
    state = state_after(envelope(0, 100))
    assert state.wanted(0, 100) == []
    assert state.wanted(40, 130) == [(100, 130)]
    assert state.wanted(100, 130) == [(100, 130)]
    assert [state.acknowledged(at) for at in (0, 100, 150)] == [100, 100, 150]


def test_a_jump_is_a_hole_with_the_times_around_it() -> None:
    """So that only the traces of that time are said to miss something."""
    state = state_after(
        envelope(0, 100, first_written_ns=10, last_written_ns=50),
        envelope(300, 400, first_written_ns=90, last_written_ns=95),
    )
    assert state.missing == [Hole(start=100, end=300, after_ns=50, before_ns=90)]
    (hole,) = state.missing
    assert [hole.may_touch(*times) for times in ((0, 49), (0, 50), (60, 70), (90, 99), (91, 99))] == [
        False,
        True,
        True,
        True,
        False,
    ]
    assert state.acknowledged(0) == 100
    assert state.acknowledged(300) == 400


def test_what_arrives_late_fills_its_hole() -> None:
    """From either end, in the middle, or all of it."""
    jumped = envelope(0, 100), envelope(300, 400)
    assert state_after(*jumped).wanted(0, 500) == [(100, 300), (400, 500)]
    middle = state_after(*jumped, envelope(150, 200))
    assert [(hole.start, hole.end) for hole in middle.missing] == [(100, 150), (200, 300)]
    assert state_after(*jumped, envelope(100, 300)).missing == []
    assert state_after(*jumped, envelope(100, 300)).mark == 400


def test_a_loss_explains_its_hole_before_and_after() -> None:
    """The sender will never send it, so it is not asked for, and not named twice."""
    loss = Loss(reason="thinned", count=3, start=100, end=300, written_ns=80)
    told_after = state_after(envelope(0, 100, last_written_ns=50), envelope(300, 400, losses=[loss]))
    told_before = state_after(envelope(0, 100, losses=[loss], last_written_ns=50), envelope(300, 400))
    for state in (told_after, told_before):
        assert state.missing == []
        assert [(one.start, one.end, one.reason, one.count) for one in state.losses] == [
            (100, 300, "thinned", 3)
        ]
        assert state.wanted(100, 300) == []
    assert told_after.losses[0].after_ns == 50


def test_a_loss_without_offsets_has_a_time() -> None:
    """What was never written has no offsets."""
    loss = Loss(reason="over_bound", count=9, written_ns=80)
    (hole,) = state_after(envelope(0, 10, last_written_ns=50), envelope(10, 20, losses=[loss])).losses
    assert (hole.after_ns, hole.before_ns, hole.count) == (50, 80, 9)


def test_how_it_ended_and_what_was_refused() -> None:
    """Kept over the frames that follow."""
    state = state_after(
        envelope(0, 10, refused={"not_json": 2}),
        envelope(10, 20, close=Close(ended="killed"), refused={"not_json": 1}),
        envelope(20, 30),
    )
    assert state.close == Close(ended="killed")
    assert state.refused == {"not_json": 3}


def test_holes_are_bounded() -> None:
    """A spool of holes is told as the first ones and one wide one."""
    state = state_after(*(envelope(n * 100, n * 100 + 50) for n in range(HOLES_MAX * 3)))
    assert len(state.missing) == HOLES_MAX
    assert (state.missing[0].start, state.missing[-1].end) == (50, (HOLES_MAX * 3 - 1) * 100)
    for earlier, later in zip(state.missing, state.missing[1:], strict=False):
        assert earlier.end <= later.start


def test_many_losses_are_added_up() -> None:
    """Counts survive being put together."""
    losses = [Loss(reason="over_bound", count=2, written_ns=n) for n in range(200)]
    state = state_after(envelope(0, 10, losses=losses))
    assert len(state.losses) == HOLES_MAX
    assert sum(hole.count or 0 for hole in state.losses) == 400


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(1, 15)), max_size=25))
def test_the_account_equals_a_set_of_bytes(stretches: list[tuple[int, int]]) -> None:
    """Whatever order the stretches come in: wanted, here and acknowledged agree with plain sets."""
    state = SpoolState(spool_id="s")
    here: set[int] = set()
    for start, length in stretches:
        end = start + length
        parts = state.wanted(start, end)
        offered = {byte for first, last in parts for byte in range(first, last)}
        assert offered == set(range(start, end)) - here
        for first, last in parts:
            state.apply(envelope(first, last), 1)
        here |= offered
        acknowledged = state.acknowledged(start)
        assert set(range(start, acknowledged)) <= here and acknowledged not in here
        missing = {byte for hole in state.missing for byte in range(hole.start, hole.end)}
        assert missing == set(range(state.mark)) - here


@pytest.mark.parametrize("resource", [{}, {"service.name": 7, "process.pid": "x", "host.name": None}])
def test_an_odd_resource_is_no_reason_to_fail(resource: dict[str, object]) -> None:
    """`apply` runs where nothing may fail."""
    state = SpoolState(spool_id="s")
    state.apply(Envelope(received_ns=1, resource=resource, origin="s", first=0, end=5), 1)
    assert state.mark == 5
