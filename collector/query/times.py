"""Times and durations as people write them -> nanoseconds. Pure: the present is passed in."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, tzinfo
from decimal import Decimal
from typing import Final

from collector.errors import QueryError
from tracing.errors import InvalidLine
from tracing.line import TIMESTAMP_NS_MAX, parse_timestamp

UNITS_NS: Final = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "μs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "sec": 1_000_000_000,
    "m": 60_000_000_000,
    "min": 60_000_000_000,
    "h": 3_600_000_000_000,
    "d": 86_400_000_000_000,
    "w": 604_800_000_000_000,
}
_WEEKDAYS: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_PARTS: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([a-zµμ]+)\s*")
_CLOCK: Final = re.compile(r"(\d{1,2}):(\d{2})(?::(\d{2})(\.\d{1,9})?)?")
_DATE: Final = re.compile(r"(\d{4})-(\d{2})-(\d{2})")
_NUMBER: Final = re.compile(r"\d{1,20}(?:\.\d{1,9})?")
_EXAMPLES: Final = "try 15m, 2h, now, today, yesterday 14:00, 2026-11-24 05:32 or an RFC 3339 time"

# Of an epoch without a unit the number of digits tells the unit, for every time from 1973 to 5138.
_EPOCH_UNITS: Final = ((11, 1_000_000_000), (14, 1_000_000), (17, 1_000), (20, 1))


def parse_duration(text: str) -> int:
    """Read `250ms`, `1.5s` or `1h30m` as nanoseconds.

    Raises:
        QueryError: it is no duration, or it has no unit.
    """
    duration = _duration_ns(text.strip().lower())
    if duration is None:
        raise QueryError(f"{text!r:.64} is no duration; give a number and a unit: 250ms, 1.5s, 2m, 1h30m")
    return duration


def parse_time(text: str, *, now_ns: int, zone: tzinfo = UTC) -> int:
    """Read a time as epoch nanoseconds.

    Args:
        text: `now`; a time ago (`15m`, `2h ago`, `now-1d`); `today`, `yesterday`, a weekday (the last
            one), a date, each with or without a clock (`yesterday 14:00`); a clock alone (today's); RFC 3339;
            epoch seconds, milliseconds, microseconds or nanoseconds.
        now_ns: the present.
        zone: whose days and clocks are meant.
    Raises:
        QueryError: it is none of these, or a time before 1970.
    """
    words = text.strip()
    time_ns = _epoch_ns(words)
    if time_ns is None:
        time_ns = _ago_ns(words.lower(), now_ns)
    if time_ns is None:
        time_ns = _day_ns(words.lower(), now_ns, zone)
    if time_ns is None:
        try:
            time_ns = parse_timestamp(words)
        except InvalidLine:
            raise QueryError(f"{text!r:.64} is no time; {_EXAMPLES}") from None
    if not 0 <= time_ns <= TIMESTAMP_NS_MAX:
        raise QueryError(f"{text!r:.64} is not between the years 1970 and 9999")
    return time_ns


def _duration_ns(text: str) -> int | None:
    total, position = Decimal(0), 0
    while position < len(text):
        part = _PARTS.match(text, position)
        if part is None or part[2] not in UNITS_NS:
            return None
        total += Decimal(part[1]) * UNITS_NS[part[2]]
        position = part.end()
    return int(total) if text else None


def _epoch_ns(text: str) -> int | None:
    if not _NUMBER.fullmatch(text):
        return None
    digits = len(text.partition(".")[0])
    unit_ns = next(unit_ns for digits_max, unit_ns in _EPOCH_UNITS if digits <= digits_max)
    return int(Decimal(text) * unit_ns)


def _ago_ns(text: str, now_ns: int) -> int | None:
    if text == "now":
        return now_ns
    sign = -1
    if text.startswith("now"):
        text = text.removeprefix("now").strip()
        if not text.startswith(("-", "+")):
            return None
    if text.startswith("+"):
        sign = 1
    duration = _duration_ns(text.lstrip("+-").removesuffix("ago").strip())
    return None if duration is None else now_ns + sign * duration


def _day_ns(text: str, now_ns: int, zone: tzinfo) -> int | None:
    day, _, clock = text.partition(" ")
    now = datetime.fromtimestamp(now_ns // 1_000_000_000, zone)
    if _CLOCK.fullmatch(text):
        day, clock = "today", text
    midnight = _midnight(day, now)
    if midnight is None:
        return None
    fraction_ns = 0
    if clock := clock.strip():
        parts = _CLOCK.fullmatch(clock)
        if parts is None:
            return None
        try:
            midnight = midnight.replace(hour=int(parts[1]), minute=int(parts[2]), second=int(parts[3] or 0))
        except ValueError:
            return None
        fraction_ns = int(Decimal(parts[4] or 0) * 1_000_000_000)
    return int(midnight.timestamp()) * 1_000_000_000 + fraction_ns


def _midnight(day: str, now: datetime) -> datetime | None:
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    if day == "today":
        return today
    if day == "yesterday":
        return _moved(today, -1)
    if day in _WEEKDAYS:
        back = (today.weekday() - _WEEKDAYS.index(day) - 1) % 7 + 1
        return _moved(today, -back)
    date = _DATE.fullmatch(day)
    if date is None:
        return None
    try:
        return today.replace(year=int(date[1]), month=int(date[2]), day=int(date[3]))
    except ValueError:
        return None


def _moved(midnight: datetime, days: int) -> datetime:
    # On the calendar, not by 24 hours: a day may have 23 or 25.
    date = midnight.date() + timedelta(days=days)
    return midnight.replace(year=date.year, month=date.month, day=date.day)
