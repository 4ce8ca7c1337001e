"""What a search means: each sentence of the language, its errors, and that nothing else comes of a text."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from collector.errors import QueryError
from collector.model import Record, Status
from collector.query import QUERY_CHARS_MAX, parse_query, parse_structure
from collector.store.conditions import (
    And,
    Condition,
    Equals,
    Everything,
    Exists,
    Not,
    Or,
    Range,
    Structure,
    Wildcard,
    Words,
    matches,
)

A, B, C = (Words((letter,)) for letter in "abc")
STATUS_FIELDS = ("http.response.status_code", "http.status_code", "attributes.status")

MEANINGS: dict[str, Condition] = {
    "": Everything(),
    "  \n": Everything(),
    # words
    "declined": Words(("declined",)),
    "Declined": Words(("declined",)),
    "order-77": Words(("order", "77")),
    '"Card declined!"': Words(("card", "declined")),
    "decl*": Wildcard("message", "decl*"),
    "it's": Words(("it", "s")),
    "main()": Words(("main",)),
    "http://host/path": Words(("http", "host", "path")),
    "12:30:05": Words(("12", "30", "05")),
    "/orders/{id}": Words(("orders", "id")),
    '"say \\"a\\""': Words(("say", "a")),
    # operators
    "a b": And((A, B)),
    "a AND b": And((A, B)),
    "a OR b": Or((A, B)),
    "a b OR c": And((A, Or((B, C)))),
    "a AND b OR c": Or((And((A, B)), C)),
    "(a OR b) c": And((Or((A, B)), C)),
    "NOT a": Not(A),
    "-a b": And((Not(A), B)),
    "+a b": And((A, B)),
    "-(a OR b)": Not(Or((A, B))),
    "a-b": Words(("a", "b")),
    "and": Words(("and",)),
    # fields
    "service:orders": Equals("service", "orders"),
    "service:(orders OR pay)": Or((Equals("service", "orders"), Equals("service", "pay"))),
    "-service:orders": Not(Equals("service", "orders")),
    'user:"a b"': Equals("user", "a b"),
    "user.id:*": Exists("user.id"),
    "name:GET*": Wildcard("name", "GET*"),
    'name:"GET*"': Equals("name", "GET*"),
    "name:GET\\*": Equals("name", "GET*"),
    "message:declined": Words(("declined",)),
    "exception.message:declined": Words(("declined",), "exception.message"),
    "attributes.service:x": Equals("attributes.service", "x"),
    "é_1:ü": Equals("é_1", "ü"),
    # values with signs in them
    "http.route:/orders/{id}": Equals("http.route", "/orders/{id}"),
    "at:12:30": Equals("at", "12:30"),
    "url:http://x/y": Equals("url", "http://x/y"),
    "k:a+b-c": Equals("k", "a+b-c"),
    "path:C:\\\\dir": Equals("path", "C:\\dir"),
    "k:f(x)": Equals("k", "f(x)"),
    "(k:f(x) OR a)": Or((Equals("k", "f(x)"), A)),
    "k:[open": Equals("k", "[open"),
    # numbers
    "k:5": Equals("k", 5),
    "k:-5": Equals("k", -5),
    "k:2.5": Equals("k", 2.5),
    "k:007": Or((Equals("k", "007"), Equals("k", 7))),
    "k:1e3": Or((Equals("k", "1e3"), Equals("k", 1000.0))),
    'k:"5"': Equals("k", "5"),
    "k:true": Equals("k", "true"),
    "k:[10 TO 20]": Range("k", 10, 20),
    "k:{10 TO 20}": Range("k", 10, 20, False, False),
    "k:[10 TO *]": Range("k", 10, None),
    "k:[-5 TO -1.5}": Range("k", -5, -1.5, True, False),
    "k:>5": Range("k", 5, None, False),
    "k:>= 5": Range("k", 5, None),
    "k:<-5": Range("k", None, -5, True, False),
    "source.line:12": Equals("source.line", 12),
    # units, times, levels, status
    "duration:>250ms": Range("duration_ns", 250_000_000, None, False),
    "duration:[1s TO 1m30s]": Range("duration_ns", 10**9, 90 * 10**9),
    "duration:5us": Equals("duration_ns", 5_000),
    "timestamp:>=2026-11-24T05:32:11Z": Range("timestamp_ns", 1_795_498_331 * 10**9),
    "time:[2026-11-24 TO 2026-11-25}": Range(
        "timestamp_ns", 1_795_478_400 * 10**9, 1_795_564_800 * 10**9, True, False
    ),
    'time:>"2026-11-24 05:32"': Range("timestamp_ns", 1_795_498_320 * 10**9, None, False),
    "level:error": Equals("level", "ERROR"),
    "level:Warning": Equals("level", "WARN"),
    "level:err*": Wildcard("level", "ERR*"),
    "level:>=WARN": Range("severity_number", 13),
    "level:>warn": Range("severity_number", 17),
    "level:<=INFO": Range("severity_number", None, 12),
    "level:<INFO": Range("severity_number", None, 8),
    "level:[INFO TO WARN2]": Range("severity_number", 9, 14),
    "status:error": Equals("status", "ERROR"),
    "status:200": Or(tuple(Equals(field, 200) for field in STATUS_FIELDS)),
    "status:>=500": Or(tuple(Range(field, 500) for field in STATUS_FIELDS)),
    "-status:200": Not(Or(tuple(Equals(field, 200) for field in STATUS_FIELDS))),
    "span_kind:server": Equals("span_kind", "SERVER"),
    "kind:span_start": Equals("kind", "span_start"),
    "trace:4BF92F35-77B34DA6-A3CE929D-0E0E4736": Equals("trace_id", "4bf92f3577b34da6a3ce929d0e0e4736"),
    "operation:place": Equals("name", "place"),
    "environment:prod": Or(
        (
            Equals("resource.deployment.environment.name", "prod"),
            Equals("resource.deployment.environment", "prod"),
        )
    ),
    "version:1.2": Equals("resource.service.version", 1.2),
}


@pytest.mark.parametrize("text", MEANINGS)
def test_meaning(text: str) -> None:
    """Each way to say something."""
    assert parse_query(text) == MEANINGS[text]


def test_the_sentence_of_the_manual() -> None:
    """All of it together."""
    text = 'service:orders level:ERROR "card declined" order_id:[10 TO 20] -status:200'
    assert parse_query(text) == And(
        (
            Equals("service", "orders"),
            Equals("level", "ERROR"),
            Words(("card", "declined")),
            Range("order_id", 10, 20),
            Not(Or(tuple(Equals(field, 200) for field in STATUS_FIELDS))),
        )
    )


def test_times_in_human_words_need_the_present() -> None:
    """`parse_query` is pure; without the present only absolute times are known."""
    now_ns = 1_795_498_331 * 10**9
    assert parse_query("timestamp:>15m", now_ns=now_ns) == Range(
        "timestamp_ns", now_ns - 900 * 10**9, None, False
    )
    with pytest.raises(QueryError, match="absolute"):
        parse_query("timestamp:>15m")


@pytest.mark.parametrize(("text", "error"), [("error:true", True), ("error:false", False)])
def test_error_means_what_a_record_says_of_itself(text: str, error: bool) -> None:
    """A log of level ERROR, a span whose status is ERROR; neither starts nor losses."""
    common = {"uid": "u", "timestamp_ns": 1, "service": "s", "level": "ERROR", "severity_number": 17}
    records = [
        Record(**common),  # type: ignore[arg-type]
        Record(**{**common, "severity_number": 16}),  # type: ignore[arg-type]
        Record(**common, kind="span"),  # type: ignore[arg-type]
        Record(**{**common, "severity_number": 9}, kind="span", status=Status(code="ERROR")),  # type: ignore[arg-type]
        Record(**common, kind="span_start"),  # type: ignore[arg-type]
        Record(**common, kind="loss"),  # type: ignore[arg-type]
    ]
    condition = parse_query(text)
    for record in records:
        wanted = record.kind in ("log", "span") and record.is_error == error
        assert matches(condition, record) == wanted


MISTAKES: dict[str, tuple[int | None, str]] = {
    "(a": (2, "not closed"),
    "a)": (1, "not opened"),
    "a AND": (5, "ends where"),
    "AND a": (0, "'AND' is not expected"),
    "a OR OR b": (5, "'OR' is not expected"),
    "()": (1, "nothing between"),
    "service:": (8, "without a value"),
    "service: orders": (8, "directly behind its colon"),
    "service:>": (9, "without a value"),
    'a "b': (2, "quote is not closed"),
    "foo~2": (3, "likeness"),
    "foo^2": (3, "weights"),
    "&&": (0, "no letter or digit"),
    'x:1 "!!"': (4, "no letter or digit"),
    "level:WARM": (6, "did you mean WARN?"),
    "level:>=5": (6, "there are TRACE, DEBUG, INFO"),
    "kind:spam": (5, "did you mean span?"),
    "status:okay": (7, "did you mean OK"),
    "duration:>250": (9, "Give a unit: 250ms"),
    "duration:>fast": (9, "is no duration"),
    "k:>abc": (2, "compared as plain numbers"),
    "service:>5": (8, "cannot be compared"),
    "message:[a TO b]": (8, "cannot be compared"),
    "source.line:x": (12, "is no number"),
    ">5": (0, "needs a field in front"),
    "a:(b:c)": (3, "stands inside a:"),
    "k:a\\*b*": (2, "cannot hold * or ? as themselves"),
    "timestamp:>2026-13-01": (10, "is no time"),
    "k:<b>": (2, "is no number"),
    "a " + "(" * 60 + "b" + ")" * 60: (None, "nested more than 50"),
    "a" * (QUERY_CHARS_MAX + 1): (None, "at most 8192"),
}


@pytest.mark.parametrize("text", MISTAKES, ids=lambda text: text[:30])
def test_mistakes_are_answered_with_a_place_and_a_hint(text: str) -> None:
    """The position is that of the text as it was typed, not as it was escaped."""
    position, hint = MISTAKES[text]
    with pytest.raises(QueryError) as raised:
        parse_query(text)
    assert hint in str(raised.value)
    if position is not None:
        assert raised.value.position == position


def test_the_position_is_not_moved_by_what_is_escaped_before() -> None:
    """Escapes make the text longer for luqum."""
    with pytest.raises(QueryError) as raised:
        parse_query("route:/a/{b}:{c}/d at:1:2:3 level:WARM")
    assert raised.value.position == 34


@given(st.text(max_size=60))
def test_any_text_is_a_search_or_a_query_error(text: str) -> None:
    """Nothing else ever comes of what a person types."""
    _try(text)


@given(st.text('ab:"\\()[]{}<>=+-*?~^/&|! TONRAD.5m_', max_size=40))
def test_any_text_of_syntax_is_a_search_or_a_query_error(text: str) -> None:
    """The same, where it is dense."""
    _try(text)


def _try(text: str) -> None:
    try:
        condition = parse_query(text)
    except QueryError as error:
        assert error.position is None or 0 <= error.position <= len(text)
    else:
        record = Record(uid="u", timestamp_ns=1, level="INFO", severity_number=9, service="s", message=text)
        assert matches(condition, record) in (True, False)


@given(st.text(min_size=1).filter(lambda text: text.isprintable()))
def test_what_is_quoted_is_meant_literally(text: str) -> None:
    """With its quotes and backslashes escaped, every text is a value."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    assert parse_query(f'k:"{escaped}"') == Equals("k", text)


@given(st.text("abc/:{}[]().-+é=&%$§;,_@#'!", min_size=1, max_size=20))
def test_a_value_without_blanks_needs_no_quotes(value: str) -> None:
    """Unless it begins with a parenthesis, or holds one that is not its own."""
    opened = list(accumulate({"(": 1, ")": -1}.get(character, 0) for character in value))
    assume(value[0] != "(" and min(opened) >= 0 and opened[-1] == 0)
    assert parse_query(f"k:{value}") == Equals("k", value)


def test_threads_do_not_disturb_each_other() -> None:
    """PLY keeps state in its parser; luqum shares one among all threads."""
    texts = [text for text in MEANINGS if text.strip()] * 10

    def parse(text: str) -> bool:
        try:
            parse_query(f"{text} AND (")
        except QueryError:
            pass
        return parse_query(text) == MEANINGS[text]

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(parse, texts))


STRUCTURES: dict[str, tuple[list[Condition], list[bool]]] = {
    "": ([Everything()], [False]),
    "a b": ([And((A, B))], [False]),
    "a >> b": ([A, B], [False, False]),
    "a > b": ([A, B], [False, True]),
    "a b >> c > a OR b": ([And((A, B)), C, Or((A, B))], [False, False, True]),
    "(a OR b) >> NOT c": ([Or((A, B)), Not(C)], [False, False]),
    "duration:>5ms >> b": ([Range("duration_ns", 5_000_000, None, False), B], [False, False]),
    '"a >> b"': ([Words(("a", "b"))], [False]),
    "a>>b": ([Words(("a", "b"))], [False]),
}


@pytest.mark.parametrize("text", STRUCTURES)
def test_structures_mean(text: str) -> None:
    """Steps from the top down; the signs stand between blanks and bind least of all."""
    steps, direct = STRUCTURES[text]
    assert parse_structure(text) == Structure(steps=tuple(steps), direct=tuple(direct))


MISTAKEN_STRUCTURES: dict[str, tuple[int, str]] = {
    "a >>": (4, "nothing stands behind >>"),
    "a > ": (4, "nothing stands behind >"),
    ">> b": (0, "nothing stands before >>"),
    "a >> > b": (5, "nothing stands before >"),
    "> 5": (0, "a comparison needs a field"),
    "(a >> b)": (3, "cannot stand in parentheses"),
    "a >> (b": (7, "a parenthesis is not closed"),
    "a >> b) c": (6, "this parenthesis was not opened"),
    "a >> k:[1 TO x]": (7, "is no number"),
    " >> ".join("a" * 17): (79, "17 steps; at most 16"),
}


@pytest.mark.parametrize("text", MISTAKEN_STRUCTURES, ids=lambda text: text[:30])
def test_mistaken_structures_are_answered_with_a_place(text: str) -> None:
    """As for any search."""
    position, hint = MISTAKEN_STRUCTURES[text]
    with pytest.raises(QueryError, match=re.escape(hint)) as raised:
        parse_structure(text)
    assert raised.value.position == position


def test_a_search_for_records_knows_no_structure() -> None:
    """A record stands nowhere; the message says where to ask."""
    with pytest.raises(QueryError, match="only a search for traces") as raised:
        parse_query("a b > c")
    assert raised.value.position == 4


@pytest.mark.parametrize(
    "text", ["environment:live", 'environment:"live"', "environment:l?ve", "environment:*"]
)
def test_an_environment_is_found_under_both_its_names(text: str) -> None:
    """Instrumentation of before 2024 writes the older one."""
    for key in ("deployment.environment.name", "deployment.environment"):
        record = Record(
            uid="u", timestamp_ns=1, level="INFO", severity_number=9, service="s", resource={key: "live"}
        )
        assert matches(parse_query(text), record)
        assert not matches(parse_query(text.replace("environment", "version")), record)


PAGE = Path(__file__).resolve().parents[3] / "docs" / "search.md"
EXAMPLES = [
    example
    for line in PAGE.read_text().splitlines()
    if line.startswith("| `")
    for example in re.findall("`([^`]+)`", line.split(" | ")[0])
]


@pytest.mark.parametrize("example", EXAMPLES)
def test_what_the_page_shows_can_be_asked(example: str) -> None:
    """Each example of docs/search.md, which are many; a structure where it has the signs of one."""
    assert len(EXAMPLES) > 15
    structure = parse_structure(example if "TO 20}" not in example else f"k:{example}", now_ns=10**18)
    assert len(structure.steps) == 1 + len(re.findall(r"(?<= )>>?(?= )", example))
