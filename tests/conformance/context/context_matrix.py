"""Which hops keep the context: runs every group with both libraries and makes a table of it.

`python tests/conformance/context/context_matrix.py` writes `docs/context-matrix.md`.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[2]
sys.path.insert(0, str(REPOSITORY / "deploy" / "dev"))

from devservers.brokers import BROKERS  # noqa: E402  # found by the line above

PAGE = REPOSITORY / "docs" / "context-matrix.md"
COLUMNS = ("log ids", "parent", "baggage", "exception", "cancellation", "concurrent")
SIDES = {"ours": "backtrail", "otel": "OpenTelemetry"}
TIMEOUT_S = 600

PREAMBLE = """# Which hops keep the context

Made by `python tests/conformance/context/context_matrix.py` from a run; do not edit. Each row sends work over
one hop: the log line that is written there has the ids of the request, a span there has the request's as
its parent, baggage arrives; the same after work that failed and work that was cancelled, and nothing of a
request is left to work that nobody's request ordered; then many requests at once, none mixed up with another.
"OpenTelemetry" is its SDK with every instrumentation that is installed here, from the same run. `–`: the hop
cannot be cancelled.
"""


@dataclass(frozen=True, slots=True)
class Row:
    """One hop with one library.

    Attributes:
        cells: a word a column.
        broken: what went wrong when there are no cells.
    """

    hop: str
    side: str
    contexts: int
    cells: dict[str, str]
    broken: str = ""

    @property
    def kept(self) -> bool:
        """Whether all of it arrived."""
        wanted = {"concurrent": f"{self.contexts} of {self.contexts}"}
        return bool(self.cells) and all(
            word in ("–", wanted.get(column, "kept")) for column, word in self.cells.items()
        )


def groups() -> list[str]:
    """Names of the files with hops."""
    return sorted(path.stem.removeprefix("context_hops_") for path in HERE.glob("context_hops_*.py"))


def broker(group: str) -> str | None:
    """The server that a group's hops go through, as its file says."""
    found = re.search(r'^BROKER = "(\w+)"', (HERE / f"context_hops_{group}.py").read_text(), re.MULTILINE)
    return found[1] if found else None


def run_group(side: str, group: str) -> list[Row]:
    """Run one group's hops with one library, in a process of its own, with a broker of its own if need be.

    Raises:
        ServerUnavailable: the broker cannot be had here.
        RuntimeError: the process died; with what it said last. Of a peer that dies, or hangs, the rows until
            then are given.
    """
    with ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="backtrail-context-"))
        lines = Path(directory) / "lines.ndjson"
        lines.touch()
        name = broker(group)
        server = stack.enter_context(BROKERS[name]()) if name else None
        process = subprocess.Popen(
            [sys.executable, str(HERE / "context_side.py"), side, group, str(lines)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "BROKER_URL": server.url} if server else None,
            start_new_session=True,
        )
        try:
            told, errors = process.communicate(timeout=TIMEOUT_S)
        finally:
            with suppress(ProcessLookupError):  # workers of a side that hung, and was ended, outlive it
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    rows = [_row(side, json.loads(text)) for text in told.splitlines() if text.startswith('{"hop"')]
    if side != "otel" and (process.returncode != 0 or not rows):
        raise RuntimeError(f"{side} {group} ended with {process.returncode}: {errors[-3000:]}")
    return rows


def _row(side: str, found: dict[str, Any]) -> Row:
    return Row(found["hop"], side, found["contexts"], found.get("cells", {}), found.get("broken", ""))


def table(rows: list[Row]) -> str:
    """A Markdown table, ours above theirs."""
    lines = [
        f"| hop | library | {' | '.join(COLUMNS)} |",
        f"|---|---|{'---|' * len(COLUMNS)}",
    ]
    by_hop: dict[str, dict[str, Row]] = {}
    for row in rows:
        by_hop.setdefault(row.hop, {})[row.side] = row
    for hop, sides in by_hop.items():
        for side, name in SIDES.items():
            if side in sides:
                row = sides[side]
                cells = [row.cells.get(column, f"broke: {row.broken}") for column in COLUMNS]
                cells = [word if word != "lost" else "**lost**" for word in cells]
                lines.append(f"| {hop} | {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> int:
    """Run everything and write the page; exit status 1 when a row of ours is not whole."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("groups", nargs="*", default=groups(), help="only these; then nothing is written")
    chosen = parser.parse_args().groups
    jobs = [(side, group) for group in chosen for side in SIDES]
    with ThreadPoolExecutor(2) as executor:
        rows = [row for found in executor.map(lambda job: run_group(*job), jobs) for row in found]
    print(table(rows))
    if chosen == groups():
        PAGE.write_text(f"{PREAMBLE}\n{table(rows)}\n")
    return 0 if all(row.kept for row in rows if row.side == "ours") else 1


if __name__ == "__main__":
    sys.exit(main())
