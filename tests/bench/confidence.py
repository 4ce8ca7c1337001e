"""Confidence against hit rate on the recorded faults, whole and with records taken away.

    python -m tests.bench.confidence [--every N] [--seed N] [FOLDER…]

The gate is that the same settings hold for both recordings, so each has a table of its own: a row a range of
confidence, with how many first causes had it and how many of them were right. It should rise from row to row,
and what is called sure should be right. Below it the share of first places for each disturbance.
"""

from __future__ import annotations

import argparse
import random
import sys
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable
from itertools import pairwise
from pathlib import Path
from typing import Final, NamedTuple

from collector.diagnose.baseline import Baseline
from collector.diagnose.engine import diagnose_window
from collector.diagnose.evaluate import LABELS, NORMAL, rank_of, read_labels, read_traces
from collector.model import Record, Trace
from collector.receive.files import read_records
from collector.trace.build import build_trace

RECORDINGS: Final = Path(__file__).resolve().parents[3] / "shared" / "data" / "rca"
RANGES: Final = (0.0, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 1.01)
Disturbance = Callable[[list[Record], random.Random], list[Record]]


class Outcome(NamedTuple):
    """What was said of one disturbed case."""

    disturbance: str
    confidence: float | None  # of the first cause; None: none was named
    is_right: bool


def without(kind: str, share: float) -> Disturbance:
    """Take away this share of the spans or logs, anywhere."""
    return lambda records, rng: [r for r in records if r.kind != kind or rng.random() >= share]


def without_one_services_lines(records: list[Record], rng: random.Random) -> list[Record]:
    """Take away every line of one service."""
    loggers = sorted({record.service for record in records if record.kind == "log"})
    silent = rng.choice(loggers) if loggers else None
    return [record for record in records if record.kind != "log" or record.service != silent]


def with_traces(count: int) -> Disturbance:
    """Keep so many traces."""

    def some(records: list[Record], rng: random.Random) -> list[Record]:
        ids = sorted({record.trace_id or "" for record in records})
        kept = set(rng.sample(ids, min(count, len(ids))))
        return [record for record in records if record.trace_id in kept]

    return some


DISTURBANCES: Final[dict[str, Disturbance]] = {
    "as recorded": lambda records, _: records,
    "a tenth of the spans lost": without("span", 0.1),
    "three tenths of the spans lost": without("span", 0.3),
    "half of the spans lost": without("span", 0.5),
    "half of the lines lost": without("log", 0.5),
    "all lines lost": without("log", 1.0),
    "the lines of one service lost": without_one_services_lines,
    "100 traces": with_traces(100),
    "20 traces": with_traces(20),
    "5 traces": with_traces(5),
}


def outcomes(folder: Path, *, every: int, seed: int) -> list[Outcome]:
    """Diagnose each so manieth case of a recording, in every disturbance."""
    baseline = Baseline()
    baseline.learn(read_traces(folder / NORMAL))
    found = []
    for label in read_labels(folder / LABELS)[::every]:
        records = list(read_records([folder / label.case]))
        has_lines = any(record.kind == "log" for record in records)
        for name, disturb in DISTURBANCES.items():
            if "lines" in name and not has_lines:
                continue
            rng = random.Random(zlib.crc32(f"{seed} {label.case} {name}".encode()))
            verdict = diagnose_window(_built(disturb(records, rng)), baseline)
            first = verdict.causes[0].confidence if verdict.causes else None
            found.append(Outcome(name, first, rank_of(label, verdict) == 1))
    return found


def show(found: list[Outcome]) -> Iterable[str]:
    """The two tables of a recording."""
    yield f"{'confidence':<16}{'causes':>8}{'mean':>8}{'right':>8}"
    for low, high in pairwise(RANGES):
        named = [(o.confidence, o.is_right) for o in found if o.confidence is not None]
        within = [(confidence, right) for confidence, right in named if low <= confidence < high]
        if within:
            mean = sum(confidence for confidence, _ in within) / len(within)
            right = sum(right for _, right in within) / len(within)
            yield f"{low:.2f} to {min(high, 1.0):.2f}{'':<4}{len(within):>8}{mean:>8.1%}{right:>8.1%}"
    yield f"\n{'disturbance':<32}{'cases':>7}{'first':>8}{'none named':>12}"
    for name in dict.fromkeys(o.disturbance for o in found):
        same = [o for o in found if o.disturbance == name]
        right = sum(o.is_right for o in same) / len(same)
        yield f"{name:<32}{len(same):>7}{right:>8.1%}{sum(o.confidence is None for o in same):>12}"


def _built(records: Iterable[Record]) -> list[Trace]:
    by_trace: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        by_trace[record.trace_id or ""].append(record)
    return [build_trace(trace_id, same) for trace_id, same in by_trace.items()]


def main() -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--every", type=int, default=1, help="each so manieth case")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("folder", type=Path, nargs="*", help="default: both recordings")
    options = parser.parse_args()
    for folder in options.folder or sorted(path.parent for path in RECORDINGS.glob(f"*/{LABELS}")):
        print(f"\n{folder.name}")
        for line in show(outcomes(folder, every=options.every, seed=options.seed)):
            print(line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
