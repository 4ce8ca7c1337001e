"""Times and durations as people write them."""

from __future__ import annotations

from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.errors import QueryError
from collector.query.times import parse_duration, parse_time
from tracing.line import TIMESTAMP_NS_MAX, format_timestamp

SECOND = 10**9
NOW_S = 1_795_498_331  # Tuesday, 2026-11-24T05:32:11Z
TODAY_S = 1_795_478_400
DAY_S = 86_400

TIMES: dict[str, float] = {
    "now": NOW_S,
    "15m": NOW_S - 900,
    "-15m": NOW_S - 900,
    "15m ago": NOW_S - 900,
    "now-15m": NOW_S - 900,
    "now - 15m": NOW_S - 900,
    "+15m": NOW_S + 900,
    "now+15m": NOW_S + 900,
    "1h30m": NOW_S - 5_400,
    "1.5h": NOW_S - 5_400,
    "2 h": NOW_S - 7_200,
    "1d": NOW_S - DAY_S,
    "1w": NOW_S - 7 * DAY_S,
    "today": TODAY_S,
    "Today": TODAY_S,
    "today 05:00": TODAY_S + 18_000,
    "05:00": TODAY_S + 18_000,
    "5:00:01.5": TODAY_S + 18_001.5,
    "yesterday": TODAY_S - DAY_S,
    "yesterday 14:00": TODAY_S - DAY_S + 50_400,
    "monday": TODAY_S - DAY_S,
    "tuesday": TODAY_S - 7 * DAY_S,
    "sunday 12:00": TODAY_S - 2 * DAY_S + 43_200,
    "2026-11-24": TODAY_S,
    "2026-11-24 05:32": NOW_S - 11,
    "2026-11-24 05:32:11.25": NOW_S + 0.25,
    "2026-11-24T05:32:11Z": NOW_S,
    "2026-11-24T06:32:11+01:00": NOW_S,
    "1795498331": NOW_S,
    "1795498331.5": NOW_S + 0.5,
    "1795498331000": NOW_S,
    "1795498331000000": NOW_S,
    "1795498331000000000": NOW_S,
    " 15m ": NOW_S - 900,
}


@pytest.mark.parametrize("text", TIMES)
def test_time(text: str) -> None:
    """Each way to say a time."""
    assert parse_time(text, now_ns=NOW_S * SECOND) == int(TIMES[text] * 4) * SECOND // 4


NO_TIMES = (
    "", "soon", "25:00", "today 25:00", "2026-13-01", "2026-02-30 10:00", "15 parsecs", "1969-12-31",
    "now 15m", "m15", "--", "9999999999999999999999", "yesterday at noon", "400000w",
)  # fmt: skip


@pytest.mark.parametrize("text", NO_TIMES)
def test_what_is_no_time_is_answered_with_examples(text: str) -> None:
    """Or with the years that there are."""
    with pytest.raises(QueryError, match=r"try 15m, 2h|between the years"):
        parse_time(text, now_ns=NOW_S * SECOND)


def test_days_and_clocks_are_those_of_a_zone() -> None:
    """A day in which the clocks change has 25 hours."""
    berlin = ZoneInfo("Europe/Berlin")
    # Sunday, 2026-10-25T12:00:00Z; the night before, the clocks went back at 01:00Z.
    now_ns = 1_792_929_600 * SECOND
    assert parse_time("today", now_ns=now_ns, zone=berlin) == (1_792_929_600 - 14 * 3_600) * SECOND
    on_monday_ns = now_ns + DAY_S * SECOND
    assert parse_time("yesterday", now_ns=on_monday_ns, zone=berlin) == (1_792_929_600 - 14 * 3_600) * SECOND
    assert parse_time("yesterday 14:00", now_ns=now_ns, zone=berlin) == (1_792_929_600 - DAY_S) * SECOND
    assert (
        parse_time("monday", now_ns=now_ns, zone=berlin) == (1_792_929_600 - 14 * 3_600 - 6 * DAY_S) * SECOND
    )


DURATIONS = {
    "250ms": 250_000_000,
    "1.5s": 1_500_000_000,
    "0.1us": 100,
    "3µs": 3_000,
    "10ns": 10,
    "2m": 120 * SECOND,
    "2 min": 120 * SECOND,
    "1h30m": 5_400 * SECOND,
    "1h 30m": 5_400 * SECOND,
    "1D": 86_400 * SECOND,
    "0s": 0,
}


@pytest.mark.parametrize("text", DURATIONS)
def test_duration(text: str) -> None:
    """Each unit, fractions and sums."""
    assert parse_duration(text) == DURATIONS[text]


@pytest.mark.parametrize("text", ["", "5", "ms", "5 parsecs", "-5ms", "5ms!", "1h30"])
def test_what_is_no_duration_is_answered_with_examples(text: str) -> None:
    """A number without a unit, too: of what?"""
    with pytest.raises(QueryError, match="250ms"):
        parse_duration(text)


@given(st.integers(0, TIMESTAMP_NS_MAX))
def test_our_own_timestamps_are_times(timestamp_ns: int) -> None:
    """What an answer shows can be pasted into a question."""
    assert parse_time(format_timestamp(timestamp_ns), now_ns=0) == timestamp_ns


@given(st.text(max_size=30))
def test_any_text_is_a_time_or_a_query_error(text: str) -> None:
    """Nothing else comes of what a person types."""
    for parse in (parse_duration, lambda words: parse_time(words, now_ns=NOW_S * SECOND)):
        try:
            assert parse(text) >= 0
        except QueryError:
            pass
