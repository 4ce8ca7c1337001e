"""Commands for who runs a collector: import, export, delete, check, canary."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
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
    give,
    place_of,
    screen,
)


@app.command("import", short_help="Import record lines or recorded faults, once.")
def import_files(
    files: Annotated[list[str], typer.Argument(help="NDJSON, plain, gzip or zstd; `-` is standard input.")],
    url: Url = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Import record lines or recorded faults; importing twice changes nothing.

    Exit status: 0 when every line was taken in, 1 when some could not be: they are counted by reason.
    """
    from collector.cli_import import import_and_report

    raise typer.Exit(import_and_report(place_of(url, data_dir), files, as_json=as_json))


def _format_names() -> list[str]:
    from collector.api.exports import FORMATS

    return [*FORMATS, "chrome-trace"]


@app.command(short_help="Write records or a chain in a format for other tools.")
def export(
    query: Query = None,
    format: Annotated[
        str,
        typer.Option(
            help="ndjson, csv, otlp-json, or chrome-trace with --trace-id.", autocompletion=_format_names
        ),
    ] = "ndjson",
    trace_id: Annotated[str | None, typer.Option(help="Only this trace.")] = None,
    environment: Environment = None,
    version: Version = None,
    start: Start = None,
    end: End = None,
    limit: Annotated[int | None, typer.Option("--limit", "-n", help="How many, newest first.")] = None,
    url: Url = None,
    data_dir: DataDir = None,
) -> None:
    """Write records to standard output: all of them, or what matches.

    `chrome-trace` is one call chain for Perfetto and chrome://tracing.
    """
    from collector.cli_source import UsageError

    with asking(url, data_dir) as (_, answers):
        if format == "chrome-trace":
            if trace_id is None:
                raise UsageError("--format chrome-trace: name the trace with --trace-id")
            pieces = answers.export_trace(trace_id)
        else:
            pieces = answers.export(
                format,
                q=" ".join(query or []),
                start=start,
                end=end,
                trace_id=trace_id,
                environment=environment,
                version=version,
                limit=limit,
            )
        for piece in pieces:
            sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()


@app.command(short_help="Delete what matches, at once and for good.")
def delete(
    query: Query = None,
    trace_id: Annotated[str | None, typer.Option(help="This trace.")] = None,
    environment: Environment = None,
    version: Version = None,
    start: Start = None,
    end: End = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    url: Url = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Delete every record that matches, at once and for good.

    A running collector wants its admin token, in BACKTRAIL_ADMIN_TOKEN. Exit status: 0 when something was
    deleted, 1 when nothing matched or the question was answered with no.
    """
    from collector.cli_text import count

    text = " ".join(query or [])
    asked: dict[str, str | None] = {
        "start": start,
        "end": end,
        "trace_id": trace_id,
        "environment": environment,
        "version": version,
    }
    place = place_of(url, data_dir)
    if not yes:
        with place.answers() as answers:
            page = answers.logs(text, limit=1, total=True, **asked)
        if not typer.confirm(f"Delete {count(page['total'], 'record')} from {place.data_dir or place.url}?"):
            raise typer.Exit(NOTHING)
    with place.writer() as target:
        answer = target.delete(text, **asked)
    give(answer, lambda given, width: [f"{count(given['deleted'], 'record')} deleted."], as_json=as_json)
    raise typer.Exit(OK if answer["deleted"] else NOTHING)


@app.command(short_help="Look at disk, clock, port, versions and permissions here.")
def check(url: Url = None, as_json: AsJson = False) -> None:
    """Look at what on this machine would keep the collector or a traced program from working.

    Exit status: 0 when all is well, 1 when something is not.
    """
    from collector.cli_check import check_lines, check_machine
    from collector.settings import load
    from tracing.settings import Settings

    program = Settings.from_env(os.environ)
    findings = check_machine(
        load().settings,
        url=url or os.environ.get("BACKTRAIL_URL") or program.collector_url,
        spool_dir=program.spool_dir,
    )
    answer = {"findings": [asdict(finding) for finding in findings]}
    give(answer, lambda _, width: check_lines(findings, width=width), as_json=as_json)
    raise typer.Exit(OK if all(finding.state == "good" for finding in findings) else NOTHING)


@app.command(short_help="Write known records and read them back.")
def canary(
    rounds: Annotated[int | None, typer.Option(help="Stop after so many.  [default: go on for ever]")] = None,
    interval_s: Annotated[float, typer.Option(help="Seconds between two rounds.")] = 10.0,
    url: Url = None,
    as_json: Annotated[bool, typer.Option("--json", help="One round a line.")] = False,
) -> None:
    """Write known records into a running collector, read them back, and say when one is missing.

    Exit status: 0 when every round went well, 1 when one did not.
    """
    from collector.cli_canary import sing

    place = place_of(url, None)
    raise typer.Exit(sing(place, rounds=rounds, interval_s=interval_s, as_json=as_json, screen=screen()))
