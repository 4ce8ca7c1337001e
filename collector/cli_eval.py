"""`backtrail eval`: the diagnosis on recorded faults with known answers, and on healthy minutes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from collector.cli_app import OK, AsJson, app, give


@app.command("eval", short_help="Score the diagnosis on recorded faults with known answers.")
def evaluate(
    folder: Annotated[Path, typer.Argument(help="Recorded cases, labels.json and normal.ndjson.zst.")],
    baseline: Annotated[
        Path | None, typer.Option(metavar="FILE", help="What is normal, instead of normal.ndjson.zst.")
    ] = None,
    false_alarms: Annotated[
        bool, typer.Option("--false-alarms", help="Only the healthy minutes: who is accused in them?")
    ] = False,
    by_class: Annotated[bool, typer.Option("--class", help="The score by kind of fault, too.")] = False,
    inner: Annotated[bool, typer.Option("--inner", help="Which code regions were named, too.")] = False,
    calibration: Annotated[
        bool, typer.Option("--calibration", help="What confidence is worth, too.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Score the diagnosis on recorded faults with known answers; --json gives all of it at once.

    Exit status: 0, also with a low score; with --false-alarms 1 when there was one.
    """
    from collector import cli_score
    from collector.cli_source import UsageError
    from collector.diagnose.evaluate import evaluate as score
    from collector.diagnose.evaluate import false_alarms as alarms
    from collector.watch import read_baseline

    known = read_baseline(baseline) if baseline is not None else None
    if false_alarms:
        healthy = alarms(folder, baseline=known)
        give(healthy, cli_score.healthy_lines, as_json=as_json)
        raise typer.Exit(OK if not healthy["false_alarms"] else 1)
    if not (folder / "labels.json").is_file():
        raise UsageError(f"{folder}: no labels.json there; it names the right answer of each case")
    chosen = [
        lines
        for wanted, lines in (
            (by_class, cli_score.class_lines),
            (inner, cli_score.inner_lines),
            (calibration, cli_score.calibration_lines),
        )
        if wanted
    ]

    def draw(answer: dict[str, Any], width: int | None) -> Any:
        lines = cli_score.score_lines(answer, width=width)
        for more in chosen:
            lines += [Text(), *more(answer, width=width)]
        return lines

    give(score(folder, baseline=known), draw, as_json=as_json)
