"""The checker is seen to bite: a planted loss, a planted repetition, and what the ledger gets wrong."""

from __future__ import annotations

from array import array
from typing import Any

import pytest

from tests.chaos.checker import Destroyed, Stored, check
from tests.chaos.truth import Mark, Sent, Writer, mark_of, read_truth

SPOOL = "0123456789abcdef0123456789abcdef"
LINE_BYTES = 100


def sent(count: int, *, in_doubt: int = 0, thread: str = "logs0") -> dict[str, Sent]:
    """One writer whose first `count` calls have returned."""
    name = f"chaos-orders.77.abcd-{thread}"
    times = array("Q", [*range(1, count + 1), *[0] * in_doubt])
    return {name: Sent(writer=name, begun=count + in_doubt, returned_ns=times)}


def stored(numbers: list[int], thread: str = "logs0") -> list[Stored]:
    """These of its records, each at its place in the spool."""
    writer = f"chaos-orders.77.abcd-{thread}"
    return [Stored(f"{SPOOL}-{number * LINE_BYTES}", Mark(writer, number)) for number in numbers]


def spool(**fields: Any) -> dict[str, Any]:
    """What the ledger says of the writer's process."""
    return {"spool_id": SPOOL, "service": "chaos-orders", "pid": 77, "ended": "exit", **fields}


def destroyed(where: str, number: int) -> Destroyed:
    """The bytes of one record."""
    begin = number * LINE_BYTES
    mark = Mark("chaos-orders.77.abcd-logs0", number)
    return Destroyed(where, SPOOL, begin, begin + LINE_BYTES, mark)


def test_everything_once_is_well() -> None:
    """Also the call that did not return, whether it is stored or not."""
    assert check(sent(5), stored([0, 1, 2, 3, 4]), [spool()]).ok
    assert check(sent(4, in_doubt=1), stored([0, 1, 2, 3, 4]), [spool()]).ok
    assert check(sent(4, in_doubt=1), stored([0, 1, 2, 3]), [spool()]).ok


def test_a_lost_record_is_seen() -> None:
    """Nobody has counted it."""
    verdict = check(sent(5), stored([0, 1, 3, 4]), [spool()])
    assert verdict.lost_beyond == [Mark("chaos-orders.77.abcd-logs0", 2)]
    assert not verdict.ok


def test_a_record_that_is_stored_twice_is_seen() -> None:
    """Under one identity or under two."""
    once_more = Stored(f"{SPOOL}-999999", Mark("chaos-orders.77.abcd-logs0", 1))
    for repeated in (once_more, stored([1])[0]):
        verdict = check(sent(3), [*stored([0, 1, 2]), repeated], [spool()])
        assert verdict.twice == [Mark("chaos-orders.77.abcd-logs0", 1)]
        assert not verdict.ok


def test_a_record_that_nobody_sent_is_seen() -> None:
    """Such as one that was changed on its way."""
    verdict = check(sent(3), stored([0, 1, 2, 7]), [spool()])
    assert verdict.never_sent == [Mark("chaos-orders.77.abcd-logs0", 7)]
    assert not verdict.ok


def test_losses_count_as_the_sender_says_neither_more_nor_less() -> None:
    """Of two lost records, one told is one lost in silence, and three told is one too many."""

    def told(count: int) -> list[dict[str, Any]]:
        return [spool(losses=[{"start": 0, "end": 0, "reason": "over_bound", "count": count}])]

    exact = check(sent(5), stored([0, 1, 2]), told(2))
    assert exact.ok
    assert exact.lost_counted["over_bound"] == 2
    assert len(check(sent(5), stored([0, 1, 2]), told(1)).lost_beyond) == 1
    assert len(check(sent(5), stored([0, 1, 2]), told(3)).ledger_differs) == 1


def test_the_start_of_a_span_may_be_told_as_well() -> None:
    """It is a line that was shed, and no record."""
    spans = sent(4, thread="spans0")
    told = [spool(losses=[{"start": 0, "end": 0, "reason": "over_bound", "count": 3}])]
    assert check(spans, stored([0, 1, 2], "spans0"), told).ok
    assert not check(spans, stored([0], "spans0"), [spool()]).ok


@pytest.mark.parametrize("refused", [{}, {"not_json": 2}])
def test_destroyed_lines_are_counted_one_by_one(refused: dict[str, int]) -> None:
    """In a spool the collector refuses each; it may not be silent about one, nor refuse others."""
    assert check(sent(3), stored([0, 2]), [spool(refused={"not_json": 1})], [destroyed("spool", 1)]).ok
    assert not check(sent(3), stored([0, 2]), [spool(refused=refused)], [destroyed("spool", 1)]).ok


def test_a_line_that_was_stored_before_it_was_destroyed_may_be_told() -> None:
    """Its sender had not heard that it is stored; more than one would be told for nothing."""
    for count, is_well in ((1, True), (2, False)):
        told = [spool(losses=[{"start": 100, "end": 200, "reason": "damaged", "count": count}])]
        assert check(sent(3), stored([0, 1, 2]), told, [destroyed("spool", 1)]).ok is is_well


def test_a_gap_needs_an_explanation() -> None:
    """A frame of the log that was destroyed is one; a hole elsewhere is not."""
    hole = {"start": 1 * LINE_BYTES, "end": 2 * LINE_BYTES}
    gap = [spool(missing=[hole])]
    assert check(sent(3), stored([0, 2]), gap, [destroyed("wal", 1)]).ok
    assert check(sent(3), stored([0, 1, 2]), gap).gaps_unexplained
    assert check(sent(3), stored([0, 1]), gap, [destroyed("wal", 2)]).gaps_unexplained
    assert check(sent(3), stored([0, 1, 2]), [spool(ended=None)]).gaps_unexplained


def test_the_truth_survives_as_it_was_written(tmp_path: Any) -> None:
    """Numbers that returned, and one whose call did not."""
    writer = Writer(tmp_path, "chaos-orders.77.abcd-logs0", records_max=10)
    for _ in range(3):
        with writer.record() as mark:
            assert mark_of(f"{mark} xxxx") == mark
    with pytest.raises(KeyboardInterrupt), writer.record():
        raise KeyboardInterrupt
    found = read_truth(tmp_path)[writer.name]
    assert (found.begun, found.returned, found.pid, found.service) == (4, {0, 1, 2}, 77, "chaos-orders")
