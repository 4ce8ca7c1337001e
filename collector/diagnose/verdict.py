"""From suspects to a verdict: ranked causes, each with proof, or a plain statement of what is lacking."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from collector.diagnose.findings import Finding, evidence
from collector.diagnose.localisation import Suspect
from collector.diagnose.signals.changes import SIGNAL as CHANGES
from collector.model import Cause, Evidence

# Kinds of fault: a closed list, so that each can be a label.
FAULTS: Final = (
    "exception",  # raised, and not raised in healthy runs
    "error",  # an error was logged, or a span ended in error
    "warning",  # a warning was logged that healthy runs do not log
    "stopped_early",  # an operation ended before its usual steps
    "bad_answer",  # whoever called an operation could not go on with its answer
    "no_answer",  # a call got no answer, and its caller failed
    "not_taken_up",  # a message was sent and never taken up
    "missing_step",  # an operation left a step out
    "changed_path",  # an operation took another way
    "more_calls",  # an operation makes a call more often than it should
    "retries",  # it repeats a call that fails
    "slow",  # a service spends more time itself
    "slow_calls",  # calls are under way longer than the callee works
    "queue_delay",  # messages wait longer before they are taken up
    "process_died",  # a process ended with spans open
    "changed",  # a deploy, a setting or a flag was changed just before; never the first by itself
)

CAUSES_MAX: Final = 10
NAMED_DECADES_MIN: Final = 0.5  # a further cause with less is not worth a line
EVIDENCE_MAX: Final = 10  # of one cause: what a person reads
EVIDENCE_MIN: Final = (
    3  # with fewer of its own a cause also cites the run that it shows in, and what led to it
)
# Surprise that is not believed to the letter: signals are neither perfect nor independent.
DECADES_BELIEVED: Final = 0.5


def causes_of(
    suspects: Sequence[Suspect], *, decades_min: float, decades_doubt: float, sight: float = 1.0
) -> list[Cause]:
    """Rank the suspects, if the first of them is surprising enough to speak of a fault at all.

    Args:
        decades_min: below this nothing is named.
        decades_doubt: how much speaks for "nothing is wrong": a cause of as many decades is as likely.
        sight: how much of what would show a fault has arrived, 0..1: the confidence falls with it.
    """
    if not suspects or suspects[0].decades < decades_min:
        return []
    weights = [10 ** (DECADES_BELIEVED * suspect.decades) for suspect in suspects]
    whole = sum(weights) + 10 ** (DECADES_BELIEVED * decades_doubt)
    named = [suspect for suspect in suspects if suspect.decades >= NAMED_DECADES_MIN]
    return [
        _cause(rank, suspect, round(sight * weight / whole, 3))
        for rank, (suspect, weight) in enumerate(zip(named, weights, strict=False), start=1)
    ][:CAUSES_MAX]


def _cause(rank: int, suspect: Suspect, confidence: float) -> Cause:
    first = suspect.findings[0]
    return Cause(
        rank=rank,
        service=suspect.service,
        fault=first.fault,
        summary=first.summary,
        confidence=confidence,
        evidence=_evidence(suspect.findings),
        signals=list(dict.fromkeys(finding.signal for finding in suspect.findings)),
        instance=first.instance,
        operation=first.operation,
        location=_first(finding.location for finding in suspect.findings),
        template=_first(finding.template for finding in suspect.findings),
        refuted_by=first.refuted_by,
    )


def _evidence(findings: Sequence[Finding]) -> list[Evidence]:
    cited: dict[str, Evidence] = {}
    first, *others = findings
    # what was changed is said right after what was found: weak as proof, it is where a person begins
    for finding in (first, *sorted(others, key=lambda finding: finding.signal != CHANGES)):
        for item in finding.evidence:
            cited.setdefault(item.uid, item)
    for item in _around(first):
        if len(cited) >= EVIDENCE_MIN:
            break
        cited.setdefault(item.uid, item)
    return list(cited.values())[:EVIDENCE_MAX]


def _around(finding: Finding) -> Iterator[Evidence]:
    """The run in which a finding shows first, and the runs that led to it, the nearest first."""
    for visit in finding.visits[:1]:
        if not visit.node.inferred:
            yield evidence(visit.node.record, "the run in which it shows")
        for above in visit.ancestors():
            if not above.node.inferred:  # a placeholder is no record that could be looked up
                yield evidence(above.node.record, "led to it")


def _first(values: Iterable[str | None]) -> str | None:
    return next((value for value in values if value), None)
