"""`backtrail serve` and `backtrail config`: flags, environment and file into settings, then the service."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.text import Text

from collector.cli_source import UsageError
from collector.cli_tables import table_lines
from collector.settings import Loaded, Settings, did_you_mean, load, without_password


def run_collector(flags: Mapping[str, Any], more: Sequence[str], *, config: Path | None) -> int:
    """Run the collector until it is told to stop.

    Args:
        flags: settings by field name; `None` for those not given.
        more: the options that the command line does not spell out: `--commit-interval-s 2`.
        config: a TOML file.
    Raises:
        UsageError: an option is not a setting, or has no value.
        ConfigurationError: a setting's value is wrong.
    """
    from collector.service import Collector

    given = {**flags, **more_flags(more)}
    loaded = load(given, config=config)
    for warning in loaded.warnings:
        sys.stderr.write(f"backtrail: warning: {warning}\n")
    Collector(loaded.settings, reload=lambda: load(given, config=config).settings).run()
    return 0


def settings_shown(loaded: Loaded) -> dict[str, Any]:
    """Every setting with its value, where that came from, and what it is for; secrets are not shown."""
    return {
        "settings": [
            {
                "name": name,
                "value": _shown(name, getattr(loaded.settings, name)),
                "from": loaded.sources[name],
                "meaning": field.description or "",
            }
            for name, field in type(loaded.settings).model_fields.items()
        ],
        "warnings": list(loaded.warnings),
    }


def settings_lines(answer: dict[str, Any], *, full: bool = False) -> list[Text]:
    """What `settings_shown` gives, as a table; `full`: also what each is for, in lines of any length."""
    rows = [
        [
            Text(setting["name"], style="" if setting["from"] == "default" else "bold"),
            Text("–" if setting["value"] is None else setting["value"]),
            Text(setting["from"], style="dim"),
            *([Text(setting["meaning"], style="dim")] * full),
        ]
        for setting in answer["settings"]
    ]
    warnings = [Text(f"⚠ {warning}", style="yellow") for warning in answer["warnings"]]
    head = ["setting", "value", "from", *(["meaning"] * full)]
    return [*table_lines(head, rows), *warnings]


def _shown(name: str, value: object) -> str | None:
    """Tokens hide themselves; the password in the store's URL would not."""
    if value is None:
        return None
    return without_password(str(value)) if name == "store" else str(value)


def more_flags(arguments: Sequence[str]) -> dict[str, str]:
    """Settings given as options, `--name value` or `--name=value`, by field name.

    Raises:
        UsageError: an option is not a setting, or has no value.
    """
    known = {f"--{name.replace('_', '-')}": name for name in Settings.model_fields}
    flags: dict[str, str] = {}
    rest = list(arguments)
    while rest:
        option, equals, value = rest.pop(0).partition("=")
        if option not in known:
            raise UsageError(f"{option}: no such option{did_you_mean(option, known)}")
        if not equals:
            if not rest:
                raise UsageError(f"{option}: a value must follow")
            value = rest.pop(0)
        flags[known[option]] = value
    return flags
