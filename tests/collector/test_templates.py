"""Log templates: what varies is masked, what says the same is one, and identities outlive the process."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.templates import OVERFLOW, TemplateLimits, TemplateMiner, mask, template_id


@pytest.mark.parametrize(
    ("message", "masked"),
    [
        ("took 12 ms", "took <num>"),
        ("took 12.5ms, 3 retries", "took <num>, <num> retries"),
        ("order 6ce0fb18-8013-4884-a528-2140388dc27c done", "order <id> done"),
        ("commit 9e107d9d372bb682 pushed", "commit <id> pushed"),
        ("at 0x7f3a00ff", "at <id>"),
        ("from 10.0.0.12:8080", "from <ip>"),
        ("GET https://shop.example/a?b=1", "GET <url>"),
        ("read /var/lib/shop/data.db", "read <path>"),
        ("mail to grace@example.org failed", "mail to <email> failed"),
        ("since 2026-11-24T05:32:11.123Z", "since <time>"),
        ("at Sat May 04 09:51:52 CST 2013", "at <time>"),
        ("worker3 ready", "<id> ready"),
        ("answer (status=1, msg=ok)", "answer <data>"),
        ("rows [{'a': 1}, {'b': [2]}]", "rows <data>"),
        ("none [] and {}", "none <data> and <data>"),
        ("[getRoute][Success]", "[getRoute][Success]"),
        ("plain words stay", "plain words stay"),
        ("-5 and +7.5%", "<num> and <num>"),
    ],
)
def test_values_are_masked_by_their_look(message: str, masked: str) -> None:
    """What looks like a value is replaced by what it looks like, words are left."""
    assert mask(message) == masked


def test_a_long_structure_that_is_cut_off_is_still_data() -> None:
    """Messages are only read up to a limit, which may lie inside a bracket."""
    message = "result is {'a': 1, 'b': [1, 2, 3, "
    assert mask(message) == "result is <data>"


@given(st.text(max_size=200))
def test_masking_is_done_in_one_go(message: str) -> None:
    """Masking what is masked changes nothing, so a template's text can be taken for a message."""
    once = mask(message)
    assert mask(once) == mask(mask(once))


def test_one_call_is_one_template() -> None:
    """Whatever the values are."""
    miner = TemplateMiner()
    found = {miner.add(f"order {n} of user {n % 7} took {n * 1.5:.2f} ms").template_id for n in range(500)}
    assert len(found) == 1
    [(template, count)] = miner.templates()
    assert (template.text, count) == ("order <num> of user <num> took <num>", 500)


def test_words_that_vary_become_wildcards() -> None:
    """What masks do not know is learned from seeing it vary."""
    miner = TemplateMiner()
    names = ["alice", "bob", "carol", "dave"]
    found = miner.add_all((f"user {name} logged in from the office", "auth") for name in names)
    assert {template.text for template in found} == {"user <*> logged in from the office"}


def test_different_things_said_by_one_logger_stay_apart() -> None:
    """Sharing a few words is not enough."""
    miner = TemplateMiner()
    miner.add("credit check passed for order", group="orders")
    miner.add("stock reserved on shelf upstairs", group="orders")
    assert len(miner) == 2


def test_loggers_do_not_share_templates() -> None:
    """The same words elsewhere are another call."""
    miner = TemplateMiner()
    assert miner.add("started", group="a") != miner.add("started", group="b")


def test_an_identity_is_the_same_wherever_it_is_found() -> None:
    """Two programs that never spoke to each other name the template alike: it is a hash of its text."""
    first, second = TemplateMiner(), TemplateMiner()
    second.add("something else first")
    one = first.add("order 1 done", group="g")
    other = second.add("order 99 done", group="g")
    assert one.template_id == other.template_id == template_id("g", "order <num> done")


def test_an_identity_that_grew_more_general_leads_to_the_new_one() -> None:
    """Nothing that was counted under the old one is lost."""
    miner = TemplateMiner()
    old = miner.add("user alice logged in from the office")
    new = miner.add("user bob logged in from the office")
    assert old.template_id != new.template_id
    assert miner.current_id(old.template_id) == new.template_id
    assert miner.has(new.template_id)
    assert not miner.has(old.template_id)


def test_a_restart_changes_nothing() -> None:
    """State that was written and read goes on with the same identities, counts and successors."""
    miner = TemplateMiner()
    old = miner.add("user alice logged in from the office")
    miner.add("user bob logged in from the office")
    miner.add("order 5 done", group="orders")
    again = TemplateMiner.from_bytes(miner.to_bytes())
    assert list(again.templates()) == list(miner.templates())
    assert again.current_id(old.template_id) == miner.current_id(old.template_id)
    assert again.add("user carol logged in from the office").template_id == miner.current_id(old.template_id)


@given(
    st.lists(
        st.builds(
            "{} {} {}".format,
            st.sampled_from(["user", "order", "shelf"]),
            st.sampled_from(["alice", "bob", "7", "is"]),
            st.sampled_from(["came", "went", "12 ms", "[a=1]", ""]),
        ),
        max_size=40,
    ),
    st.integers(0, 40),
)
def test_stopping_and_starting_again_is_like_never_having_stopped(messages: list[str], cut: int) -> None:
    """Wherever the restart falls."""
    whole = TemplateMiner()
    found = whole.add_all((message, "") for message in messages)
    first = TemplateMiner()
    before = first.add_all((message, "") for message in messages[:cut])
    second = TemplateMiner.from_bytes(first.to_bytes())
    after = second.add_all((message, "") for message in messages[cut:])
    ids = [second.current_id(template.template_id) for template in before + after]
    assert ids == [template.template_id for template in found]


@pytest.mark.parametrize("data", [b"", b"{}", b"[1]", b'{"version":99,"clusters":[],"successors":{}}'])
def test_a_state_that_is_none_is_refused(data: bytes) -> None:
    """It says what is wrong instead of starting with half of it."""
    with pytest.raises(ValueError, match=r"state|version"):
        TemplateMiner.from_bytes(data)


def test_looking_up_learns_nothing() -> None:
    """A known message is found, an unknown one is not, and the tree stays as it was."""
    miner = TemplateMiner()
    known = miner.add("order 1 done")
    before = miner.to_bytes()
    assert miner.find("order 2 done") == known
    assert miner.find("who is that") is None
    assert miner.to_bytes() == before


def test_the_number_of_templates_is_bounded() -> None:
    """What does not fit any more is one template that says so, and is still counted."""
    words = ["".join(letters) for letters in itertools.product("abcdefgh", repeat=3)]
    miner = TemplateMiner(TemplateLimits(templates_max=50))
    for word, other in itertools.pairwise(words):
        miner.add(f"{word} {other}")
    assert len(miner) == 51
    counts = {template.text: count for template, count in miner.templates()}
    assert counts[OVERFLOW] == len(words) - 1 - 50
    assert sum(counts.values()) == len(words) - 1


def test_only_the_first_line_makes_the_template() -> None:
    """A stack trace below it varies with its depth."""
    miner = TemplateMiner()
    assert miner.add("failed\nTraceback …\n  File 1") == miner.add("failed\nTraceback …")


def test_one_takes_in_what_another_has_learned() -> None:
    """Every template of the other has a place in this one afterwards."""
    mine, other = TemplateMiner(), TemplateMiner()
    mine.add("order 1 done")
    rng = random.Random(4)
    for n in range(200):
        other.add(rng.choice(["order {} done", "user {} gone", "shelf empty"]).format(n))
    moved = mine.take_in(other)
    counts = {template.template_id: count for template, count in mine.templates()}
    assert set(moved) == {template.template_id for template, _ in other.templates()}
    assert set(moved.values()) <= set(counts)
    assert sum(counts.values()) == 201


@given(st.lists(st.text(max_size=80), max_size=30))
def test_any_text_has_a_template(messages: list[str]) -> None:
    """Nothing that can be logged breaks it, and each message is found again."""
    miner = TemplateMiner()
    found = miner.add_all((message, "g") for message in messages)
    assert sum(count for _, count in miner.templates()) == len(messages)
    for message, template in zip(messages, found, strict=True):
        again = miner.find(message, group="g")
        assert again is not None
        assert miner.has(template.template_id)
