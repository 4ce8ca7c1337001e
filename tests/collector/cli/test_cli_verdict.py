"""The verdict as text: the cause first, then the proof, then what to do."""

from __future__ import annotations

import shlex
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.cli_verdict import confidence_words, next_commands, quoted, verdict_lines
from collector.diagnose.ask import NOTHING_BEGAN
from collector.model import MEASURES

VERDICT = """\
inventory raised KeyError: 'shelf' in shelf_label.

where        inventory  ·  Reserve  ·  shop/inventory.py:50 in shelf_label
confidence   high (93 %)  ·  exception  ·  seen by exception_origin, error_status

evidence     05:32:11.432 inventory KeyError: 'shelf'
               → the exception was born here

refuted by   the same exception in a healthy trace

or else      2. orders answered 500.  ·  low (21 %)

measured by  38 traces taken for healthy
normal       durations of 7 operations
next         backtrail trace 5f3c5f3c5f3c5f3c5f3c5f3c5f3c5f3c --data-dir d
             the whole chain, with the logs in place
             backtrail search 'service:inventory level:>=WARN' --data-dir d
             whatever else inventory complained of
             backtrail search --traces 'service:inventory name:Reserve' --data-dir d
             other traces that passed this place"""


def written(verdict: dict[str, Any], **options: Any) -> str:
    """The text without its colours."""
    return "\n".join(line.plain for line in verdict_lines(verdict, **options))


def test_a_verdict_as_it_is_written(verdict: dict[str, Any]) -> None:
    """The first line alone says what broke."""
    assert written(verdict, where="--data-dir d") == VERDICT


@pytest.mark.parametrize("width", [40, 61, 80, 120])
def test_a_verdict_is_broken_at_words_and_loses_none(verdict: dict[str, Any], width: int) -> None:
    """A narrow terminal shows every word that a wide one does."""
    verdict["causes"][0]["summary"] = "word " * 60
    assert written(verdict, width=width).split() == written(verdict).split()


def test_lack_of_data_is_said_as_such(verdict: dict[str, Any]) -> None:
    """No cause is made up, and no all-clear is given, where data is lacking."""
    verdict |= {"causes": [], "insufficient": "only 2 healthy traces of this entry point; 5 are needed"}
    text = written(verdict)
    assert text.startswith("Not enough data to name a cause.\nlacking      only 2 healthy traces")


@pytest.mark.parametrize("source", [*MEASURES, None])
def test_the_measure_is_named_where_it_is_known(verdict: dict[str, Any], source: str | None) -> None:
    """The collector's own baseline, one that was given, neighbours, or what came before."""
    said = written(verdict | {"measured_by": source})
    words = f", {MEASURES[source]}" if source else ""
    assert f"measured by  38 traces taken for healthy{words}\n" in said
    assert source or said == VERDICT.replace(" --data-dir d", "")


def test_a_baseline_that_was_given_is_named(verdict: dict[str, Any]) -> None:
    """By its file, which the command line knows."""
    verdict |= {"measured_by": "given_baseline"}
    assert "measured by  38 traces taken for healthy, of week.baseline\n" in written(
        verdict, baseline="week.baseline"
    )


def test_a_time_range_without_a_measure_has_a_next_step(verdict: dict[str, Any]) -> None:
    """Its failed traces, and a part of it that has something to be measured by."""
    start, end = "2026-11-24T05:00:00.000000000Z", "2026-11-24T05:20:00.000000000Z"
    verdict |= {"causes": [], "trace_id": None, "start": start, "end": end}
    commands = [command for command, _ in next_commands(verdict | {"insufficient": "0 healthy traces"})]
    assert commands == [
        f"backtrail search --traces --failed --start {start} --end {end}",
        f"backtrail why --start 2026-11-24T05:10:00.000000000Z --end {end}",
    ]
    assert next_commands(verdict | {"insufficient": NOTHING_BEGAN}) == []
    assert next_commands(verdict | {"insufficient": None}) == []


def test_a_normal_trace_is_said_to_be_normal(verdict: dict[str, Any]) -> None:
    """Nothing found is a finding too, with what was looked at."""
    text = written(verdict | {"causes": [], "insufficient": None})
    assert text.startswith("Nothing abnormal found.")
    assert "normal       durations of 7 operations" in text


def test_what_is_hardly_possible_is_only_counted(verdict: dict[str, Any]) -> None:
    """An alternative of a few percent is one more line to read at night; `--explain` still has it."""
    verdict["causes"][1]["confidence"] = 0.049
    assert "orders answered 500." not in written(verdict)
    assert "\nor else      1 less likely cause: --explain\n" in written(verdict)
    assert "orders answered 500." in written(verdict, explain=True)
    verdict["causes"].append(verdict["causes"][1] | {"rank": 3})
    verdict["causes"][1] = verdict["causes"][1] | {"confidence": 0.05}
    assert written(verdict).count("orders answered 500.") == 1
    assert "\n             and 1 less likely cause: --explain\n" in written(verdict)


def test_explain_adds_every_cause_and_the_record_ids(verdict: dict[str, Any]) -> None:
    """What the short form leaves out is one option away."""
    text = written(verdict, explain=True)
    assert f"record {'a' * 32}-117" in text
    assert "2. orders answered 500." in text


@given(service=st.text(min_size=1), operation=st.text(min_size=1))
def test_a_suggested_command_survives_the_shell(service: str, operation: str) -> None:
    """Whatever services are called, what is printed can be typed, and is one query."""
    cause = {"service": service, "operation": operation, "evidence": [], "rank": 1}
    for command, _ in next_commands({"causes": [cause], "trace_id": None}):
        words = shlex.split(command)
        assert words[:2] == ["backtrail", "search"]
        assert len(words) == 3 + ("--traces" in words)


def test_values_are_quoted_only_when_they_must_be() -> None:
    """A query that a person can read is one that a person will change and use again."""
    assert quoted("orders") == "orders"
    assert quoted("POST /orders") == '"POST /orders"'
    assert quoted('say "hi"') == '"say \\"hi\\""'


def test_confidence_is_said_in_words() -> None:
    """The number alone would suggest more precision than there is."""
    assert [confidence_words(value) for value in (0.95, 0.6, 0.1)] == [
        "high (95 %)",
        "fair (60 %)",
        "low (10 %)",
    ]
