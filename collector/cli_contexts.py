"""`backtrail context-losses`: where a running system loses the context, for people."""

from __future__ import annotations

from typing import Annotated, Any, Final

import typer
from rich.text import Text

from collector.cli_app import NOTHING, OK, AsJson, DataDir, End, Start, Url, app, asking, complain, give
from collector.cli_text import clean, wrapped
from collector.cli_verdict import confidence_words

JsonObject = dict[str, Any]

_INDENT: Final = 4


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
    with asking(url, data_dir) as (_, answers):
        answer = answers.context_losses(start=start, end=end, service=service)
    give(answer, loss_lines, as_json=as_json)
    if not answer["is_whole"]:
        complain("there is more than was looked at; a shorter time shows the rest")
    raise typer.Exit(NOTHING if answer["losses"] else OK)


def loss_lines(answer: JsonObject, *, width: int | None = None) -> list[Text]:
    """A loss a paragraph: how often and where, why that is thought, what to change, where to look."""
    if not answer["losses"]:
        looked = f"{answer['traces']} traces, {answer['loose_lines']} lines outside any"
        return wrapped(f"No lost context found in {looked}.", width=width, indent=0)
    lines: list[Text] = []
    for loss in answer["losses"]:
        mark = Text("✗ ", style="bold red")
        lines += wrapped(clean(loss["summary"]), width=width, indent=2, first=mark)
        how = clean(loss["parent"]["how"])
        said = [confidence_words(loss["confidence"]), f"lost on the way: {_HOPS[loss['hop']]}", how]
        lines += wrapped("  ·  ".join(said), width=width, indent=_INDENT, style="dim")
        lines += wrapped(f"→ {clean(loss['advice'])}", width=width, indent=_INDENT)
        lines += [Text(f"{'':<{_INDENT}}{text}", style="dim") for text in _go_on(loss)]
    return lines


_HOPS: Final = {
    "http": "an HTTP request",
    "rpc": "a remote call",
    "message": "a message",
    "process": "inside the process",
}


def _go_on(loss: JsonObject) -> list[str]:
    example, parent = loss["examples"][0], loss["parent"]
    found = []
    if example["trace_id"] is not None:
        found.append(f"backtrail trace {example['trace_id']}")
    else:
        found.append(f"“{clean(example['quote'])}” at {example['timestamp'][:19]}Z")
    if parent["trace_id"] is not None:
        found.append(f"backtrail trace {parent['trace_id']}   (what it probably belongs to)")
    return found
