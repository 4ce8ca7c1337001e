"""Parameters: read from the declaration that documents them."""

from __future__ import annotations

import pytest

from collector.api.parameters import TEXT_CHARS_MAX, InvalidParameter, Parameter, read_query

LIMIT = Parameter(name="limit", kind="integer", description="", minimum=1, maximum=10)
ERROR = Parameter(name="error", kind="boolean", description="")
TEXT = Parameter(name="q", kind="text", description="")
KIND = Parameter(name="format", kind="text", description="", choices=("json", "csv"))
ID = Parameter(name="trace_id", kind="trace_id", description="", place="path")
DECLARED = (LIMIT, ERROR, TEXT, KIND, ID)


def test_values_have_their_declared_types() -> None:
    """What was not given is not there, so that the function's own default holds."""
    given = [("limit", "5"), ("error", "False"), ("q", "a b"), ("format", "csv")]
    assert read_query(DECLARED, given) == {"limit": 5, "error": False, "q": "a b", "format": "csv"}
    assert read_query(DECLARED, []) == {}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("limt", "5"), "limt: no such parameter; did you mean 'limit'?"),
        (("zzz", "5"), "zzz: no such parameter; known are error, format, limit, q"),
        (("trace_id", "5"), "trace_id: no such parameter; known are error, format, limit, q"),
        (("limit", "0"), "limit: 0 is not in 1..10"),
        (("limit", "11"), "limit: 11 is not in 1..10"),
        (("limit", "five"), "limit: 'five' is not a whole number"),
        (("limit", "٥"), "limit: '٥' is not a whole number"),
        (("limit", ""), "limit: '' is not a whole number"),
        (("limit", "1.0"), "limit: '1.0' is not a whole number"),
        (("error", "maybe"), "error: 'maybe' is neither true nor false"),
        (("format", "xml"), "format: 'xml' is none of json, csv"),
        (
            ("q", "x" * (TEXT_CHARS_MAX + 1)),
            f"q: {TEXT_CHARS_MAX + 1} characters, at most {TEXT_CHARS_MAX} are read",
        ),
    ],
)
def test_what_cannot_be_understood_is_named(given: tuple[str, str], said: str) -> None:
    """With what was expected."""
    with pytest.raises(InvalidParameter) as caught:
        read_query(DECLARED, [given])
    assert str(caught.value) == said


def test_every_trouble_is_named_at_once() -> None:
    """One request, one list of mistakes."""
    with pytest.raises(InvalidParameter) as caught:
        read_query(DECLARED, [("limit", "0"), ("error", "?"), ("q", "1"), ("q", "2")])
    assert caught.value.errors == [
        {"parameter": "limit", "message": "0 is not in 1..10"},
        {"parameter": "error", "message": "'?' is neither true nor false"},
        {"parameter": "q", "message": "given twice"},
    ]
