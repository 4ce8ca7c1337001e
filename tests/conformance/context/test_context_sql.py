"""Database commands that say the trace: sqlite3, psycopg and SQLAlchemy; the database tells what it saw."""

from __future__ import annotations

import asyncio
import re
import sqlite3
from collections.abc import Callable, Iterator
from typing import Any

import context_server
import psycopg
import pytest
import sqlalchemy
import sqlalchemy.ext.asyncio
from devservers.postgres import Postgres
from hypothesis import given
from hypothesis import strategies as st
from psycopg import sql

import tracing
from tracing.instrumentation.sqlcommenter import comment, commented, say_trace
from tracing.testing import Captured, capturing

LIBRARIES = ("sqlite3", "psycopg", "sqlalchemy")
SAYS = "select current_query()"  # which PostgreSQL answers with the command as it came


@pytest.fixture(scope="module")
def url(need: Callable[[bool, str], None]) -> Iterator[str]:
    """A server."""
    with context_server.server_url(Postgres, need) as found:
        yield found


@pytest.fixture
def captured() -> Iterator[Captured]:
    """With comments on, in all three libraries."""
    with capturing(sql_comments=True) as lines:
        assert set(tracing.instrument(*LIBRARIES)) == set(LIBRARIES)
        yield lines
        tracing.uninstrument()


@pytest.fixture
def connection(url: str, captured: Captured) -> Iterator[Any]:
    """Of psycopg."""
    with psycopg.connect(url, autocommit=True) as found:
        yield found


def here() -> str:
    """The comment that belongs to where the program is."""
    return f"/*traceparent='00-{tracing.current_trace_id()}-{tracing.current_span_id()}-01'*/"


# ---------------------------------------------------------------- the format


def test_fields_are_written_as_the_format_has_them() -> None:
    """The example of its specification: sorted, encoded, quotes among the values too."""
    fields = {"route": "/polls 1000", "name": "DROP TABLE FOO", "it's": "a 'quote'"}
    assert comment(fields) == (
        "/*it%27s='a%20%27quote%27',name='DROP%20TABLE%20FOO',route='%2Fpolls%201000'*/"
    )
    assert comment({}) == ""


@given(st.dictionaries(st.text(), st.text(), min_size=1))
def test_no_value_ends_the_comment(fields: dict[str, str]) -> None:
    """Nothing that is told can become part of the command."""
    try:
        text = comment(fields)
    except UnicodeEncodeError:
        return  # half of a character: `commented` leaves the command alone then
    assert text.startswith("/*") and text.index("*/") == len(text) - 2 and "\n" not in text
    assert re.fullmatch(r"/\*[\w.~%-]*='[\w.~%-]*'(,[\w.~%-]*='[\w.~%-]*')*\*/", text, re.ASCII)


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("select 1", "select 1 {}"),
        ("select 1 ; \n", "select 1 {};"),
        ("select 1 /* mine */", None),
        ("select 1 -- mine", None),
        ("select '--'", None),
        ("", None),
        ("  ", None),
    ],
)
def test_where_the_comment_goes(captured: Captured, command: str, expected: str | None) -> None:
    """Before the last semicolon; a command that has one is not changed, nor is an empty one."""
    assert commented(command) == command, "outside any trace there is nothing to say"
    with tracing.span("request"):
        assert commented(command) == (expected or command).format(here())


# ---------------------------------------------------------------- libraries


def test_psycopg(connection: Any, captured: Captured) -> None:
    """Text, bytes and composed commands; parameters, and percent signs, are what they were."""
    with tracing.span("request"):
        assert connection.execute(SAYS).fetchone() == (f"{SAYS} {here()}",)
        assert connection.execute(SAYS.encode()).fetchone() == (f"{SAYS} {here()}",)
        composed = sql.SQL("select current_query() as {}").format(sql.Identifier("q"))
        assert connection.execute(composed).fetchone() == (f'select current_query() as "q" {here()}',)
        row = connection.execute("select %s::text, '%%', current_query()", ["x'/*"]).fetchone()
        assert row == ("x'/*", "%", f"select $1::text, '%', current_query() {here()}")
        assert connection.execute("select '%'").fetchone() == ("%",)
        with connection.transaction(), connection.cursor("kept") as cursor:
            cursor.execute(SAYS)
            declared = connection.execute("select statement from pg_cursors").fetchone()
            assert declared is not None and declared[0].endswith(f"{SAYS} {here()}")
        connection.execute("create temp table told (x text, q text)")
        connection.cursor().executemany("insert into told values (%s, current_query())", [["a"], ["b"]])
        rows = connection.execute("select x, q from told").fetchall()
        assert [x for x, _ in rows] == ["a", "b"] and all(here() in q for _, q in rows)


def test_what_is_to_be_prepared_is_left_alone(connection: Any, captured: Captured) -> None:
    """It is prepared once, whatever the trace."""
    for number in range(3):
        with tracing.span(f"request {number}"):
            assert connection.execute(SAYS, prepare=True).fetchone() == (SAYS,)
    [count] = connection.execute("select count(*) from pg_prepared_statements").fetchone()
    assert count == 1


def test_psycopg_asyncio(url: str, captured: Captured) -> None:
    """The same."""

    async def test() -> None:
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
            with tracing.span("request"):
                cursor = await connection.execute(SAYS)
                assert await cursor.fetchone() == (f"{SAYS} {here()}",)
                await connection.cursor().executemany("select %s::int", [[1], [2]])

    asyncio.run(test())


def test_sqlite3(captured: Captured) -> None:
    """The database's own trace shows it; classes of the program's stay in use."""

    class Connection(sqlite3.Connection):
        pass

    class Cursor(sqlite3.Cursor):
        pass

    for options in ({}, {"factory": Connection}):
        seen: list[str] = []
        with tracing.span("request"):
            connection = sqlite3.connect(":memory:", **options)
            assert isinstance(connection, options.get("factory", sqlite3.Connection))
            connection.set_trace_callback(seen.append)
            assert connection.execute("select ?", ["x"]).fetchall() == [("x",)]
            assert connection.cursor().execute("select 2;").fetchone() == (2,)
            cursor = connection.cursor(Cursor)
            assert isinstance(cursor, Cursor) and cursor.execute("select :a", {"a": 3}).fetchone() == (3,)
            connection.execute("create table t (x)")
            connection.executemany("insert into t values (?)", [[1], [2]])
            connection.executescript("select 4; -- mine")
            said = [text for text in seen if "traceparent" in text]
            assert len(said) == 6 and all(here() in text for text in said)
            connection.close()


@pytest.mark.parametrize("driver", ["", "+psycopg"])
def test_sqlalchemy(url: str, captured: Captured, driver: str) -> None:
    """By its own event, on an engine that was there before; the driver does not say it a second time."""
    address = url.replace("postgresql", "postgresql+psycopg") if driver else "sqlite://"
    engine = sqlalchemy.create_engine(address)
    seen: list[str] = []
    listen = sqlalchemy.event.listens_for(engine, "before_cursor_execute")
    listen(lambda *about: seen.append(about[2]))
    with tracing.span("request"), engine.connect() as connection:
        found = connection.execute(sqlalchemy.text("select :x || '%'"), {"x": "a"}).scalar_one()
        assert found == "a%"
        assert seen[-1].endswith(here()) and seen[-1].count("traceparent") == 1
        if driver:
            said = connection.execute(sqlalchemy.text(SAYS)).scalar_one()
            assert said == f"{SAYS} {here()}"
    engine.dispose()


def test_sqlalchemy_asyncio(url: str, captured: Captured) -> None:
    """An asynchronous engine has the same event."""

    async def test() -> str:
        engine = sqlalchemy.ext.asyncio.create_async_engine(url.replace("postgresql", "postgresql+psycopg"))
        async with engine.connect() as connection:
            with tracing.span("request"):
                said = (await connection.execute(sqlalchemy.text(SAYS))).scalar_one()
                assert said == f"{SAYS} {here()}"
        await engine.dispose()
        return str(said)

    assert asyncio.run(test())


# ---------------------------------------------------------------- on and off


def replaceable() -> list[Any]:
    """Whatever may be replaced."""
    cursors = (psycopg.Cursor, psycopg.AsyncCursor, psycopg.ServerCursor, psycopg.AsyncServerCursor)
    listens = sqlalchemy.event.contains(sqlalchemy.engine.Engine, "before_cursor_execute", say_trace)
    return [sqlite3.connect, sqlite3.dbapi2.connect, listens, *(vars(one)["execute"] for one in cursors)]


def test_without_the_setting_nothing_is_replaced() -> None:
    """Whatever else is on."""
    before = replaceable()
    with capturing():
        assert set(LIBRARIES).isdisjoint(tracing.instrument())
        assert replaceable() == before
        with tracing.span("request"):
            assert commented("select 1") == "select 1"
        tracing.uninstrument()


def test_removal_puts_everything_back(url: str) -> None:
    """And what was made in the meantime works on, as does an engine; excluded by name nothing is replaced."""
    before = replaceable()
    with capturing(sql_comments=True):
        tracing.instrument(exclude=LIBRARIES)
        assert replaceable() == before
        tracing.instrument(*LIBRARIES)
        assert replaceable() != before
        connection = sqlite3.connect(":memory:")
        tracing.uninstrument()
    assert replaceable() == before and False in before  # nobody listens
    assert connection.execute("select 1").fetchone() == (1,)
    connection.close()
