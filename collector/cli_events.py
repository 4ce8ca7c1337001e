"""Writes changes and findings for people. Pure."""

from __future__ import annotations

from typing import Any

from rich.text import Text

from collector.cli_tables import table_lines
from collector.cli_text import clean, wrapped
from collector.cli_verdict import confidence_words

JsonObject = dict[str, Any]


def change_lines(answer: JsonObject, *, width: int | None = None) -> list[Text]:
    """A line a change."""
    rows = [
        [
            Text(change["timestamp"][:19].replace("T", " "), style="dim"),
            Text(clean(change["service"] or "everybody")),
            Text(clean(change["kind"])),
            Text(clean(change["message"])),
        ]
        for change in answer["changes"]
    ]
    return table_lines(["UTC", "service", "kind", "what"], rows, width=width)


def finding_lines(answer: JsonObject, *, width: int | None = None) -> list[Text]:
    """A finding a paragraph: when, where, what, and where to go on."""
    lines: list[Text] = []
    for finding in answer["findings"]:
        is_bad = finding["state"] == "began"
        head = Text.assemble(
            (f"{finding['timestamp'][:16].replace('T', ' ')}  ", "dim"),
            (f"{finding['state']:<6}", "bold red" if is_bad else "green"),
            (f"{clean(finding['service'])}  ", "bold"),
        )
        lines += wrapped(finding["summary"], width=width, indent=26, first=head)
        if is_bad:
            said = [confidence_words(finding["confidence"]), finding["fault"], *finding["entries"][:2]]
            lines += wrapped("  ·  ".join(said), width=width, indent=26, style="dim")
            for trace_id in finding["traces"][:1]:
                lines.append(Text(f"{'':<26}backtrail why {trace_id}", style="dim"))
    return lines
