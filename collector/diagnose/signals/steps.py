"""Steps that are missing: what healthy runs of an operation do next, and this one did not.

For each operation and each of its steps, what comes next is counted. A run that ends after a step that
is normally followed by others stopped there; a run that goes on with a later step left some out. Which
step was the last regular one is what names the place: between it and the one that never came.

Source: the idea of comparing what follows what is Nezha's (Yu et al., FSE 2023); its patterns are pairs
over a whole trace, ours stay within one operation, so that a victim's steps are its own.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Final, NamedTuple

from msgspec import structs

from collector.diagnose.baseline import OperationProfile
from collector.diagnose.findings import EVIDENCE_MAX, Finding, evidence, instance_of
from collector.diagnose.significance import share_decades
from collector.diagnose.visits import BEGIN, CALL, END, LOG, Operation, Step, Visit, site
from collector.diagnose.window import Window
from collector.model import Evidence

SIGNAL: Final = "steps"

# Another way through the code that is merely new says little: programs have more ways than a short
# baseline has seen.
NEW_PATH_WEIGHT: Final = 0.15


class Turn(NamedTuple):
    """A run that went on differently: at which step, and what came instead."""

    visit: Visit
    before: Step | None  # the last regular step; None: the span's begin
    after: Step | None  # what came instead; None: the span's end


def find(window: Window) -> list[Finding]:
    """One finding for each operation and step after which runs go on as healthy ones do not."""
    found = []
    for operation, visits in window.by_operation.items():
        known = window.known.operations.get(operation)
        if known is None or not known.visits:
            continue
        turns: dict[tuple[str, str], list[Turn]] = defaultdict(list)
        passed: dict[str, int] = defaultdict(int)
        for visit in visits:
            for before, after, turn in _turns(visit):
                passed[before] += 1
                turns[before, after].append(turn)
        for (before, after), taken in sorted(turns.items()):
            finding = _judge(operation, known, before, after, taken, passed[before])
            if finding is not None:
                found.append(finding)
    return found


def _turns(visit: Visit) -> list[tuple[str, str, Turn]]:
    """Each pair of steps that follow each other, repetitions in a row left out."""
    turns = []
    before: Step | None = None
    for step in visit.steps:
        if before is None or step.token != before.token:
            turns.append((before.token if before else BEGIN, step.token, Turn(visit, before, step)))
            before = step
    if visit.node.finished:
        turns.append((before.token if before else BEGIN, END, Turn(visit, before, None)))
    return turns


def _judge(
    operation: Operation, known: OperationProfile, before: str, after: str, taken: list[Turn], passed: int
) -> Finding | None:
    nexts = known.follows.get(before)
    if not nexts:
        return None  # the step itself is new; what led to it is judged
    healthy = sum(nexts.values())
    decades = share_decades(len(taken), passed, nexts.get(after, 0), healthy)
    if decades <= 0:
        return None
    usual = max(sorted(nexts), key=nexts.__getitem__)
    missing = _usual_next(known, before)
    share = f"{len(taken)} of {passed} runs, {nexts.get(after, 0)} of {healthy} healthy ones"
    visits = list({id(turn.visit): turn.visit for turn in taken}.values())
    first = taken[0].before
    finding = Finding(
        signal=SIGNAL,
        fault="changed_path",
        family="path",
        service=operation.service,
        decades=NEW_PATH_WEIGHT * decades,
        summary=f"{operation.name} in {operation.service} goes on with {_name(after)} after {_name(before)}, "
        f"where {_name(usual)} is usual ({share})",
        evidence=_evidence(taken, usual),
        visits=visits,
        operation=operation.name,
        instance=instance_of(visits),
        location=_between(taken[0], before, usual),
        template=first.template.text if first is not None and first.template is not None else None,
        refuted_by=f"healthy runs of {operation.name} in which {_name(before)} is followed by {_name(after)}",
        after_call_to=first.callee if first is not None else None,
    )
    if after == END:
        if missing == END:
            return None  # healthy runs end here too, if a little less often
        return structs.replace(
            finding,
            fault="stopped_early",
            family="failure",
            decades=decades,
            summary=f"{operation.name} in {operation.service} ends after {_name(before)}, "
            f"where {_name(missing)} should follow ({share})",
            evidence=_evidence(taken, missing),
        )
    skipped = _skipped(known, before, after)
    if skipped:
        return structs.replace(
            finding,
            fault="missing_step",
            family="failure",
            decades=decades,
            operation=_operation(skipped[0]) or operation.name,
            summary=f"{operation.service} left out {_name(skipped[0])} in {operation.name}: after "
            f"{_name(before)} came {_name(after)} at once ({share})",
            evidence=_evidence(taken, skipped[0]),
        )
    return finding


def _usual_next(known: OperationProfile, before: str) -> str:
    """What healthy runs do most often after a step, other than to end."""
    nexts = known.follows[before]
    going_on = {token: count for token, count in nexts.items() if token != END}
    return max(sorted(going_on), key=going_on.__getitem__) if going_on else END


def _skipped(known: OperationProfile, before: str, after: str) -> list[str]:
    """The steps that healthy runs take between the two; none when the second never follows the first.

    Goes the most usual way from step to step, which is the shortest proof that there is one.
    """
    if after not in known.takes:
        return []
    way: list[str] = []
    at = before
    for _ in range(len(known.follows)):
        at = _usual_next(known, at) if at in known.follows else END
        if at == after:
            return way
        if at == END or at in way:
            return []
        way.append(at)
    return []


def _between(turn: Turn, before: str, usual: str) -> str:
    if turn.before is not None and turn.before.record.kind == "log":
        return site(turn.before.record) or f"after {_name(before)}"
    return f"{_name(before)} … {_name(usual)}"


def _operation(token: str) -> str | None:
    return token.removeprefix(CALL) if token.startswith(CALL) else None


def _name(token: str) -> str:
    """A step as a person would say it."""
    if token == BEGIN:
        return "the start"
    if token == END:
        return "the end"
    if token.startswith(CALL):
        return f'"{token.removeprefix(CALL)}"'
    return f"the line at {token.removeprefix(LOG)}"


def _evidence(taken: list[Turn], missing: str) -> list[Evidence]:
    cited = []
    for turn in taken[:2]:
        if turn.before is not None:
            cited.append(evidence(turn.before.record, "the last step that is as usual"))
        else:
            cited.append(evidence(turn.visit.node.record, f"began, and {_name(missing)} did not follow"))
        if turn.after is not None:
            cited.append(evidence(turn.after.record, f"came instead of {_name(missing)}"))
        elif turn.before is not None:
            cited.append(evidence(turn.visit.node.record, f"ended without {_name(missing)}"))
    return cited[:EVIDENCE_MAX]
