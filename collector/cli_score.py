"""Writes how well the diagnosis does on recorded faults, in tables. Pure."""

from __future__ import annotations

from typing import Any, Final

from rich.text import Text

from collector.cli_tables import table_lines
from collector.cli_text import clean, count

JsonObject = dict[str, Any]

MISSES_SHOWN_MAX: Final = 20
RANKS: Final = (1, 3, 5)


def percent(share: float | None) -> str:
    """`93.3 %`; a dash where there is nothing to take a share of."""
    return "–" if share is None else f"{100 * share:.1f} %"


def score_lines(score: JsonObject, *, width: int | None = None) -> list[Text]:
    """How often the right service came first, and which cases went wrong."""
    lines = [
        Text.assemble((f"as@{k}  ", "bold"), percent(score[f"as@{k}"]))
        for k in RANKS
        if score.get(f"as@{k}") is not None
    ]
    if score.get("inner") is not None:
        lines.append(Text.assemble(("inner ", "bold"), percent(score["inner"])))
    lines.append(Text(f"{count(score['cases'], 'case')} in {score['seconds']:.1f} s"))
    if score.get("false_alarms") is not None:
        lines.append(Text(count(score["false_alarms"], "false alarm")))
    missed = [case for case in score["per_case"] if case.get("service") and case.get("rank") != 1]
    if missed:
        lines += [Text(), Text("Not in first place", style="bold")]
        rows = [
            [
                Text(str(case["case"])),
                Text(str(case["service"])),
                Text("–" if case["rank"] is None else str(case["rank"])),
                Text(", ".join(case["ranking"][:5]), style="dim"),
            ]
            for case in missed[:MISSES_SHOWN_MAX]
        ]
        lines += table_lines(["case", "right", "rank", "ranking"], rows, right={2}, width=width)
        if len(missed) > MISSES_SHOWN_MAX:
            lines.append(Text(f"and {len(missed) - MISSES_SHOWN_MAX} more: --json", style="dim"))
    return lines


def class_lines(score: JsonObject, *, width: int | None = None) -> list[Text]:
    """The score by kind of fault."""
    rows = [
        [
            Text(clean(name)),
            Text(str(row["cases"])),
            *(Text(percent(row[f"as@{k}"])) for k in RANKS),
            Text(percent(row["inner"])),
        ]
        for name, row in score["by_class"].items()
    ]
    head = ["class", "cases", *(f"as@{k}" for k in RANKS), "inner"]
    return table_lines(head, rows, right={1, 2, 3, 4, 5}, width=width)


def inner_lines(score: JsonObject, *, width: int | None = None) -> list[Text]:
    """Of each code fault, whether the first cause cites the region, and what it cites."""
    rows = [
        [
            Text(clean(str(case["case"]))),
            Text("hit" if case["inner"] else "miss", style="green" if case["inner"] else "red"),
            Text(clean(" or ".join(case["region"]))),
            Text(clean(case["cited"] or "nothing"), style="dim"),
        ]
        for case in score["per_case"]
        if case["inner"] is not None
    ]
    return table_lines(["case", "region", "it lies at", "the first cause cites"], rows, width=width)


def calibration_lines(score: JsonObject, *, width: int | None = None) -> list[Text]:
    """What confidence is worth: how often causes of such confidence are right."""
    rows = [
        [
            Text(f"{row['from']:.2f} – {row['to']:.2f}"),
            Text(str(row["cases"])),
            Text(percent(row["confidence"])),
            Text(percent(row["right"])),
        ]
        for row in score["calibration"]
    ]
    return table_lines(["confidence", "cases", "said", "right"], rows, right={1, 2, 3}, width=width)


def healthy_lines(healthy: JsonObject, *, width: int | None = None) -> list[Text]:
    """How many healthy stretches of time raised an alarm, and which."""
    alarms, windows = healthy["false_alarms"], healthy["windows"]
    lines = [Text(f"{count(alarms, 'false alarm')} in {count(windows, 'healthy window')}")]
    for number, summaries in enumerate(healthy["named"], start=1):
        lines += [Text(f"  {number}. {clean(summary)}", style="red") for summary in summaries]
    return lines
