"""Dead letters as answers: of a store that has none, of a file that is only looked at, and mended ones."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import pytest

from collector.api.answers import Answers
from collector.api.letters import DeadLetterAnswers
from collector.errors import NotFound, QueryError, Refused
from collector.model import Record
from collector.store.contract import Appended
from collector.store.deadletters import DeadLetters, make_letter
from collector.store.memory import MemoryStore
from collector.testing.store_samples import log


@pytest.fixture
def letters(tmp_path: Path) -> DeadLetters:
    """Three of them."""
    kept = DeadLetters(tmp_path / "letters", bytes_max=10**6)
    records = [log(number, received_ns=7_000, resource={"host.name": "web"}) for number in range(3)]
    kept.add([make_letter(one, "logs", reason="bad", message="no", refused_ns=1) for one in records])
    return kept


class Recorder:
    """A store that notes what it is told to take again, and takes it."""

    def __init__(self, letters: DeadLetters) -> None:
        self.dead_letters: DeadLetters | None = letters
        self.taken: list[Record] = []

    def replay(self, uids: Collection[str] | None, *, edit: Callable[[Record], Record | None]) -> Appended:
        assert self.dead_letters is not None
        chosen = self.dead_letters.uids() if uids is None else uids
        records = [edit(self.dead_letters.get(uid).as_record()) for uid in chosen]
        self.taken = [record for record in records if record is not None]
        self.dead_letters.remove(chosen)
        return Appended(stored=len(self.taken), already_stored=0)


def test_a_store_that_refuses_nothing_has_none() -> None:
    """The same objects, empty."""
    none = Answers(MemoryStore()).dead_letters
    assert none.list() == {"total": 0, "dead_letters": [], "cursor": None}
    assert none.replay() == {"stored": 0, "already_stored": 0, "refused": [], "left": 0}
    for ask in (lambda: none.show("x"), lambda: none.replay(["x"]), lambda: none.drop(["x"])):
        with pytest.raises(NotFound, match="no dead letter for record 'x'"):
            ask()


def test_pages_go_on_where_the_one_before_ended(letters: DeadLetters) -> None:
    """And say so when that has been dealt with meanwhile, instead of beginning again unasked."""
    answers = DeadLetterAnswers(letters)
    first = answers.list(limit=2)
    assert (len(first["dead_letters"]), first["total"], first["cursor"]) == (2, 3, log(1).uid)
    rest = answers.list(limit=2, cursor=first["cursor"])
    assert [one["uid"] for one in rest["dead_letters"]] == [log(2).uid]
    assert rest["cursor"] is None
    letters.remove([log(1).uid])
    with pytest.raises(QueryError, match="begin again"):
        answers.list(limit=2, cursor=first["cursor"])


def test_a_file_that_is_only_looked_at_sends_nothing(letters: DeadLetters) -> None:
    """That is the running collector's business."""
    with pytest.raises(QueryError, match="running collector"):
        DeadLetterAnswers(letters).replay()


def test_a_mended_record_goes_under_its_own_uid(letters: DeadLetters) -> None:
    """With the time at which it was received, which nobody can mend; only the mended go."""
    store = Recorder(letters)
    answers = DeadLetterAnswers(letters, store)
    record = answers.show(log(1).uid)["record"]
    answer = answers.replay(records=[{**record, "message": "mended"}])
    assert (answer["stored"], answer["left"]) == (1, 2)
    (taken,) = store.taken
    assert (taken.uid, taken.message, taken.received_ns) == (log(1).uid, "mended", 7_000)
    assert taken.resource == {"host.name": "web"}


@pytest.mark.parametrize(
    ("change", "reason", "field"),
    [
        ({"uid": 5}, "bad_id", "uid"),
        ({"timestamp": "noon"}, "bad_timestamp", "timestamp"),
        ({"trace_id": "xyz"}, "bad_id", "trace_id"),
    ],
)
def test_what_is_no_record_is_refused_and_nothing_is_sent(
    letters: DeadLetters, change: dict[str, Any], reason: str, field: str
) -> None:
    """With the field, whichever of the records it is."""
    store = Recorder(letters)
    answers = DeadLetterAnswers(letters, store)
    good, bad = (answers.show(log(number).uid)["record"] for number in (0, 1))
    with pytest.raises(Refused) as caught:
        answers.replay(records=[good, {**bad, **change}])
    assert (caught.value.reason, caught.value.field) == (reason, field)
    assert len(letters) == 3
