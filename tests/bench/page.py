"""`python -m tests.bench.page`: docs/performance.md from what the benches have saved under bench-results.

The page holds what was measured, also where a bound is missed; nobody writes into it by hand.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from tests.bench.harness import REPOSITORY, RESULTS, label

PAGE: Final = REPOSITORY / "docs" / "performance.md"
HEAD: Final = """# Performance, measured

Made by `make bench` ({date}; {processor}; Python {python}; {system}); do not edit.
Every contender runs in a process of its own, the contenders of a row in turn, round after round. Machines
differ and shared ones drift, so the **ratio** to the peer of the same run is what counts: first the median of
the rounds, in brackets that of the fastest ones. Times are minimum / median / maximum. Bounds are ratios, at
most.
"""


def cells(result: dict[str, Any], figures: dict[str, Any]) -> str:
    """Minimum, median and maximum of a contender."""
    values = [figures[f"seconds_{key}"] for key in ("min", "median", "max")]
    if result["unit"] == "/s":
        return " / ".join(f"{1 / value:,.0f}" for value in reversed(values)) + " a second"
    scale, unit = (1e3, "ms") if min(values) >= 1e-3 else (1e6, "µs")
    return " / ".join(f"{value * scale:.2f}" for value in values) + f" {unit}"


def bound(figures: dict[str, Any]) -> str:
    """The bound, and whether it is met by the fastest rounds."""
    limit, ratio = figures["bound"], figures["ratio_of_minima"]
    if limit is None:
        return ""
    return f"≤ {limit}: met" if ratio <= limit else f"≤ {limit}: **missed**, {ratio / limit - 1:.0%} over"


def table(result: dict[str, Any]) -> Iterator[str]:
    """One row of the bench."""
    yield f"\n## {result['row'][0].upper()}{result['row'][1:]}\n"
    yield f"| contender | × {result['peer']} | bound | min / median / max |"
    yield "|---|---|---|---|"
    for name, figures in result["contenders"].items():
        ratio = f"{figures['ratio_median']:.2f} ({figures['ratio_of_minima']:.2f})"
        yield f"| {label(name, figures)} | {ratio} | {bound(figures)} | {cells(result, figures)} |"
    if result["note"]:
        yield f"\n{result['note']}"
    if result["left_out"]:
        yield f"\nNot measured, because not installed: {', '.join(result['left_out'])}."


def page(saved: dict[str, Any]) -> str:
    """The page, from what `tests.bench.harness.save` has written."""
    lines = [HEAD.format(date=saved["date"], **saved["machine"])]
    for result in saved["rows"]:
        lines += table(result)
    return "\n".join(lines) + "\n"


def main(path: Path = RESULTS / "bench.json") -> int:
    """Write the page."""
    if not path.exists():
        print(f"{path.name} is not there: run `python -m tests.bench` first", file=sys.stderr)
        return 1
    PAGE.write_text(page(json.loads(path.read_text())))
    print(f"written: {PAGE.relative_to(REPOSITORY)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
