"""`backtrail context-losses`: where a running system loses the context."""

from __future__ import annotations

from typing import Annotated

import typer

from collector.cli_app import NOTHING, OK, AsJson, DataDir, End, Start, Url, app, asking, complain, give


@app.command("context-losses", short_help="Say where a running system loses the context.")
def context_losses(
    service: Annotated[
        str | None, typer.Option(help="Only places in this service, or whose probable parent is in it.")
    ] = None,
    start: Start = None,
    end: End = None,
    url: Url = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Say where a running system loses the context: spans that begin traces of their own, log lines
    without ids, parents that never came; with what they probably belong to and what to change.

    By default of the last hour, measured by the time before. `backtrail doctor` tries the hops of one
    environment instead. Exit status: 0 nothing is lost, 1 something is.
    """
    from collector.cli_context_lines import loss_lines

    with asking(url, data_dir) as (_, answers):
        answer = answers.context_losses(start=start, end=end, service=service)
    give(answer, loss_lines, as_json=as_json)
    if not answer["is_whole"]:
        complain("there is more than was looked at; a shorter time shows the rest")
    raise typer.Exit(NOTHING if answer["losses"] else OK)
