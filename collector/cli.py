"""The collector's commands. Each reads its arguments, calls what does the work, and shows the result.

Exit status: 0 it worked; 1 nothing was found, or not all of it worked; 2 the command line, a query or a
setting is wrong; 3 the collector, its directory or a process of the demo is not there.

Everything heavy is imported by the command that needs it, so that `backtrail --help` is quick.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

if TYPE_CHECKING:
    from collector.cli_source import Place
    from collector.cli_text import Screen

OK: Final = 0
NOTHING: Final = 1
USAGE: Final = 2
NOT_THERE: Final = 3

app = typer.Typer(
    name="backtrail",
    help="Distributed tracing by log context: find the trace, read the chain, name the cause.",
    epilog=(
        "Exit status: 0 it worked; 1 nothing was found, or not all of it worked; 2 the command line, a query"
        " or a setting is wrong; 3 the collector or its directory is not there."
    ),
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)

config_app = typer.Typer(help="The collector's settings.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(config_app, name="config")

Url = Annotated[
    str | None,
    typer.Option(help="A running collector.  [env: BACKTRAIL_URL; default: http://127.0.0.1:4318]"),
]
DataDir = Annotated[
    Path | None,
    typer.Option(help="A data directory, without a running collector.  [env: BACKTRAIL_DATA_DIR]"),
]
AsJson = Annotated[bool, typer.Option("--json", help="The answer as the API gives it.")]
Start = Annotated[str | None, typer.Option(help="From then on: `15m` ago, `yesterday 14:00`, or RFC 3339.")]
End = Annotated[str | None, typer.Option(help="Until then, not included.")]


def _fault_names() -> list[str]:
    from collector.demo.faults import FAULTS

    return list(FAULTS)


# ---------------------------------------------------------------- running things

# `run` and `agent` are the library's and work without the collector; here they are for the list of commands.
_PASS_ON: Final = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


@app.command(context_settings=_PASS_ON, short_help="Trace a Python program without touching its code.")
def run(context: typer.Context) -> None:
    """Trace a Python program without touching its code: `backtrail run -- python app.py`."""
    from tracing import launch

    raise typer.Exit(launch.run(context.args))


@app.command(context_settings=_PASS_ON)
def agent(context: typer.Context) -> None:
    """Ship what the programs of this machine have logged."""
    from tracing import agent as shipping_agent

    raise typer.Exit(shipping_agent.main(context.args))


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def serve(
    context: typer.Context,
    host: Annotated[str | None, typer.Option(help="Address to listen on.  [default: 127.0.0.1]")] = None,
    port: Annotated[int | None, typer.Option(help="HTTP port; 0 picks a free one.  [default: 4318]")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Where everything is kept.")] = None,
    config: Annotated[Path | None, typer.Option(help="TOML file with settings.")] = None,
) -> None:
    """Run the collector. Every other setting is an option too: `--retention-days 14`."""
    from collector.cli_serve import run_collector

    flags = {"host": host, "port": port, "data_dir": data_dir}
    raise typer.Exit(run_collector(flags, context.args, config=config))


@config_app.command("check")
def check_config(
    config_file: Annotated[
        Path | None, typer.Option("--config", help="TOML file, as `serve` takes it.")
    ] = None,
) -> None:
    """Check the collector's settings, and show each with where it came from."""
    from collector.cli_serve import settings_lines
    from collector.settings import load

    loaded = load(config=config_file)
    _screen().show(settings_lines(loaded))
    raise typer.Exit(NOTHING if loaded.warnings else OK)


@app.command(short_help="Look at disk, clock, port, versions and permissions here.")
def check(url: Url = None) -> None:
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
    screen = _screen()
    screen.show(check_lines(findings, width=screen.width))
    raise typer.Exit(OK if all(finding.state == "good" for finding in findings) else NOTHING)


@app.command(short_help="Break a small shop of real processes and see the cause named.")
def demo(
    fault: Annotated[str, typer.Option(help="What to break.", autocompletion=_fault_names)] = "exception",
    keep: Annotated[bool, typer.Option("--keep", help="Stay up for exploring, until Ctrl-C.")] = False,
    as_json: AsJson = False,
    seed: Annotated[int, typer.Option(help="Of the customers' orders.")] = 1,
) -> None:
    """Run a small shop of real processes, break it, and see the cause named.

    Exit status: 0 when the verdict names the service and place that were broken, 1 when it does not.
    """
    from collector.cli_demo import show_demo

    raise typer.Exit(show_demo(fault, keep=keep, as_json=as_json, seed=seed))


# ---------------------------------------------------------------- asking things


@app.command()
def search(
    query: Annotated[
        list[str] | None,
        typer.Argument(help='For instance: service:orders level:>=WARN "card declined" duration:>250ms'),
    ] = None,
    start: Start = None,
    end: End = None,
    traces: Annotated[bool, typer.Option("--traces", help="List the traces instead of the records.")] = False,
    limit: Annotated[int, typer.Option("--limit", "-n", help="How many, newest first.")] = 50,
    cursor: Annotated[str | None, typer.Option(help="Go on where the page before ended.")] = None,
    url: Url = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Find log records and spans, or with --traces whole traces."""
    text = " ".join(query or [])
    with _asking(url, data_dir) as (place, answers):
        if traces:
            answer = answers.traces(text, start=start, end=end, limit=limit)
            found = answer["traces"]
        else:
            answer = answers.logs(text, start=start, end=end, limit=limit, cursor=cursor, total=True)
            found = answer["records"]
        from collector import cli_tables

        _give(answer, cli_tables.trace_list_lines if traces else cli_tables.record_lines, as_json=as_json)
        if not as_json:
            _say_how_much(answer, found, place)
    raise typer.Exit(OK if found else NOTHING)


@app.command(short_help="Show the newest records, and with -f every new one.")
def tail(
    query: Annotated[list[str] | None, typer.Argument(help="As for search; empty: everything.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C.")] = False,
    limit: Annotated[int, typer.Option("--limit", "-n", help="How many of those that are there.")] = 10,
    url: Url = None,
    data_dir: DataDir = None,
    as_json: Annotated[bool, typer.Option("--json", help="One record a line.")] = False,
) -> None:
    """Show the newest records that match, and with --follow every new one until Ctrl-C."""
    from collector.cli_tail import show_tail

    with _place(url, data_dir) as place:
        status = show_tail(
            place, " ".join(query or []), limit=limit, follow=follow, as_json=as_json, screen=_screen()
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

    with _asking(url, data_dir) as (_, answers):
        answer = answers.trace(trace_id)
        _give(answer, lambda given, width: chain_lines(given, width=width, full=full), as_json=as_json)


@app.command(short_help="Name the root cause of a trace or a time range, with proof.")
def why(
    trace_id: Annotated[
        str | None, typer.Argument(metavar="[TRACE_ID]", help="A trace; or name a time range.")
    ] = None,
    start: Start = None,
    end: End = None,
    explain: Annotated[bool, typer.Option("--explain", help="Every cause and all of its evidence.")] = False,
    url: Url = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Name the root cause of a trace, or of what went wrong in a time range, with proof.

    Exit status: 0 when a cause is named, 1 when nothing abnormal was found or data is lacking.
    """
    from collector.cli_verdict import verdict_lines

    with _asking(url, data_dir) as (place, answers):
        answer = answers.root_cause(trace_id, start=start, end=end)
        _give(
            answer,
            lambda given, width: verdict_lines(given, width=width, explain=explain, where=place.options),
            as_json=as_json,
        )
    raise typer.Exit(OK if answer["causes"] else NOTHING)


@app.command()
def services(
    start: Start = None, end: End = None, url: Url = None, data_dir: DataDir = None, as_json: AsJson = False
) -> None:
    """List the services with their counts, errors and usual durations."""
    from collector.cli_tables import service_lines

    with _asking(url, data_dir) as (_, answers):
        answer = answers.services(start=start, end=end)
        _give(answer, service_lines, as_json=as_json)
    raise typer.Exit(OK if answer["services"] else NOTHING)


@app.command()
def stats(url: Url = None, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Show how much is stored."""
    from collector.cli_tables import stats_lines

    with _asking(url, data_dir) as (_, answers):
        _give(answers.stats(), stats_lines, as_json=as_json)


# ---------------------------------------------------------------- files


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

    with _place(url, data_dir) as place:
        raise typer.Exit(import_and_report(place, files, as_json=as_json))


@app.command("eval")
def evaluate(
    folder: Annotated[Path, typer.Argument(help="Recorded cases, labels.json and normal.ndjson.zst.")],
    as_json: AsJson = False,
) -> None:
    """Score the diagnosis on recorded faults with known answers."""
    from collector.cli_tables import score_lines
    from collector.diagnose.evaluate import evaluate as score

    if not (folder / "labels.json").is_file():
        raise _wrong(f"{folder}: no labels.json there; it names the right answer of each case")
    _give(score(folder), score_lines, as_json=as_json)


# ---------------------------------------------------------------- the edge


def main(argv: list[str] | None = None) -> int:
    """Run one command; the console script calls this with what follows `backtrail`.

    Returns:
        The exit status, as the module says.
    """
    from collector.errors import CollectorError

    try:
        _command()(args=argv, prog_name="backtrail")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else OK if end.code is None else NOTHING
    except KeyboardInterrupt:
        return 130
    except (CollectorError, OSError) as error:
        _complain(f"{error}")
        return _status_of(error)
    return OK


def _command() -> Callable[..., Any]:
    command: Callable[..., Any] = typer.main.get_command(app)
    return command


def _status_of(error: Exception) -> int:
    from collector import errors
    from collector.cli_source import UsageError

    if isinstance(error, errors.NotFound):
        return NOTHING
    if isinstance(error, errors.QueryError | errors.ConfigurationError | UsageError):
        return USAGE
    return NOT_THERE


def _complain(message: str) -> None:
    typer.echo(f"backtrail: {message}", err=True)


def _wrong(message: str) -> Exception:
    from collector.cli_source import UsageError

    return UsageError(message)


@contextlib.contextmanager
def _place(url: str | None, data_dir: Path | None) -> Iterator[Place]:
    from collector.cli_source import Place

    yield Place(url=url, data_dir=data_dir)


@contextlib.contextmanager
def _asking(url: str | None, data_dir: Path | None) -> Iterator[tuple[Place, Any]]:
    with _place(url, data_dir) as place, place.answers() as answers:
        yield place, answers


def _screen() -> Screen:
    from collector.cli_text import Screen

    return Screen()


def _give(answer: dict[str, Any], draw: Callable[..., Any], *, as_json: bool) -> None:
    """Show an answer drawn for people, or as it is for programs."""
    if as_json:
        import orjson

        sys.stdout.buffer.write(orjson.dumps(answer, option=orjson.OPT_INDENT_2) + b"\n")
        sys.stdout.buffer.flush()
        return
    screen = _screen()
    screen.show(draw(answer, width=screen.width))


def _say_how_much(answer: dict[str, Any], found: list[Any], place: Place) -> None:
    """Nothing is cut in silence: say how many there are beside those that were shown."""
    total, cursor = answer.get("total"), answer.get("cursor")
    if not found:
        _complain(f"nothing found in {place.data_dir or place.url}")
    elif total is not None and cursor:
        _complain(f"the newest {len(found)} of {total}; the next ones: --cursor {cursor}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
