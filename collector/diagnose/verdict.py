"""From suspects to a verdict: ranked causes, each with proof, or a plain statement of what is lacking."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from collector.diagnose.findings import Finding
from collector.diagnose.localisation import Suspect
from collector.diagnose.significance import confidence
from collector.model import Cause, Evidence

# Kinds of fault: a closed list, so that each can be a label.
FAULTS: Final = (
    "exception",  # raised, and not raised in healthy runs
    "error",  # an error was logged, or a span ended in error
    "stopped_early",  # an operation ended before its usual steps
    "bad_answer",  # whoever called an operation could not go on with its answer
    "missing_step",  # an operation left a step out
    "changed_path",  # an operation took another way
    "slow",  # a service spends more time itself
    "slow_calls",  # calls are under way longer than the callee works
    "queue_delay",  # messages wait longer before they are taken up
    "process_died",  # a process ended with spans open
)

CAUSES_MAX: Final = 10
EVIDENCE_MAX: Final = 10  # of one cause: what a person reads


def causes_of(suspects: Sequence[Suspect], *, decades_min: float) -> list[Cause]:
    """Rank the suspects that are surprising enough.

    Args:
        decades_min: a suspect below this is not named.
    """
    named = [suspect for suspect in suspects if suspect.decades >= decades_min][:CAUSES_MAX]
    return [_cause(rank, suspect, named) for rank, suspect in enumerate(named, start=1)]


def _cause(rank: int, suspect: Suspect, named: Sequence[Suspect]) -> Cause:
    first = suspect.findings[0]
    others = max((other.decades for other in named if other is not suspect), default=0.0)
    # Sure of itself is a cause that is surprising and has no rival of its size.
    share = suspect.decades / (suspect.decades + others) if others else 1.0
    return Cause(
        rank=rank,
        service=suspect.service,
        fault=first.fault,
        summary=first.summary,
        confidence=round(confidence(suspect.decades) * min(1.0, 0.25 + share), 3),
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
    for finding in findings:
        for item in finding.evidence:
            cited.setdefault(item.uid, item)
    return list(cited.values())[:EVIDENCE_MAX]


def _first(values: Iterable[str | None]) -> str | None:
    return next((value for value in values if value), None)
