"""Writes how a verdict was come by: what each signal saw, and the figures beside the healthy ones. Pure."""

from __future__ import annotations

from typing import Any, Final

from rich.text import Text

from collector.cli_tables import table_lines
from collector.cli_text import clean, duration, short_paths, wrapped

JsonObject = dict[str, Any]

NOTICED_SHOWN_MAX: Final = 5


def explanation_lines(explanation: JsonObject, *, width: int | None = None) -> list[Text]:
    """An explanation as the API gives it (`ExplanationObject`)."""
    lines = [Text("What each signal saw", style="bold")]
    by_rank = sorted(explanation["signals"], key=lambda item: item["rank"] or 1_000)
    rows = [
        [
            Text(item["signal"], style="" if item["found"] else "dim"),
            Text(str(item["rank"] or "–")),
            Text("–" if item["decades"] is None else f"{item['decades']:.1f}"),
            Text(short_paths(clean(item["said"])), style="" if item["found"] else "dim"),
        ]
        for item in by_rank
    ]
    lines += table_lines(["signal", "rank", "decades", ""], rows, right={1, 2}, width=width)
    for item in explanation["noticed"][:NOTICED_SHOWN_MAX]:
        head = Text(f"{item['rank']}. ", style="bold")
        lines += [Text(), *wrapped(short_paths(item["summary"]), width=width, indent=3, first=head)]
        if item["explained_by"]:
            lines += wrapped(
                f"spread from: {short_paths(item['explained_by'])}", width=width, indent=3, style="dim"
            )
        figures = [
            [
                Text(f"   {clean(figure['name'])}"),
                Text(quantity(figure["window"], figure["unit"])),
                Text(quantity(figure["baseline"], figure["unit"]), style="dim"),
            ]
            for figure in item["figures"]
        ]
        surprise = f"   {item['signal']}, {item['decades']:.1f} decades"
        lines += table_lines([surprise, "here", "healthy"], figures, right={1, 2}, width=width)
    return lines


def quantity(value: float | None, unit: str) -> str:
    """A figure as a person says it; a dash where there is none."""
    if value is None:
        return "–"
    if unit == "ns":
        return duration(round(value))
    if unit == "share":
        return f"{100 * value:.3g} %"
    return f"{value:.3g}" if unit == "each" else f"{value:.0f}"
