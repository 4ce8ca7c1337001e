"""`backtrail`: the collector's commands, gathered, and the edge where errors become exit statuses."""

from __future__ import annotations

import sys

import typer

# Each of these adds its commands to the application.
from collector import (
    cli_ask,
    cli_backup,
    cli_baseline,
    cli_cause,
    cli_contexts,
    cli_dashboards,
    cli_dead_letters,
    cli_elastic,
    cli_eval,
    cli_operate,
    cli_start,
    cli_tokens,
    cli_trends,
)
from collector.cli_app import INTERRUPTED, NOT_THERE, NOTHING, OK, USAGE, app, complain

__all__ = [
    "NOTHING",
    "NOT_THERE",
    "OK",
    "USAGE",
    "app",
    "cli_ask",
    "cli_backup",
    "cli_baseline",
    "cli_cause",
    "cli_contexts",
    "cli_dashboards",
    "cli_dead_letters",
    "cli_elastic",
    "cli_eval",
    "cli_operate",
    "cli_start",
    "cli_tokens",
    "cli_trends",
    "main",
]


def main(argv: list[str] | None = None) -> int:
    """Run one command; the console script calls this with what follows `backtrail`.

    Returns:
        The exit status, as `collector.cli_app` says.
    """
    from collector.errors import CollectorError

    try:
        typer.main.get_command(app)(args=argv, prog_name="backtrail")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else OK if end.code is None else NOTHING
    except KeyboardInterrupt:
        return INTERRUPTED
    except (CollectorError, OSError) as error:
        complain(_told(error))
        return _status_of(error)
    return OK


def _told(error: Exception) -> str:
    """What went wrong, and where in a search it did."""
    position = getattr(error, "position", None)
    return str(error) if position is None else f"{error} (at character {position + 1})"


def _status_of(error: Exception) -> int:
    from collector import errors
    from collector.cli_source import UsageError

    if isinstance(error, errors.NotFound):
        return NOTHING
    if isinstance(error, errors.QueryError | errors.ConfigurationError | UsageError):
        return USAGE
    return NOT_THERE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
