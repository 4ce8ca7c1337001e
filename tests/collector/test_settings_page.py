"""`docs/settings.md` says what can be set, and is made from the settings themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ByteSize
from pydantic_core import PydanticUndefined

from collector.settings import ENV_PREFIX, Settings

PAGE = Path(__file__).resolve().parents[2] / "docs" / "settings.md"


def page() -> str:
    """What the page should hold; running this file writes it."""
    rows = [
        f"| `{name}` | `{ENV_PREFIX}{name.upper()}` | {default(name)} | {field.description} |"
        for name, field in Settings.model_fields.items()
    ]
    return "\n".join(
        [
            "# Settings of the collector",
            "",
            "One precedence, highest first: flags of `backtrail serve` (`--port 4318`), environment,",
            "file (TOML, keys as in the first column; `--config`, `BACKTRAIL_CONFIG`, or the first of",
            "`~/.config/backtrail/collector.toml` and `/etc/backtrail/collector.toml`), defaults. Sizes take",
            "units, durations are in seconds. `backtrail config check` shows each value and its source.",
            "SIGHUP reads the tokens, `allowed_hosts`, `log_level` and `log_format` again. What is",
            "in the file of tokens and the certificates counts once it changes ([security.md](security.md)).",
            "",
            "| name | variable | default | meaning |",
            "|---|---|---|---|",
            *rows,
            "",
        ]
    )


def default(name: str) -> str:
    """The default as a person would write it."""
    value: Any = Settings.model_fields[name].default
    if name == "data_dir":
        return "`~/.local/state/backtrail/collector`"
    assert value is not PydanticUndefined
    if value is None or value == ():
        return "–"
    return f"`{value.human_readable() if isinstance(value, ByteSize) else value}`"


def test_the_page_is_up_to_date() -> None:
    """Every setting, with its variable, its default and its meaning."""
    assert PAGE.read_text() == page()
    assert all(field.description for field in Settings.model_fields.values())


if __name__ == "__main__":
    PAGE.write_text(page())
