"""`backtrail dead-letters`: what Elasticsearch refuses, shown, mended and sent again, or given up."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from collector.cli_app import NOTHING, OK, AsJson, DataDir, Url, app, complain, give, place_of

if TYPE_CHECKING:
    from collector.api.letters import DeadLetterAnswers
    from collector.client.letters import DeadLetterClient

JsonObject = dict[str, Any]

letters_app = typer.Typer(
    help="Records that the store refuses, kept on the collector's disk.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(letters_app, name="dead-letters")

Uids = Annotated[list[str] | None, typer.Argument(metavar="[UID]...", help="Of the records.")]
All = Annotated[bool, typer.Option("--all", help="All of them.")]


@letters_app.command("list")
def list_letters(
    limit: Annotated[int, typer.Option("--limit", "-n", help="How many, oldest first.")] = 50,
    cursor: Annotated[str | None, typer.Option(help="Go on behind this record.")] = None,
    url: Url = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """List records that the store refuses, oldest first.

    Exit status: 0 when there is one, 1 when there is none.
    """
    with _letters(url, data_dir) as letters:
        answer = letters.list(limit=limit, cursor=cursor)
    give(answer, list_lines, as_json=as_json)
    raise typer.Exit(OK if answer["dead_letters"] else NOTHING)


@letters_app.command("show")
def show_letter(
    uid: Annotated[str, typer.Argument(help="Of the record.")],
    url: Url = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Show one record that the store refuses: why, the record, and what was sent."""
    with _letters(url, data_dir) as letters:
        answer = letters.show(uid)
    give(answer, letter_lines, as_json=as_json)


@letters_app.command("replay")
def replay_letters(
    uids: Uids = None,
    every: All = False,
    edit: Annotated[
        bool, typer.Option("--edit", help="Mend each in your editor first ($VISUAL, $EDITOR).")
    ] = False,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Send dead letters again, once their cause is mended; each that is stored is no longer one.

    A running collector does it, and wants its ingest token, in BACKTRAIL_INGEST_TOKEN, if it has one. With
    --edit the record is mended itself: save it changed to send it, leave it as it is to pass it over.

    Exit status: 0 when all that went is stored, 1 when some are refused again, or none went.
    """
    named = _named(uids, every=every, what="send again")
    with _running(url) as letters:
        if edit:
            records = [record for record in map(_edited, _whole(letters, named)) if record is not None]
            if not records:
                complain("no record was changed, so none was sent")
                raise typer.Exit(NOTHING)
            answer = letters.replay(records=records)
        else:
            answer = letters.replay(named)
    give(answer, replayed_lines, as_json=as_json)
    sent = answer["stored"] + answer["already_stored"]
    raise typer.Exit(OK if sent and not answer["refused"] else NOTHING)


@letters_app.command("drop")
def drop_letters(
    uids: Uids = None,
    every: All = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Give dead letters up: their records are lost.

    A running collector does it, and wants its admin token, in BACKTRAIL_ADMIN_TOKEN.
    """
    from collector.cli_text import count

    named = _named(uids, every=every, what="give up")
    with _running(url) as letters:
        chosen = named if named is not None else [one["uid"] for one in _all(letters)]
        if not chosen:
            complain("there is no dead letter")
            raise typer.Exit(NOTHING)
        if not yes and not typer.confirm(f"Lose {count(len(set(chosen)), 'record')} for good?"):
            raise typer.Exit(NOTHING)
        answer = letters.drop(chosen)
    give(answer, lambda given, width: [f"{count(given['dropped'], 'record')} given up."], as_json=as_json)


# ---------------------------------------------------------------- where they are


@contextlib.contextmanager
def _letters(url: str | None, data_dir: Path | None) -> Iterator[DeadLetterClient | DeadLetterAnswers]:
    """Those of a running collector, or those in a data directory, which needs neither it nor the cluster."""
    from collector.api.letters import DeadLetterAnswers
    from collector.datadir import check_readable
    from collector.errors import Unreachable
    from collector.service.pipeline import store_path
    from collector.store.deadletters import FILE_NAME, DeadLetters

    place = place_of(url, data_dir)
    if place.data_dir is None:
        with place.client() as client:
            yield client.dead_letters
        return
    if not place.data_dir.is_dir():
        raise Unreachable(f"{place.data_dir}: no such directory")
    check_readable(place.data_dir)
    yield DeadLetterAnswers(DeadLetters(store_path(place.data_dir) / FILE_NAME))


@contextlib.contextmanager
def _running(url: str | None) -> Iterator[DeadLetterClient]:
    from collector.cli_source import UsageError

    place = place_of(url, None)
    if place.url is None:
        raise UsageError("only a running collector can do that: --url")
    with place.client() as client:
        yield client.dead_letters


def _named(uids: list[str] | None, *, every: bool, what: str) -> list[str] | None:
    """The records that the command line names; `None`: all."""
    from collector.cli_source import UsageError

    if bool(uids) == every:
        raise UsageError(f"name the records to {what}, or all of them with --all")
    return None if every else uids


def _all(letters: DeadLetterClient) -> Iterator[JsonObject]:
    cursor = None
    while True:
        page = letters.list(limit=1_000, cursor=cursor)
        yield from page["dead_letters"]
        cursor = page["cursor"]
        if cursor is None:
            return


def _whole(letters: DeadLetterClient, named: list[str] | None) -> list[JsonObject]:
    return list(_all(letters)) if named is None else [letters.show(uid) for uid in named]


# ---------------------------------------------------------------- mending


def _edited(letter: JsonObject) -> JsonObject | None:
    """The record as the editor leaves it; `None`: it was left as it was."""
    import click

    trouble = f"{letter['field']}: {letter['message']}" if letter["field"] else letter["message"]
    complain(f"record {letter['uid']}: {trouble}")
    text = json.dumps(letter["record"], indent=2, ensure_ascii=False) + "\n"
    while True:
        changed = click.edit(text, extension=".json")
        if changed is None:
            return None
        try:
            record = json.loads(changed)
            if not isinstance(record, dict):
                raise ValueError("a JSON object was expected")
        except ValueError as error:
            complain(f"record {letter['uid']}: what you saved is no JSON: {error}")
            if not sys.stdin.isatty() or not typer.confirm("Edit again?", default=True, err=True):
                return None
            text = changed
        else:
            return {**record, "uid": letter["uid"]}  # which says where it belongs, and is not to be mended


# ---------------------------------------------------------------- for people


def list_lines(answer: JsonObject, *, width: int | None = None) -> list[Text]:
    """A line a letter: when, which, why."""
    from collector.cli_tables import table_lines
    from collector.cli_text import clean, count, day_and_time

    if not answer["dead_letters"]:
        return [Text("No dead letters: the store has refused nothing.")]
    rows = [
        [
            Text(day_and_time(one["refused"])[:19], style="dim"),
            Text(clean(one["uid"])),
            Text(clean(one["reason"]), style="bold red"),
            Text(clean(one["field"] or "–")),
            Text(clean(one["record"].get("message") or one["record"].get("name") or "")),
        ]
        for one in answer["dead_letters"]
    ]
    lines = table_lines(["refused", "record", "reason", "field", "message"], rows, width=width)
    rest = answer["total"] - len(rows)
    tail = "backtrail dead-letters show RECORD says more"
    if answer["cursor"] is not None:
        tail = f"--cursor {clean(answer['cursor'])} goes on; {count(rest, 'more is', 'more are')} there"
    return [*lines, Text(f"{count(answer['total'], 'dead letter')}. {tail}", style="dim")]


def letter_lines(answer: JsonObject, *, width: int | None = None) -> list[Text]:
    """One letter, its record as lines that could be edited."""
    from collector.cli_text import clean, day_and_time, wrapped

    facts = (
        ("record", answer["uid"]),
        ("refused", day_and_time(answer["refused"])),
        ("stream", answer["stream"]),
        ("reason", answer["reason"]),
        ("field", answer["field"] or "–"),
        ("message", answer["message"]),
    )
    lines = []
    for name, value in facts:
        lines += wrapped(value, width=width, indent=9, first=Text(f"{name:<9}", style="dim"))
    for name, value in (("record", answer["record"]), ("sent", _parsed(answer["document"]))):
        lines.append(Text(f"{name}:", style="dim"))
        text = json.dumps(value, indent=2, ensure_ascii=False) if value is not None else "nothing"
        lines += [Text(f"  {clean(line)}") for line in text.splitlines()]
    return lines


def replayed_lines(answer: JsonObject, *, width: int | None = None) -> list[Text]:
    """What became of those that went, and how many there are still."""
    from collector.cli_text import clean, count

    said = [count(answer["stored"], "record stored", "records stored")]
    if answer["already_stored"]:
        said.append(count(answer["already_stored"], "was there already", "were there already"))
    said.append(f"{count(answer['left'], 'dead letter is', 'dead letters are')} left")
    refused = [
        Text(f"✗ {clean(one['uid'])}: refused again: {clean(one['reason'])}", style="red")
        for one in answer["refused"]
    ]
    return [*refused, Text(f"{', '.join(said)}.")]


def _parsed(document: str | None) -> Any:
    try:
        return None if document is None else json.loads(document)
    except ValueError:  # it was cut, or mended on its way
        return document
