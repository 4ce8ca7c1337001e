"""Lines that belong together: tracebacks of Python and Java, and nothing else."""

from __future__ import annotations

import traceback

from hypothesis import given
from hypothesis import strategies as st

from collector.receive.multiline import Grouper


def grouped(text: str, bytes_max: int = 100_000) -> list[str]:
    """The records of a text, with their places checked."""
    grouper, start, records = Grouper(bytes_max), 0, []
    data = text.encode()
    for line in data.splitlines(keepends=True):
        records += grouper.feed(line, start)
        start += len(line)
    records += grouper.flush()
    for record in records:
        assert data[record.start : record.end].rstrip(b"\r\n") == record.text
    assert [record.start for record in records[1:]] == [record.end for record in records[:-1]]
    return [record.text.decode() for record in records]


def test_lines_of_their_own() -> None:
    """Most are."""
    assert grouped("INFO a\nINFO b\n{}\n") == ["INFO a", "INFO b", "{}"]


def test_a_chained_traceback_stays_with_its_message() -> None:
    """As the interpreter prints it, with blank lines, and last lines that are not indented."""
    try:
        try:
            raise KeyError("cart")
        except KeyError as error:
            raise ValueError("no") from error
    except ValueError:
        trace = traceback.format_exc()
    assert "direct cause" in trace and "\n\n" in trace
    assert grouped(f"ERROR failed\n{trace}INFO next\n") == [
        f"ERROR failed\n{trace}".rstrip("\n"),
        "INFO next",
    ]


def test_an_exception_group_stays_together() -> None:
    """Its margin is drawn with bars."""
    try:
        raise ExceptionGroup("several", [ValueError("one"), TypeError("two")])
    except ExceptionGroup:
        trace = traceback.format_exc()
    assert grouped(f"ERROR failed\n{trace}INFO next\n") == [
        f"ERROR failed\n{trace}".rstrip("\n"),
        "INFO next",
    ]


def test_java() -> None:
    """Frames are indented, causes are not."""
    text = (
        "ERROR failed\njava.lang.IllegalStateException: no\n\tat a.B.c(B.java:7)\n"
        "Caused by: java.io.IOException: disk\n\tat d.E.f(E.java:1)\n\t... 3 more\nINFO next\n"
    )
    assert grouped(text) == [
        "ERROR failed",
        "\n".join(text.splitlines()[1:-1]),
        "INFO next",
    ]


def test_a_blank_line_belongs_to_nobody() -> None:
    """But between chained tracebacks."""
    assert grouped("INFO a\n\nINFO b\n") == ["INFO a", "", "INFO b"]


def test_a_record_is_bounded() -> None:
    """A file of indented lines only is cut, not collected for ever."""
    records = grouped("start\n" + "  line\n" * 1000, bytes_max=100)
    assert max(map(len, records)) <= 100
    assert "\n".join(records).count("line") == 1000


def test_what_waits_can_be_seen() -> None:
    """So that it can be handed over when nothing follows."""
    grouper = Grouper(1000)
    assert not grouper.is_open
    assert grouper.feed(b"a\n", 5) == [] and grouper.is_open
    (record,) = grouper.flush()
    assert (record.start, record.end, record.text) == (5, 7, b"a")
    assert not grouper.is_open and grouper.flush() == []


@given(
    st.lists(
        st.sampled_from(["a", " b", "Traceback (most recent call last):", "", "E: x", "\tat x"]), max_size=30
    )
)
def test_no_byte_is_lost_or_doubled(lines: list[str]) -> None:
    """Whatever comes; the places are checked for every text."""
    grouped("".join(line + "\n" for line in lines))
