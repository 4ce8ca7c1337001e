"""Scores the engine on recorded faults: a folder of case files, their labels, and a fault-free recording.

`labels.json` is only read after the verdicts are there. The measure is the strict service rank: the place
of the labelled service among the distinct services named, ties counted as the worst place of the tie.
"""

from __future__ import annotations

import itertools
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from collector.diagnose.baseline import Baseline
from collector.diagnose.engine import SIGNALS, Signal, diagnose_window
from collector.errors import NotFound
from collector.model import Cause, Record, Trace, Verdict
from collector.receive.files import read_records
from collector.trace.build import build_trace

LABELS: Final = "labels.json"
NORMAL: Final = "normal.ndjson.zst"
RANKS: Final = (1, 3, 5)
MINUTE_NS: Final = 60_000_000_000
CONFIDENCES: Final = (0.0, 0.5, 0.7, 0.8, 0.9, 0.95, 1.01)


class Label(msgspec.Struct, frozen=True):
    """What is known about a case; keys that are not here are passed over."""

    case: str
    service: str | None = None  # None: nothing is wrong, and any cause that is named is a false alarm
    also_accepted: list[str] | None = None
    fault_type: str | None = None
    inner: dict[str, Any] | None = None


def evaluate(
    folder: str | Path, *, baseline: Baseline | None = None, signals: Mapping[str, Signal] = SIGNALS
) -> dict[str, Any]:
    """Diagnose every case of a folder and compare with its labels.

    Args:
        folder: holds `labels.json`, the files that it names, and `normal.ndjson.zst`.
        baseline: what is normal; by default learned from `normal.ndjson.zst`.
        signals: which to use, by name; with fewer, the score shows what each is worth.
    Returns:
        `cases` (faults), `as@1`, `as@3`, `as@5` (fractions; None without faults), `per_case`
        (`case, service, rank, ranking, …`; a rank of None is a miss), `false_alarms`,
        `healthy_cases`, `inner` (fraction of the code faults whose place was named), `by_class` (the
        same by kind of fault), `calibration` (by ranges of confidence: what was said in the mean, and how
        often it was right), `seconds`.
    Raises:
        NotFound: the folder or one of its files is not there; the message names it.
    """
    folder = Path(folder)
    started = time.perf_counter()
    labels = read_labels(folder / LABELS)
    if baseline is None:
        baseline = Baseline()
        baseline.learn(read_traces(folder / NORMAL))
    cases = [_score(label, _diagnose(folder / label.case, baseline, signals)) for label in labels]
    faults = [case for case in cases if case["service"] is not None]
    healthy = [case for case in cases if case["service"] is None]
    code = [case["inner"] for case in faults if case["inner"] is not None]
    return {
        "cases": len(faults),
        **{
            f"as@{k}": _share(case["rank"] is not None and case["rank"] <= k for case in faults)
            for k in RANKS
        },
        "false_alarms": sum(bool(case["ranking"]) for case in healthy),
        "healthy_cases": len(healthy),
        "inner": _share(code),
        "by_class": _by_class(faults),
        "calibration": _calibration(faults),
        "per_case": cases,
        "seconds": round(time.perf_counter() - started, 3),
    }


def false_alarms(
    folder: str | Path, *, baseline: Baseline | None = None, parts: int | None = None
) -> dict[str, Any]:
    """Ask about healthy stretches of time: the fault-free recording, cut into parts by time.

    Args:
        folder: holds `normal.ndjson.zst`.
        baseline: what is normal; by default each part is measured by all the others together.
        parts: how many; by default a part a minute, and two at least.
    Returns:
        `windows`, `false_alarms` (those in which a cause was named) and `named` (which causes).
    Raises:
        NotFound: the folder has no fault-free recording.
        ValueError: that has no trace.
    """
    traces = sorted(read_traces(Path(folder) / NORMAL), key=lambda trace: trace.start_ns)
    if not traces:
        raise ValueError(f"{Path(folder) / NORMAL}: no trace in it")
    first_ns, last_ns = traces[0].start_ns, traces[-1].start_ns
    if parts is None:
        parts = max(2, round((last_ns - first_ns) / MINUTE_NS))
    pieces: list[list[Trace]] = [[] for _ in range(parts)]
    for trace in traces:
        pieces[parts * (trace.start_ns - first_ns) // (last_ns - first_ns + 1)].append(trace)
    named = []
    for asked in pieces:
        known = baseline
        if known is None:
            known = Baseline()
            known.learn(trace for piece in pieces if piece is not asked for trace in piece)
        named.append([cause.summary for cause in diagnose_window(asked, known).causes])
    return {"windows": parts, "false_alarms": sum(map(bool, named)), "named": named}


def read_labels(path: Path) -> list[Label]:
    """Read `labels.json`.

    Raises:
        NotFound: there is none.
        ValueError: it is not a list of labels; the message says where it differs.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=list[Label])
    except OSError as error:
        raise NotFound(f"{path}: {error.strerror}") from None
    except msgspec.DecodeError as error:
        raise ValueError(f"{path}: {error}") from None


def read_traces(path: Path) -> list[Trace]:
    """Build every trace of a recording.

    Raises:
        NotFound: the file is not there.
    """
    if not path.is_file():
        raise NotFound(f"{path}: no such file")
    return read_traces_of([str(path)])


def read_traces_of(files: Sequence[str]) -> list[Trace]:
    """Build every trace of some files together; what has no trace id is left out."""
    by_trace: dict[str, list[Record]] = defaultdict(list)
    for record in read_records(files):
        if record.trace_id is not None:
            by_trace[record.trace_id].append(record)
    return [build_trace(trace_id, records) for trace_id, records in by_trace.items()]


def _diagnose(path: Path, baseline: Baseline, signals: Mapping[str, Signal]) -> Verdict:
    traces = read_traces(path)
    return diagnose_window(
        traces,
        baseline,
        start_ns=min((trace.start_ns for trace in traces), default=None),
        end_ns=max((trace.end_ns for trace in traces), default=None),
        signals=signals,
    )


def rank_of(label: Label, verdict: Verdict) -> int | None:
    """The strict service rank; None: the service was not named, or nothing was wrong."""
    if label.service is None:
        return None
    accepted = {label.service, *(label.also_accepted or ())}
    return min((rank for rank, services in _places(verdict.causes) if accepted & services), default=None)


def _score(label: Label, verdict: Verdict) -> dict[str, Any]:
    first = verdict.causes[0] if verdict.causes else None
    return {
        "case": label.case,
        "service": label.service,
        "rank": rank_of(label, verdict),
        "ranking": verdict.services,
        "fault_type": label.fault_type,
        "fault": first.fault if first else None,
        "confidence": first.confidence if first else None,
        "inner": names_region(label, first),
        "region": _region(label),
        "cited": (first.location or first.template) if first else None,
    }


def _places(causes: list[Cause]) -> Iterator[tuple[int, set[str]]]:
    """The distinct services by place; those that share one all have its worst number."""
    by_rank: dict[int, set[str]] = defaultdict(set)
    seen: set[str] = set()
    for cause in causes:
        if cause.service not in seen:
            seen.add(cause.service)
            by_rank[cause.rank].add(cause.service)
    place = 0
    for rank in sorted(by_rank):
        place += len(by_rank[rank])
        yield place, by_rank[rank]


def names_region(label: Label, first: Cause | None) -> bool | None:
    """Whether the first cause cites the code region; None: the label has none."""
    wanted = _region(label)
    if label.service is None or not wanted:
        return None
    cited = f"{first.location or ''}\n{first.template or ''}" if first else ""
    return any(place in cited for place in wanted)


def _region(label: Label) -> list[str]:
    """The places between which the code of a fault lies."""
    region = label.inner or {}
    return [str(region[key]) for key in ("from", "to") if region.get(key)]


def _by_class(faults: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    classes: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for case in faults:
        classes[case["fault_type"] or "unknown"].append(case)
    return {
        name: {
            "cases": len(cases),
            **_accuracy(cases),
            "inner": _share(case["inner"] for case in cases if case["inner"] is not None),
        }
        for name, cases in sorted(classes.items())
    }


def _calibration(faults: list[dict[str, Any]]) -> list[dict[str, Any]]:
    rows = []
    for low, high in itertools.pairwise(CONFIDENCES):
        within = [case for case in faults if low <= (case["confidence"] or 0.0) < high]
        said = [case["confidence"] or 0.0 for case in within]
        rows.append(
            {
                "from": low,
                "to": min(high, 1.0),
                "cases": len(within),
                "confidence": round(sum(said) / len(said), 4) if said else None,
                "right": _share(case["rank"] == 1 for case in within),
            }
        )
    return rows


def _accuracy(faults: list[dict[str, Any]]) -> dict[str, float | None]:
    return {
        f"as@{k}": _share(case["rank"] is not None and case["rank"] <= k for case in faults) for k in RANKS
    }


def _share(hits: Any) -> float | None:
    counted = [bool(hit) for hit in hits]
    return round(sum(counted) / len(counted), 4) if counted else None
