"""Interleaved runs of contenders, each in a process of its own, and the table that comes of them.

Timings on a shared machine drift; ratios between neighbours in time hold. So every round runs each
contender once, in turn, and a ratio is taken round by round against the peer.
"""

from __future__ import annotations

import json
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent.parent
RESULTS = REPOSITORY / "bench-results"


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """One way to do the thing that a row measures."""

    name: str
    function: str = ""  # `tests.bench.library:log_stdlib`; takes (directory, operations), returns seconds
    operations: int = 1
    package: str = ""  # the distribution that is measured; where it is not installed, this one is left out


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One budget of DESIGN's table: what is measured, against whom, and the bound on the ratio."""

    name: str
    unit: str  # "µs" for a time for one operation, "/s" for a rate
    contenders: Sequence[Contender]
    peer: str  # name of the contender that ratios are taken against
    bounds: dict[str, float] = field(default_factory=dict)  # contender -> ratio of times, at most
    note: str = ""


def run_child(contender: Contender) -> float:
    """Run one contender once, in a new process and directory; return seconds for each operation."""
    with tempfile.TemporaryDirectory(prefix="backtrail-bench-") as directory:
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "tests.bench.child",
                contender.function,
                directory,
                str(contender.operations),
            ],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            timeout=600,
        )
    if done.returncode != 0:
        raise RuntimeError(f"{contender.name} failed:\n{done.stderr[-2000:]}")
    return float(done.stdout.rsplit(None, 1)[-1]) / contender.operations


def version_of(package: str) -> str | None:
    """The version of a distribution; `None`: it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def measure(row: Row, rounds: int, progress: Callable[[str], None]) -> dict[str, Any]:
    """Run a row's contenders in turn; return the figures, seconds for each operation."""
    here = [each for each in row.contenders if not each.package or version_of(each.package)]
    seconds: dict[str, list[float]] = {contender.name: [] for contender in here}
    for number in range(rounds):
        for contender in here:
            progress(f"{row.name}: {contender.name} ({number + 1}/{rounds})")
            seconds[contender.name].append(run_child(contender))
    return tabulate(row, seconds)


def tabulate(row: Row, seconds: dict[str, list[float]]) -> dict[str, Any]:
    """The figures of a row from what its contenders took, round by round; who is not in it was left out."""
    versions = {each.name: version_of(each.package) for each in row.contenders if each.package}
    peer = seconds[row.peer]
    return {
        "row": row.name,
        "unit": row.unit,
        "peer": row.peer,
        "note": row.note,
        "left_out": [each.name for each in row.contenders if each.name not in seconds],
        "contenders": {
            name: {
                "version": versions.get(name),
                "seconds_min": min(times),
                "seconds_median": statistics.median(times),
                "seconds_max": max(times),
                "ratio_median": statistics.median(a / b for a, b in zip(times, peer, strict=True)),
                "ratio_of_minima": min(times) / min(peer),
                "bound": row.bounds.get(name),
            }
            for name, times in seconds.items()
        },
    }


def label(name: str, figures: dict[str, Any]) -> str:
    """A contender's name, with the version of a peer."""
    return f"{name} {figures['version']}" if figures["version"] else name


def show(result: dict[str, Any]) -> str:
    """One row as lines of a Markdown table."""
    lines = [
        f"\n### {result['row']}",
        f"| contender | min | median | max | × {result['peer']} (median / of minima) | bound |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name, figures in result["contenders"].items():
        low, middle, high = (figures[f"seconds_{key}"] for key in ("min", "median", "max"))
        if result["unit"] == "/s":
            cells = [f"{1 / value:,.0f}/s" for value in (high, middle, low)]
        else:
            cells = [f"{value * 1e6:.2f} µs" for value in (low, middle, high)]
        bound = figures["bound"]
        mark = (
            ""
            if bound is None
            else f"≤ {bound}" + (" ✓" if figures["ratio_of_minima"] <= bound else " **missed**")
        )
        lines.append(
            f"| {label(name, figures)} | {' | '.join(cells)} "
            f"| {figures['ratio_median']:.2f} / {figures['ratio_of_minima']:.2f} | {mark} |"
        )
    if result["note"]:
        lines.append(f"\n{result['note']}")
    if result["left_out"]:
        lines.append(
            f"\nNOT MEASURED, because not installed (extra `bench`): {', '.join(result['left_out'])}"
        )
    return "\n".join(lines)


def machine() -> dict[str, str]:
    """What the figures were taken on."""
    model = "unknown processor"
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    except OSError:
        pass
    return {"processor": model, "python": platform.python_version(), "system": platform.platform()}


def save(results: list[dict[str, Any]], name: str = "bench") -> Path:
    """Write the figures as JSON; return where."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    taken = datetime.now(UTC).date().isoformat()
    path.write_text(json.dumps({"date": taken, "machine": machine(), "rows": results}, indent=1))
    return path
