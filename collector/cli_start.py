"""Commands that start something: programs, agent, collector, demo."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from collector.cli_app import NOTHING, OK, AsJson, app, give

config_app = typer.Typer(help="The collector's settings.", no_args_is_help=True, rich_markup_mode=None)

# `run`, `agent` and `doctor` are the library's and work without the collector; here for the list of commands.
_PASS_ON: Final = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


def _fault_names() -> list[str]:
    from collector.demo.faults import FAULTS

    return list(FAULTS)


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


@app.command(
    context_settings=_PASS_ON, short_help="Say hop by hop whether the context is kept in this environment."
)
def doctor(context: typer.Context) -> None:
    """Say hop by hop whether the context is kept, with this interpreter and what is installed for it."""
    from tracing.doctor import command

    raise typer.Exit(command.main(context.args))


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    short_help="Run the collector.",
)
def serve(
    context: typer.Context,
    host: Annotated[str | None, typer.Option(help="Address to listen on.  [default: 127.0.0.1]")] = None,
    port: Annotated[int | None, typer.Option(help="HTTP port; 0 picks a free one.  [default: 4318]")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Where everything is kept.")] = None,
    config: Annotated[Path | None, typer.Option(help="TOML file with settings.")] = None,
) -> None:
    """Run the collector. Every other setting is an option too, for instance `--retention-days 14`.

    `backtrail config check --full` lists and explains them all.
    """
    from collector.cli_serve import run_collector

    flags = {"host": host, "port": port, "data_dir": data_dir}
    raise typer.Exit(run_collector(flags, context.args, config=config))


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


@config_app.command("check")
def check_config(
    config_file: Annotated[
        Path | None, typer.Option("--config", help="TOML file, as `serve` takes it.")
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="With what each setting is for.")] = False,
    as_json: AsJson = False,
) -> None:
    """Check the collector's settings, and show each with where it came from.

    Exit status: 0 when all is well, 1 when a name is not a setting, 2 when a value is wrong.
    """
    from collector.cli_serve import settings_lines, settings_shown
    from collector.settings import load

    loaded = load(config=config_file)
    give(settings_shown(loaded), lambda answer, width: settings_lines(answer, full=full), as_json=as_json)
    raise typer.Exit(NOTHING if loaded.warnings else OK)


app.add_typer(config_app, name="config")
