"""Commands about how things change over time: rates, templates."""

from __future__ import annotations

from typing import Annotated

import typer

from collector.cli_app import (
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
    give,
)


@app.command(short_help="Show requests, errors and durations by the minute.")
def rates(
    service: Annotated[
        str | None, typer.Argument(metavar="[SERVICE]", help="Its requests; without: all spans and logs.")
    ] = None,
    operation: Annotated[str | None, typer.Option(help="Only spans of this name.")] = None,
    step: Annotated[str | None, typer.Option(help="Length of a step, in whole minutes: 5m.")] = None,
    environment: Environment = None,
    version: Version = None,
    start: Start = None,
    end: End = None,
    url: Url = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Show the rate, the errors and the durations of a service's requests, step by step; the last hour's.

    Exit status: 0 when there was something in this time, 1 when not.
    """
    from collector.cli_trend_lines import rate_lines

    with asking(url, data_dir) as (_, answers):
        ask = answers.rates if service is None else answers.service_rates
        answer = ask(
            *([] if service is None else [service]),
            start=start,
            end=end,
            step=step,
            operation=operation,
            environment=environment,
            version=version,
        )
    give(answer, rate_lines, as_json=as_json)
    is_something = any(step["spans"] or step["logs"] for step in answer["steps"])
    if not is_something:
        complain(f"nothing from {answer['start']} to {answer['end']}")
    raise typer.Exit(OK if is_something else NOTHING)


@app.command(short_help="Show what logs say, with counts and trend.")
def templates(
    query: Query = None,
    environment: Environment = None,
    version: Version = None,
    start: Start = None,
    end: End = None,
    limit: Annotated[int, typer.Option("--limit", "-n", help="How many, most frequent first.")] = 50,
    url: Url = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Show what the logs of the last hour say, their values left out, with counts and their trend.

    Exit status: 0 when there are some, 1 when not.
    """
    from collector.cli_text import grouped
    from collector.cli_trend_lines import template_lines

    with asking(url, data_dir) as (_, answers):
        answer = answers.templates(
            " ".join(query or []),
            start=start,
            end=end,
            limit=limit,
            environment=environment,
            version=version,
        )
    give(answer, template_lines, as_json=as_json)
    if not answer["templates"]:
        complain(f"no log that matches from {answer['start']} to {answer['end']}")
    if answer["truncated"]:  # never cut in silence
        complain(f"the newest {grouped(answer['read'])} logs were read, those since {answer['start']}")
    if (left := answer["found"] - len(answer["templates"])) > 0:
        complain(f"and {grouped(left)} more: --limit")
    raise typer.Exit(OK if answer["templates"] else NOTHING)
