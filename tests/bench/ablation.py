"""What each signal is worth: the score on the recorded faults without it, and with it alone.

    python -m tests.bench.ablation [--processes 2] [--every N] [--json FILE] [FOLDER…]

By default both recordings of `../shared/data/rca`. The same code and settings for both: nothing is fitted
here, the table only shows the reason for each part. `--every 4` looks at each fourth case, for a quick one.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from msgspec import structs

from collector.diagnose.baseline import Baseline
from collector.diagnose.engine import SIGNALS, Signal, judge_windows, windows_of
from collector.diagnose.evaluate import LABELS, NORMAL, Label, names_region, rank_of, read_labels, read_traces
from collector.diagnose.findings import Finding
from collector.diagnose.window import Window

RECORDINGS: Final = Path(__file__).resolve().parents[3] / "shared" / "data" / "rca"
ALL: Final = "all signals"
FIRST, THIRD = 1, 3

Find = Callable[[Window], list[Finding]]


class Outcome(NamedTuple):
    """What one variant said of one case."""

    rank: int | None
    inner: bool | None


def variants() -> dict[str, Mapping[str, Signal]]:
    """Every set of signals that is tried, by the name it has in the table."""
    tried: dict[str, Mapping[str, Signal]] = {ALL: SIGNALS}
    for name in SIGNALS:
        tried[f"without {name}"] = {key: signal for key, signal in SIGNALS.items() if key != name}
    for name in SIGNALS:
        tried[f"{name} alone"] = {name: SIGNALS[name]}
    return tried


def outcomes(case: tuple[Path, Label, bytes]) -> dict[str, Outcome]:
    """Diagnose one case with every set of signals.

    Args:
        case: folder, label, and the baseline as `Baseline.to_bytes` has it.
    """
    folder, label, known = case
    baseline = Baseline.from_bytes(known)
    windows = windows_of(read_traces(folder / label.case), baseline)
    remembered = {name: signal._replace(find=_once(signal.find)) for name, signal in SIGNALS.items()}
    found = {}
    for name, signals in variants().items():
        chosen = {key: remembered[key] for key in signals}
        verdict = judge_windows(windows, baseline, signals=chosen).verdict
        first = verdict.causes[0] if verdict.causes else None
        found[name] = Outcome(rank_of(label, verdict), names_region(label, first))
    return found


def _once(find: Find) -> Find:
    """Look at each window once; what is found is copied for each variant, since localisation writes on it."""
    known: dict[int, list[Finding]] = {}

    def found(window: Window) -> list[Finding]:
        if id(window) not in known:
            known[id(window)] = find(window)
        return [structs.replace(finding) for finding in known[id(window)]]

    return found


def table(folder: Path, *, processes: int, every: int = 1) -> dict[str, dict[str, float | None]]:
    """The score of every variant on one recording: `as@1`, `as@3`, `inner`, as fractions."""
    baseline = Baseline()
    baseline.learn(read_traces(folder / NORMAL))
    known = baseline.to_bytes()
    labels = [label for label in read_labels(folder / LABELS) if label.service is not None][::every]
    cases = [(folder, label, known) for label in labels]
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        found = pool.map(outcomes, cases, chunksize=1)
    return {name: _score([case[name] for case in found]) for name in variants()}


def lines(scores: Mapping[str, Mapping[str, Mapping[str, float | None]]]) -> Iterable[str]:
    """The table for a person; what a variant loses or gains against all signals stands behind it."""
    systems = list(scores)
    yield " " * 24 + "".join(f"{system[:29]:<32}" for system in systems)
    yield f"{'':<24}" + f"{'as@1':>8}{'as@3':>8}{'inner':>8}{'':8}" * len(systems)
    for name in variants():
        cells = ""
        for system in systems:
            row, whole = scores[system][name], scores[system][ALL]
            for key in ("as@1", "as@3", "inner"):
                value = row[key]
                cells += f"{'–' if value is None else f'{100 * value:.1f}':>8}"
            change = 100 * ((row["as@1"] or 0.0) - (whole["as@1"] or 0.0))
            cells += f"{'' if name == ALL else f'{change:+.1f}':>8}"
        yield f"{name:<24}{cells}"


def _score(found: Sequence[Outcome]) -> dict[str, float | None]:
    ranks = [item.rank for item in found]
    regions = [item.inner for item in found if item.inner is not None]
    return {
        "as@1": _share(rank is not None and rank <= FIRST for rank in ranks),
        "as@3": _share(rank is not None and rank <= THIRD for rank in ranks),
        "inner": _share(regions),
    }


def _share(hits: Iterable[bool]) -> float | None:
    counted = list(hits)
    return round(sum(counted) / len(counted), 4) if counted else None


def main() -> int:
    """Print the table; exit status 2 when there is no recording."""
    options = _options()
    folders: list[Path] = options.folder or sorted(path.parent for path in RECORDINGS.glob(f"*/{LABELS}"))
    if not folders:
        print(f"no recording in {RECORDINGS}; name a folder with labels.json", file=sys.stderr)
        return 2
    started = time.monotonic()
    scores: dict[str, Any] = {
        folder.name: table(folder, processes=options.processes, every=options.every) for folder in folders
    }
    for line in lines(scores):
        print(line)
    print(f"\n{len(variants())} variants in {time.monotonic() - started:.0f} s")
    if options.json is not None:
        options.json.write_text(json.dumps(scores, indent=1) + "\n")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--every", type=int, default=1, help="only each so-manieth case")
    parser.add_argument("--json", type=Path)
    parser.add_argument("folder", nargs="*", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
