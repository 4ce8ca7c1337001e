"""Writes rates and templates. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any, Final

from rich.text import Text

from collector.cli_tables import length_text, table_lines
from collector.cli_text import Palette, clean, grouped, level_style

JsonObject = dict[str, Any]

_BARS: Final = "▁▂▃▄▅▆▇█"


def rate_lines(answer: JsonObject, *, width: int | None = None) -> list[Text]:
    """One line a step, or a run of steps without anything; above them which day it is."""
    most = max((step["spans"] for step in answer["steps"]), default=0)
    rows = [
        [
            Text(when, style="dim"),
            Text(grouped(step["spans"])),
            Text(bars([step["spans"]], most), style="cyan"),
            Text(grouped(step["logs"])),
            Text(grouped(step["errors"]), style="bold red" if step["errors"] else "dim"),
            Text(length_text(step["duration_p50_ns"])),
            Text(length_text(step["duration_p95_ns"])),
        ]
        for when, step in _folded(answer["steps"])
    ]
    head = ["UTC", "spans", "", "logs", "errors", "median", "95 %"]
    minutes = answer["step_ns"] // 60_000_000_000
    title = f"{answer['start'][:10]}, steps of {minutes} min"
    return [Text(title, style="bold"), *table_lines(head, rows, right={1, 3, 4, 5, 6}, width=width)]


def template_lines(answer: JsonObject, *, width: int | None = None) -> list[Text]:
    """One line a template; the text comes last, so that a narrow terminal cuts what can be guessed."""
    palette = Palette(service for one in answer["templates"] for service in one["services"][:1])
    rows = [
        [
            Text(grouped(one["count"])),
            Text(bars(one["trend"], max(one["trend"])), style="cyan"),
            Text(one["level"], style=level_style(one["level"])),
            _services(one["services"], palette),
            Text(clean(one["text"])),
        ]
        for one in answer["templates"]
    ]
    return table_lines(["logs", "trend", "level", "service", "template"], rows, right={0}, width=width)


def _folded(steps: Sequence[JsonObject]) -> Iterator[tuple[str, JsonObject]]:
    """Each step with its time of day; of a run of steps without anything only the first, with both times."""
    for is_empty, run in groupby(steps, key=lambda step: not (step["spans"] or step["logs"])):
        same = list(run)
        times = [step["start"][11:16] for step in same]
        if is_empty and len(same) > 1:
            yield f"{times[0]}–{times[-1]}", same[0]
        else:
            yield from zip(times, same, strict=True)


def bars(counts: Sequence[int], most: int) -> str:
    """Counts as a line of bars; only nothing is blank."""
    return "".join(" " if not count else _BARS[(count * len(_BARS) - 1) // most] for count in counts)


def _services(services: Sequence[str], palette: Palette) -> Text:
    text = Text(clean(services[0]), style=palette.style(services[0]))
    if len(services) > 1:
        text.append(f" +{len(services) - 1}", style="dim")
    return text
