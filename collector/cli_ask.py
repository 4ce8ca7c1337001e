"""Commands that ask: search, tail, trace, services, map, stats, ledger."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from collector.cli_app import (
    NOT_THERE,
    NOTHING,
    OK,
    AsJson,
    DataDir,
    End,
    Environment,
    Query,
    Start,
    Url,
    Version,
    app,
    asking,
    complain,
    complain_of_nothing,
    give,
    place_of,
    screen,
)


@app.command(short_help="Find log records and spans, or whole traces.")
def search(
    query: Query = None,
    start: Start = None,
    end: End = None,
    environment: Environment = None,
    version: Version = None,
    traces: Annotated[bool, typer.Option("--traces", help="List the traces instead of the records.")] = False,
    failed: Annotated[
        bool | None, typer.Option("--failed/--ok", help="Only traces with, or without, an error.")
    ] = None,
    min_duration: Annotated[str | None, typer.Option(help="Only traces at least as long: 250ms.")] = None,
    by: Annotated[
        str | None, typer.Option(metavar="FIELD", help="Count the records by the values of a field instead.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", help="How many, newest first.")] = 50,
    cursor: Annotated[str | None, typer.Option(help="Go on where the page before ended.")] = None,
    link: Annotated[bool, typer.Option("--link", help="Give the address of the answer instead.")] = False,
    url: Url = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Find log records and spans, or with --traces whole traces; docs/search.md has the language.

    Traces are also found by how spans stand in them: `service:gateway >> service:payments` (anywhere below),
    `name:checkout > level:ERROR` (a child). Put such a search in quotes, `>` means something to a shell.
    Exit status: 0 when something was found, 1 when not.
    """
    from collector import cli_tables
    from collector.cli_source import UsageError

    text = " ".join(query or [])
    asked = {"start": start, "end": end, "limit": limit, "environment": environment, "version": version}
    if traces:
        asked |= {"error": failed, "min_duration": min_duration, "cursor": cursor}
    elif failed is not None or min_duration is not None:
        raise UsageError("--failed, --ok and --min-duration are about whole traces: add --traces")
    elif by is None:
        asked |= {"cursor": cursor, "total": True}
    if by is not None and (traces or cursor is not None):
        raise UsageError("--by counts records, all of them at once: leave out --traces and --cursor")
    if link:
        path = "traces" if traces else "logs" if by is None else "logs/facets"
        typer.echo(place_of(url, data_dir).link(path, q=text, field=by, **asked))
        return
    with asking(url, data_dir) as (place, answers):
        if traces:
            answer, draw = answers.traces(text, **asked), cli_tables.trace_list_lines
            while not answer["traces"] and answer["cursor"]:  # a rare structure; people want to see one
                answer = answers.traces(text, **asked | {"cursor": answer["cursor"]})
        elif by is not None:
            answer, draw = answers.facets(by, text, **asked), cli_tables.facet_lines
        else:
            answer, draw = answers.logs(text, **asked), cli_tables.record_lines
    found = answer["traces" if traces else "records" if by is None else "values"]
    give(answer, draw, as_json=as_json)
    if answer.get("cursor"):  # never cut in silence
        complain(f"{_extent(answer, len(found), limit)}; the next ones: --cursor {answer['cursor']}")
    elif not found:
        complain_of_nothing(place, text)
    raise typer.Exit(OK if found else NOTHING)


def _extent(answer: dict[str, Any], found: int, limit: int) -> str:
    """How much of everything a page is."""
    if "total" in answer:
        return f"the newest {found} of {answer['total']}"
    if found < limit:
        return f"{found} found so far, and it takes long to look through the rest"
    return f"the newest {found}"


@app.command(short_help="Show the newest records, and with -f every new one.")
def tail(
    query: Query = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C.")] = False,
    limit: Annotated[int, typer.Option("--limit", "-n", help="How many of those that are there.")] = 10,
    environment: Environment = None,
    version: Version = None,
    url: Url = None,
    data_dir: DataDir = None,
    as_json: Annotated[bool, typer.Option("--json", help="One record a line.")] = False,
) -> None:
    """Show the newest records that match, and with --follow every new one until Ctrl-C."""
    from collector.cli_tail import show_tail

    status = show_tail(
        place_of(url, data_dir),
        " ".join(query or []),
        {"environment": environment, "version": version},
        limit=limit,
        follow=follow,
        as_json=as_json,
        screen=screen(),
    )
    raise typer.Exit(status)


@app.command()
def trace(
    trace_id: Annotated[
        str,
        typer.Argument(metavar="TRACE_ID", help="32 hex digits, from a log line or an X-Trace-ID header."),
    ],
    full: Annotated[bool, typer.Option("--full", help="Whole stack traces, attributes, ids.")] = False,
    url: Url = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Draw the call chain of a trace, with its logs in their places."""
    from collector.cli_chain import chain_lines

    def draw(answer: dict[str, Any], width: int | None) -> Any:
        return chain_lines(answer, width=width, full=full)

    with asking(url, data_dir) as (_, answers):
        give(answers.trace(trace_id), draw, as_json=as_json)


@app.command(short_help="List the services, or the operations of one.")
def services(
    service: Annotated[str | None, typer.Argument(metavar="[SERVICE]", help="Its operations.")] = None,
    environment: Environment = None,
    version: Version = None,
    start: Start = None,
    end: End = None,
    url: Url = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """List the services, or the operations of one, with counts, errors and usual durations.

    Exit status: 0 when there are some, 1 when not.
    """
    from collector.cli_tables import operation_lines, service_lines
    from collector.settings import did_you_mean

    asked = {"start": start, "end": end, "environment": environment, "version": version}
    with asking(url, data_dir) as (place, answers):
        if service is None:
            answer, draw = answers.services(**asked), service_lines
        else:
            answer, draw = answers.operations(service, **asked), operation_lines
        if not answer["services" if service is None else "operations"]:
            known = [] if service is None else [item["service"] for item in answers.services()["services"]]
            complain_of_nothing(place, hint=did_you_mean(service or "", known))
    give(answer, draw, as_json=as_json)
    raise typer.Exit(OK if answer["services" if service is None else "operations"] else NOTHING)


@app.command("map", short_help="Show who calls whom, how often, and how often it fails.")
def show_map(
    environment: Environment = None,
    version: Version = None,
    start: Start = None,
    end: End = None,
    url: Url = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Show who calls whom, how often, and how often it fails; --version is that of the called service."""
    from collector.cli_tables import edge_lines

    with asking(url, data_dir) as (place, answers):
        answer = answers.topology(start=start, end=end, environment=environment, version=version)
    if not answer["edges"]:
        complain_of_nothing(place)
    give(answer, edge_lines, as_json=as_json)
    raise typer.Exit(OK if answer["edges"] else NOTHING)


@app.command(short_help="Show how much is stored.")
def stats(url: Url = None, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Show how much is stored, and what a running collector has done since its start.

    Exit status: 0, or 3 when the store is away and only the collector's own figures are known.
    """
    from collector.cli_tables import stats_lines

    with asking(url, data_dir) as (_, answers):
        answer = answers.stats()
    give(answer, stats_lines, as_json=as_json)
    raise typer.Exit(OK if answer["store_error"] is None else NOT_THERE)


@app.command(short_help="Show what arrived of each process, and what is missing.")
def ledger(url: Url = None, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Show what arrived of each process, how it ended, and what is missing.

    Exit status: 0 when nothing is missing, 1 when something is.
    """
    from collector.cli_tables import is_whole, ledger_lines

    with asking(url, data_dir) as (_, answers):
        answer = answers.ledger()
    give(answer, ledger_lines, as_json=as_json)
    raise typer.Exit(OK if all(is_whole(spool) for spool in answer["spools"]) else NOTHING)
