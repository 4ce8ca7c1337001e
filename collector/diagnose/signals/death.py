"""Processes that died with work in their hands: spans that started and never ended."""

from __future__ import annotations

from typing import Final

from collector.diagnose.findings import EVIDENCE_MAX, Finding, evidence, instance_of
from collector.diagnose.significance import share_decades
from collector.diagnose.visits import Visit, place
from collector.diagnose.window import Window
from collector.model import Evidence, Record

SIGNAL: Final = "death"

# A process that is known to have been killed needs no statistics. A span without an end, of a process
# of which nothing else is known, may also just be running: that is worth no more than what follows, or
# what so many of them would be worth against healthy times.
KILLED_DECADES: Final = 8.0
ENDED_DECADES: Final = 5.0
SILENT_DECADES: Final = 2.0

_CLEAN: Final = {"exit", "closed", "shutdown"}


def find(window: Window) -> list[Finding]:
    """One finding for each process that left spans open, at the deepest of them."""
    left: dict[tuple[str, str], list[Visit]] = {}
    for visit in window.visits:
        if not visit.node.finished:
            record = visit.node.record
            left.setdefault((record.service, record.uid.partition("-")[0]), []).append(visit)
    return [_finding(window, visits) for visits in left.values()]


def _finding(window: Window, visits: list[Visit]) -> Finding:
    # Parents come before their children, so the last span of the first trace is the innermost.
    trace_id = visits[0].trace.trace_id
    inner = [visit for visit in visits if visit.trace.trace_id == trace_id][-1]
    ended = next((visit.node.process_ended for visit in visits if visit.node.process_ended), None)
    if ended is None:
        decades, fate = max(SILENT_DECADES, _decades(window, inner)), "and nothing more came of it"
    elif ended in _CLEAN:
        decades, fate = ENDED_DECADES, "when its process ended"
    else:
        decades, fate = KILLED_DECADES, f"when its process was {ended}"
    node = inner.node
    last = _last_line(visits)
    return Finding(
        signal=SIGNAL,
        fault="process_died",
        family="death",
        service=node.service,
        decades=decades,
        summary=f"{node.service} was in {node.name} {fate}",
        evidence=_evidence(visits, inner, fate),
        visits=[inner],
        operation=node.name,
        instance=instance_of(visits),
        location=place(last) if last is not None else None,
        refuted_by="an end of this span, or a later line of the same process",
    )


def _decades(window: Window, inner: Visit) -> float:
    known = window.known.operations.get(inner.operation)
    healthy = (known.unfinished, known.visits) if known else (0, 0)
    seen = window.seen.operations[inner.operation]
    return share_decades(seen.unfinished, seen.visits, *healthy, rare=True)


def _evidence(visits: list[Visit], inner: Visit, fate: str) -> list[Evidence]:
    cited = [evidence(inner.node.record, f"started and never ended, {fate}")]
    last = _last_line(visits)
    if last is not None:
        cited.append(evidence(last, "the last line of the process in its open spans"))
    outer = [visit for visit in visits if visit is not inner]
    cited += [evidence(visit.node.record, "was open around it") for visit in outer]
    return cited[:EVIDENCE_MAX]


def _last_line(visits: list[Visit]) -> Record | None:
    lines = [log for visit in visits for log in visit.node.logs]
    return max(lines, key=lambda log: (log.timestamp_ns, log.uid), default=None)
