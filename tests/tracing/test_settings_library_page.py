"""`docs/settings-library.md` says how a program is traced, and is made from the settings themselves."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from tracing import settings
from tracing.settings import EXPORTERS, PREFIX, SAMPLERS, Settings

PAGE: Final = Path(__file__).resolve().parents[2] / "docs" / "settings-library.md"

HEAD: Final = f"""# Settings of the library

Arguments of `tracing.configure(…)` count most, then `{PREFIX}…` variables, then OpenTelemetry's own, then the
defaults. They are read once. A malformed value of ours stops `configure()` with an error, and `backtrail run`
before the program starts (exit status 2); an unknown name is one warning with the name that was probably
meant. A malformed value of OpenTelemetry's variables, which may have been set for somebody else, is one
warning, and the default stands. Lists are separated by commas, durations are in seconds, sizes in bytes.

`exporter` is one of {", ".join(f"`{name}`" for name in EXPORTERS)}; `sampler` one of
{", ".join(f"`{name}`" for name in SAMPLERS)}.
`OTEL_SPAN_…_LIMIT` and `OTEL_ATTRIBUTE_…_LIMIT` are read as OpenTelemetry's SDK reads them.

| name | variable | or OpenTelemetry's | default | meaning |
|---|---|---|---|---|
"""


def meanings() -> dict[str, str]:
    """What the comments in the class say, by field: behind it, or on the line above."""
    found: dict[str, str] = {}
    above = ""
    for line in inspect.getsource(Settings).splitlines():
        field = re.fullmatch(r"    (\w+): [^#]*?(?:  # (.*))?", line)
        if field is not None:
            found[field[1]] = field[2] or above
        above = line.strip().removeprefix("# ").rstrip(".") if line.strip().startswith("#") else ""
        if line.strip().startswith("def "):
            break
    named = {"EXPORTERS": "those above", "SAMPLERS": "those above"}
    return {
        name: re.sub("|".join(named), lambda match: named[match[0]], text)
        for name, text in found.items()
        if name in Settings.__dataclass_fields__
    }


def theirs() -> dict[str, str]:
    """OpenTelemetry's variables, by field."""
    found: dict[str, list[str]] = {}
    for variable, (name, _) in settings._OPENTELEMETRY.items():
        found.setdefault(name, []).append(f"`{variable}`")
    return {name: ", ".join(variables) for name, variables in found.items()}


def default(name: str) -> str:
    """The default as a person would write it in a variable."""
    if name == "spool_dir":
        return "`~/.local/state/backtrail/spool`"
    value: Any = getattr(Settings(), name)
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if value is None or value == () or isinstance(value, Mapping):
        return "–"
    return f"`{','.join(value)}`" if isinstance(value, tuple) else f"`{value}`"


def page() -> str:
    """What the page should hold; running this file writes it."""
    others, said = theirs(), meanings()
    rows = [
        f"| `{name}` | `{PREFIX}{name.upper()}` | {others.get(name, '–')} | {default(name)} | {said[name]} |"
        for name in Settings.__dataclass_fields__
    ]
    return HEAD + "\n".join(rows) + "\n"


def test_the_page_is_up_to_date() -> None:
    """Every setting, with its variables, its default and its meaning."""
    assert PAGE.read_text() == page()
    assert all(meanings().values())


if __name__ == "__main__":
    PAGE.write_text(page())
