"""The record line: what is written can be read, whatever it holds, and stays within its limits."""

from __future__ import annotations

import math
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracing import line, semconv
from tracing.errors import InvalidLine

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda children: (
        st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=8), children, max_size=3)
    ),
    max_leaves=8,
)
trace_ids = st.integers(1, 2**128 - 1).map("{:032x}".format)
span_ids = st.integers(1, 2**64 - 1).map("{:016x}".format)
levels = st.sampled_from(sorted(semconv.SEVERITY_NUMBERS))
timestamps = st.integers(line.TIMESTAMP_NS_MIN, line.TIMESTAMP_NS_MAX)


@st.composite
def records(draw: st.DrawFn) -> dict[str, Any]:
    """A log record or a span, with ids or without."""
    fields: dict[str, Any] = {
        "timestamp": draw(timestamps),
        "level": draw(levels),
        "service": draw(st.text(min_size=1)),
        "attributes": draw(st.dictionaries(st.text(max_size=8), json_values, max_size=4)),
    }
    if draw(st.booleans()):
        fields |= {"trace_id": draw(trace_ids), "span_id": draw(span_ids)}
    if "trace_id" in fields and draw(st.booleans()):
        fields |= {"kind": "span", "name": draw(st.text()), "duration_ns": draw(st.integers(0, 2**62))}
    else:
        fields["message"] = draw(st.text())
    return fields


@given(records())
def test_what_encode_writes_decode_reads(fields: dict[str, Any]) -> None:
    """The two halves of the format are inverses."""
    written = line.encode(fields)
    assert written.endswith(b"\n") and written.count(b"\n") == 1
    assert line.decode(written) == fields


@given(timestamps)
def test_a_timestamp_keeps_its_nanoseconds(timestamp_ns: int) -> None:
    """Text and number say the same moment."""
    assert line.parse_timestamp(line.format_timestamp(timestamp_ns)) == timestamp_ns


def test_keys_stand_in_their_order() -> None:
    """A person reads the beginning of a line, so the order of keys is part of the format."""
    shuffled = {"message": "m", "attributes": {"a": 1}, "service": "s", "level": "INFO", "timestamp": 0}
    assert list(orjson.loads(line.encode(shuffled))) == [
        "timestamp",
        "level",
        "service",
        "message",
        "attributes",
    ]


class _Unprintable:
    def __repr__(self) -> str:
        raise RuntimeError("no")


@pytest.mark.parametrize(
    "value",
    [
        object(),
        _Unprintable(),
        {1, 2},
        b"bytes",
        2**70,
        "lone \ud800 surrogate",
        {("tuple", "key"): 1},
        {"lone \udfff": 1},
        complex(1, 2),
        range(3),
        Exception("x"),
    ],
)
def test_what_json_cannot_say_is_written_all_the_same(value: Any) -> None:
    """One odd value costs nothing but its own form."""
    written = line.encode(
        {
            "timestamp": 0,
            "level": "INFO",
            "service": "s",
            "message": "m",
            "attributes": {"odd": value, "good": 1},
        }
    )
    decoded = line.decode(written)
    assert decoded["message"] == "m"
    assert decoded["attributes"]["good"] == 1
    assert decoded["attributes"]["odd"] is not None


def test_a_cycle_ends() -> None:
    """A value that holds itself is written to a depth, not for ever."""
    cycle: dict[str, Any] = {}
    cycle["self"] = cycle
    fields = {"timestamp": 0, "level": "INFO", "service": "s", "message": "m", "attributes": cycle}
    assert line.decode(line.encode(fields))["message"] == "m"


def test_not_a_number_becomes_null() -> None:
    """JSON has no word for it, and a line must be JSON."""
    fields = {"timestamp": 0, "level": "INFO", "service": "s", "message": "m", "attributes": {"x": math.nan}}
    assert line.decode(line.encode(fields))["attributes"] == {"x": None}


@given(
    st.integers(line.VALUE_CHARS_MAX + 1, 3 * line.VALUE_CHARS_MAX), st.sampled_from(["x", "é", "\x00", "🙂"])
)
def test_a_long_text_is_cut_and_says_so(length: int, character: str) -> None:
    """The mark tells how much is missing, and the line stays within its bound."""
    fields = {"timestamp": 0, "level": "INFO", "service": "s", "message": character * length}
    written = line.encode(fields)
    message = line.decode(written)["message"]
    missing = length - line.VALUE_CHARS_MAX
    assert message.endswith(f"…[cut: {missing} of {length} characters]")
    assert len(written) <= line.LINE_BYTES_MAX


def test_ten_megabytes_are_one_line_within_the_bound() -> None:
    """Every part of a record may be huge at once."""
    huge = "\x00" * 10_000_000
    written = line.encode(
        {
            "timestamp": 0,
            "level": "ERROR",
            "service": "s",
            "message": huge,
            "attributes": {f"key {number}": huge for number in range(3)},
            "exception": {"type": huge, "message": huge, "stacktrace": huge},
            "events": [{"name": huge, "attributes": {"exception.stacktrace": huge}}],
        }
    )
    assert len(written) <= line.LINE_BYTES_MAX
    decoded = line.decode(written)
    assert "line.cut" in decoded["attributes"]
    assert decoded["exception"]["stacktrace"].startswith("\x00")


def test_a_stack_trace_may_be_longer_than_other_texts() -> None:
    """It is what a cause is found by."""
    trace = "x" * line.STACKTRACE_CHARS_MAX
    fields = {
        "timestamp": 0,
        "level": "ERROR",
        "service": "s",
        "message": "m",
        "exception": {"stacktrace": trace},
    }
    assert line.decode(line.encode(fields))["exception"]["stacktrace"] == trace


GOOD = {"timestamp": "2026-01-01T00:00:00Z", "level": "INFO", "service": "s", "message": "m"}


@pytest.mark.parametrize(
    ("change", "reason", "field"),
    [
        ({"timestamp": None}, "wrong_type", "timestamp"),
        ({"timestamp": "yesterday"}, "bad_timestamp", "timestamp"),
        ({"timestamp": "1969-12-31T23:59:59Z"}, "bad_timestamp", "timestamp"),
        ({"level": "LOUD"}, "bad_level", "level"),
        ({"service": 7}, "wrong_type", "service"),
        ({"trace_id": "0" * 32}, "bad_id", "trace_id"),
        ({"trace_id": "A" * 32}, "bad_id", "trace_id"),
        ({"span_id": "1" * 16}, "missing_field", "trace_id"),
        ({"kind": "cat"}, "bad_kind", "kind"),
        ({"kind": "span", "trace_id": "1" * 32, "span_id": "1" * 16}, "bad_duration", "duration_ns"),
        ({"attributes": []}, "wrong_type", "attributes"),
    ],
)
def test_a_bad_line_is_refused_with_reason_and_field(change: dict[str, Any], reason: str, field: str) -> None:
    """Whoever wrote it learns what was expected where."""
    with pytest.raises(InvalidLine) as caught:
        line.decode(orjson.dumps({**GOOD, **change}))
    assert (caught.value.reason, caught.value.field) == (reason, field)
    assert caught.value.reason in line.REASONS


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        (b"", "not_json"),
        (b"{", "not_json"),
        (b"[]", "not_object"),
        (b'"\xff"', "not_utf8"),
        (b"x" * 300_000, "line_too_long"),
    ],
)
def test_what_is_no_object_is_refused(written: bytes, reason: str) -> None:
    """The reason is one word of a closed list."""
    with pytest.raises(InvalidLine) as caught:
        line.decode(written)
    assert caught.value.reason == reason


def test_an_exception_is_told_with_its_chain_its_notes_and_its_group() -> None:
    """The stack trace is what the interpreter would print."""
    try:
        try:
            raise ValueError("first")
        except ValueError as cause:
            raise ExceptionGroup("both", [KeyError("k"), OSError("o")]) from cause
    except ExceptionGroup as error:
        error.add_note("while charging order 7")
        told = line.exception_fields(error)
    assert told["type"] == "ExceptionGroup" and told["message"] == "both (2 sub-exceptions)"
    for part in (
        "ValueError: first",
        "KeyError: 'k'",
        "OSError: o",
        "while charging order 7",
        "direct cause",
    ):
        assert part in told["stacktrace"]


def test_an_exception_that_cannot_be_printed_is_told_all_the_same() -> None:
    """`__str__` belongs to the program and may do anything."""

    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no")

    told = line.exception_fields(Mute())
    assert (
        told["type"].endswith("Mute") and "RuntimeError" in told["message"] and "Mute" in told["stacktrace"]
    )
