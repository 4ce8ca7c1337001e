"""Commands about causes: why, change, changes, findings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from collector.cli_app import (
    NOTHING,
    OK,
    AsJson,
    DataDir,
    End,
    Environment,
    Start,
    Url,
    Version,
    app,
    asking,
    complain,
    give,
    place_of,
)

Service = Annotated[str | None, typer.Option(help="Only of this service.")]
Limit = Annotated[int, typer.Option("--limit", "-n", help="How many, newest first.")]


@app.command(short_help="Name the root cause of a trace or a time range, with proof.")
def why(
    trace_id: Annotated[
        str | None, typer.Argument(metavar="[TRACE_ID]", help="A trace; or name a time range.")
    ] = None,
    start: Start = None,
    end: End = None,
    environment: Environment = None,
    version: Version = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Every cause, all evidence, and each signal's figures.")
    ] = False,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write it as one page, to be sent to somebody.")
    ] = None,
    baseline: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Measure by it; with --data-dir.")
    ] = None,
    url: Url = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Name the root cause of a trace, or of what went wrong in a time range, with proof.

    Exit status: 0 when a cause is named, 1 when nothing abnormal was found or data is lacking.
    """
    from collector.cli_verdict import verdict_lines

    _check_question(
        trace_id, {"--start": start, "--end": end, "--environment": environment, "--version": version}
    )
    place = place_of(url, data_dir)
    with place.answers(baseline=baseline) as answers:
        answer = answers.root_cause(
            trace_id,
            start=start,
            end=end,
            explain=explain or html is not None,
            environment=environment,
            version=version,
        )
        if html is not None:
            _write(html, _page(answer, answers))

    def draw(answer: dict[str, Any], width: int | None) -> Any:
        measure = str(baseline) if baseline is not None else None
        return verdict_lines(answer, width=width, explain=explain, where=place.options, baseline=measure)

    give(answer, draw, as_json=as_json)
    if html is not None:
        complain(f"the page is in {html}")
    raise typer.Exit(OK if answer["causes"] else NOTHING)


def _check_question(trace_id: str | None, options: dict[str, str | None]) -> None:
    """A trace or a time range, one of them; in the words of the command line, not in the API's."""
    from collector.cli_source import UsageError

    given = [name for name, value in options.items() if value is not None]
    if trace_id is not None and given:
        raise UsageError(f"TRACE_ID and {given[0]}: name one of them, not both")
    if trace_id is None and not {"--start", "--end"} & set(given):
        raise UsageError("name a trace, `why TRACE_ID`, or a time range, `why --start 15m`")


def _write(file: Path, text: str) -> None:
    from collector.cli_source import UsageError

    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"--html {file}: cannot be written: {error.strerror}; name another file") from None


def _page(verdict: dict[str, Any], answers: Any) -> str:
    """The page about a verdict, with the chain of the trace that it is about, or that shows it best."""
    from collector.diagnose.report import page
    from collector.errors import NotFound

    cited = [item["trace_id"] for cause in verdict["causes"][:1] for item in cause["evidence"]]
    trace_id = verdict["trace_id"] or next(filter(None, cited), None)
    try:
        trace = answers.trace(trace_id) if trace_id is not None else None
    except NotFound:
        trace = None  # deleted meanwhile: the verdict still has its evidence
    return page(verdict, trace)


@app.command(short_help="Tell that something was changed on purpose: a deploy, a setting, a flag.")
def change(
    kind: Annotated[str, typer.Argument(help="deployment, config, flag, infrastructure, or your own word.")],
    service: Annotated[str, typer.Argument(help="Whom it concerns; `*`: everybody.")],
    name: Annotated[str | None, typer.Option(help="What was changed.")] = None,
    old: Annotated[str | None, typer.Option(help="Value before.")] = None,
    new: Annotated[str | None, typer.Option(help="Value after.")] = None,
    at: Annotated[str | None, typer.Option(help="RFC 3339; telling it twice is then harmless.")] = None,
    message: Annotated[str | None, typer.Option(help="One sentence instead of one made of the rest.")] = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Tell a running collector that something was changed on purpose, now or --at a time.

    A root cause that shows soon after cites it. For instance in a pipeline:
    `backtrail change deployment orders --old 1.4.1 --new 1.4.2`.
    """
    client = place_of(url, None).client()
    answer = client.changes.record(kind, service, name=name, old=old, new=new, timestamp=at, message=message)
    give(answer, lambda given, width: [f"Recorded as {given['uid']}."], as_json=as_json)


@app.command(short_help="List what was changed on purpose.")
def changes(
    service: Service = None,
    kind: Annotated[str | None, typer.Option(help="Only of this kind.")] = None,
    start: Start = None,
    end: End = None,
    limit: Limit = 50,
    cursor: Annotated[str | None, typer.Option(help="Go on where the page before ended.")] = None,
    url: Url = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """List what was changed on purpose: deploys, settings, flags.

    Exit status: 0 when there is something, 1 when not.
    """
    from collector.cli_events import change_lines

    with asking(url, data_dir) as (_, answers):
        answer = answers.changes.list(
            service=service, kind=kind, start=start, end=end, limit=limit, cursor=cursor
        )
    give(answer, change_lines, as_json=as_json)
    _end(answer, answer["changes"], "no change told; `backtrail change` tells one")


@app.command(short_help="List what the watch has found not to be as usual.")
def findings(
    service: Service = None,
    state: Annotated[str | None, typer.Option(help="Only began, ended or usual.")] = None,
    start: Start = None,
    end: End = None,
    limit: Limit = 50,
    cursor: Annotated[str | None, typer.Option(help="Go on where the page before ended.")] = None,
    url: Url = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """List what the watch, which looks at every minute, has found not to be as usual.

    Exit status: 0 when there is something, 1 when not.
    """
    from collector.cli_events import finding_lines
    from collector.watch.kept import WARM_MINUTES, WARM_TRACES

    with asking(url, data_dir) as (_, answers):
        answer = answers.findings.list(
            service=service, state=state, start=start, end=end, limit=limit, cursor=cursor
        )
    give(answer, finding_lines, as_json=as_json)
    known = f"{WARM_MINUTES} minutes and {WARM_TRACES} traces"  # without them it is not `all is well`
    nothing = f"nothing unusual told; the watch tells nothing before it knows {known} that are usual"
    _end(answer, answer["findings"], nothing)


def _end(answer: dict[str, Any], events: list[Any], nothing: str) -> NoReturn:
    """End a command that listed events: say how to go on, or why there are none."""
    if answer["cursor"]:
        complain(f"there are more: --cursor {answer['cursor']}")
    elif not events:
        complain(nothing)
    raise typer.Exit(OK if events else NOTHING)
