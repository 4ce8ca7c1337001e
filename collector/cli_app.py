"""What all commands share: the application, the usual options, the place to ask, the way to answer.

Exit status: 0 it worked; 1 nothing was found, or not all of it worked; 2 the command line, a query or a
setting is wrong; 3 the collector, its directory or a process of the demo is not there.

Everything heavy is imported by the command that needs it, so that `backtrail --help` is quick.
"""

from __future__ import annotations

import contextlib
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
INTERRUPTED: Final = 130  # as a shell has it: 128 and the number of SIGINT

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
Environment = Annotated[str | None, typer.Option(help="Only of this deployment environment.")]
Version = Annotated[str | None, typer.Option(help="Only of this version of a service.")]
Query = Annotated[
    list[str] | None,
    typer.Argument(help='For instance: service:orders level:>=WARN "card declined" duration:>250ms'),
]


def place_of(url: str | None, data_dir: Path | None) -> Place:
    """The collector or the data directory that flags and environment name.

    Raises:
        UsageError: both flags are given.
    """
    from collector.cli_source import Place

    return Place(url=url, data_dir=data_dir)


@contextlib.contextmanager
def asking(url: str | None, data_dir: Path | None) -> Iterator[tuple[Place, Any]]:
    """Open the place to ask questions: `Answers` or a `CollectorClient`, which answer alike."""
    place = place_of(url, data_dir)
    with place.answers() as answers:
        yield place, answers


def screen() -> Screen:
    """Standard output as a place for people."""
    from collector.cli_text import Screen

    return Screen()


def give(answer: dict[str, Any], draw: Callable[..., Any], *, as_json: bool) -> None:
    """Show an answer drawn for people, or as it is for programs.

    Args:
        draw: takes the answer and `width=`, gives lines.
    """
    if as_json:
        import orjson

        sys.stdout.buffer.write(orjson.dumps(answer, option=orjson.OPT_INDENT_2) + b"\n")
        sys.stdout.buffer.flush()
        return
    shown = screen()
    shown.show(draw(answer, width=shown.width))


def complain(message: str) -> None:
    """Say on standard error what went wrong, or what was left out."""
    typer.echo(f"backtrail: {message}", err=True)


def complain_of_nothing(place: Place, query: str = "", *, hint: str = "") -> None:
    """Say that nothing was found, what may have been misspelt, and what has not been shipped from here."""
    from collector.cli_source import misspelt_fields
    from collector.cli_spools import waiting_hint

    hints = [hint.removeprefix("; "), *misspelt_fields(query), waiting_hint(place.url)]
    complain("; ".join([f"nothing found in {place.data_dir or place.url}", *filter(None, hints)]))
