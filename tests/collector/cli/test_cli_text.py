"""Lengths of time, clean texts, tables and screens."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.text import Text

from collector.cli_tables import table_lines
from collector.cli_text import Palette, Screen, clean, count, duration, fitted, short_paths, wrapped


@pytest.mark.parametrize(
    ("length_ns", "said"),
    [
        (0, "0 s"),
        (85_000, "85.0 µs"),
        (999_400, "999 µs"),
        (999_600, "1.00 ms"),
        (8_120_000, "8.12 ms"),
        (812_000_000, "812 ms"),
        (1_240_000_000, "1.24 s"),
        (59_400_000_000, "59.4 s"),
        (123_000_000_000, "2 min 03 s"),
        (7_500_000_000_000, "2 h 05 min"),
        (-8_120_000, "-8.12 ms"),
    ],
)
def test_a_length_is_said_in_the_unit_a_person_would_use(length_ns: int, said: str) -> None:
    """Three digits are enough to compare and few enough to read."""
    assert duration(length_ns) == said


@given(st.text())
def test_a_cleaned_text_is_one_harmless_line(text: str) -> None:
    """Neither control characters nor marks of direction come through."""
    cleaned = clean(text)
    assert not any(ord(character) < 32 or 127 <= ord(character) < 160 for character in cleaned)
    assert not set(cleaned) & set("\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def test_an_escape_sequence_goes_as_a_whole() -> None:
    """What is left of a coloured message is the message, not `[31m` and the message."""
    assert clean("\x1b[31mred\x1b[0m and\nnext") == "red and next"


@given(text=st.text(), width=st.integers(40, 120), indent=st.integers(0, 15))
def test_wrapping_keeps_every_word_in_order(text: str, width: int, indent: int) -> None:
    """Breaking a paragraph loses and adds nothing."""
    lines = wrapped(text, width=width, indent=indent)
    assert " ".join(line.plain for line in lines).split() == clean(text).split()


@given(st.text(alphabet="a漢…é", max_size=200), st.integers(40, 120))
def test_a_fitted_line_is_no_wider_than_asked(text: str, width: int) -> None:
    """Wide characters take two columns and are counted so."""
    assert fitted(Text(text), width).cell_len <= width


def test_numbers_stand_below_each_other() -> None:
    """Columns are as wide as their widest cell; numbers end in one column."""
    lines = table_lines(["name", "n"], [[Text("a"), Text("1")], [Text("bcdefg"), Text("200")]], right={1})
    assert [line.plain for line in lines] == ["name      n", "a         1", "bcdefg  200"]


def test_the_same_service_keeps_its_colour() -> None:
    """Colours go by order of appearance, so that a redrawn trace looks the same."""
    palette = Palette(["a", "b"])
    assert (palette.style("b"), palette.style("a")) == (
        Palette(["a", "b"]).style("b"),
        Palette(["a"]).style("a"),
    )


def test_counts_have_their_noun() -> None:
    """One span, two spans, and thousands that can be read."""
    assert [count(1, "span"), count(186_978, "record"), count(2, "entry", "entries")] == [
        "1 span",
        "186 978 records",
        "2 entries",
    ]


def test_a_screen_that_is_no_terminal_has_no_colours_and_no_width() -> None:
    """A pipe gets plain and whole lines."""
    file = io.StringIO()
    screen = Screen(file)
    screen.show([Text("x" * 500, style="bold red")])
    assert screen.width is None
    assert file.getvalue() == "x" * 500 + "\n"


def test_a_screen_without_utf8_gets_marks_it_can_show() -> None:
    """A terminal that knows ASCII only shows a tree all the same, and never an encoding error."""
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding="ascii", errors="strict")
    Screen(file).show(["├─ a ━━ · ✗ …", "漢"])
    file.flush()
    assert raw.getvalue().splitlines() == [b"|- a == . x ~", b"?"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("at /srv/app/lib/shop/orders.py:41 in pay", "at lib/shop/orders.py:41 in pay"),
        ("at /shop/orders.py:41 in pay", "at /shop/orders.py:41 in pay"),
        ("/a/b/c/d.py:1 and /e/f/g/h.py:2", "b/c/d.py:1 and f/g/h.py:2"),
        ("GET /api/v1/orders/41 took 5 ms", "GET /api/v1/orders/41 took 5 ms"),
        ("/api/v1/orders.json was slow", "/api/v1/orders.json was slow"),
    ],
)
def test_places_in_source_files_are_shortened(text: str, said: str) -> None:
    """The end of a path tells the file; routes, which look alike, stay whole."""
    assert short_paths(text) == said
