"""Steps that are missing: what healthy runs of an operation do next, and this one did not.

For each operation and each of its steps, what comes next is counted. A run that ends after a step that
is normally followed by others stopped there; a run that goes on with a later step left some out. Which
step was the last regular one is what names the place: between it and the one that never came.

Source: the idea of comparing what follows what is Nezha's (Yu et al., FSE 2023); its patterns are pairs
over a whole trace, ours stay within one operation, so that a victim's steps are its own.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Final, NamedTuple

from msgspec import structs

from collector.diagnose.findings import EVIDENCE_MAX, Finding, evidence, instance_of
from collector.diagnose.profile import OperationProfile
from collector.diagnose.visits import (
    BEGIN,
    CALL,
    END,
    LOG,
    Operation,
    Route,
    Step,
    Visit,
    callee_of,
    name_of,
    place,
)
from collector.diagnose.window import Window
from collector.model import Evidence

SIGNAL: Final = "steps"

# Another way through the code that is merely new says little: programs have more ways than a short
# baseline has seen.
NEW_PATH_WEIGHT: Final = 0.15
NEW_PATH_DECADES_MAX: Final = 2.0  # and by itself it raises no alarm
# A turn counts if it is taken this many times as often as usual, of all runs of its operation.
MORE_OFTEN_MIN: Final = 1.3


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
        if known is None:
            continue
        passed, turns = _unusual(known, visits)
        for (before, after), taken in turns.items():
            is_call = before.startswith((CALL, BEGIN[CALL]))
            lost = window.spans_lost if is_call else window.lines_lost
            finding = _judge(
                window, operation, known, before, after, taken, passed[before], len(visits), lost
            )
            callee = finding and _unanswered_by(operation, finding)
            if finding is not None and callee:
                finding = _unanswered(finding, operation, callee)
            if finding is not None:
                is_silent = operation.service in window.silent_services
                finding.from_silence = is_silent and before.startswith((LOG, BEGIN[LOG]))
                found.append(finding)
    return found


def _unusual(
    known: OperationProfile, visits: list[Visit]
) -> tuple[Counter[str], dict[tuple[str, str], list[Turn]]]:
    """How often each step was passed, and the turns that are taken more often than usual."""
    passed: Counter[str] = Counter()
    counts: Counter[tuple[str, str]] = Counter()
    ways: dict[int, tuple[Route, int]] = {}  # by identity: a route is one object for all who take it
    for visit in visits:
        way = visit.route
        ways[id(way)] = (way, ways[id(way)][1] + 1 if id(way) in ways else 1)
    for way, runs in ways.values():
        for pair in way:
            counts[pair] += runs
    for (before, _), count in counts.items():
        passed[before] += count
    more = set()
    for (before, after), count in counts.items():
        nexts = known.follows.get(before)  # None: the step itself is new; what led to it is judged
        if nexts and count * sum(nexts.values()) > nexts.get(after, 0) * passed[before]:
            more.add((before, after))
    turns: dict[tuple[str, str], list[Turn]] = defaultdict(list)
    unusual = {id(way) for way, _ in ways.values() if not more.isdisjoint(way)}
    for visit in visits if unusual else ():
        if id(visit.route) not in unusual:
            continue
        for before, after, step, instead in visit.turns():
            if (before, after) in more:
                turns[before, after].append(Turn(visit, step, instead))
    return passed, turns


def _judge(
    window: Window,
    operation: Operation,
    known: OperationProfile,
    before: str,
    after: str,
    taken: list[Turn],
    passed: int,
    runs: int,
    lost: float,
) -> Finding | None:
    nexts = known.follows[before]
    healthy, healthy_taken = sum(nexts.values()), nexts.get(after, 0)
    # Where some are lost, so many healthy runs would look as if they had not taken the steps between.
    between = max(1, len(_way(known, before, after)))
    healthy_taken = healthy_taken + round(lost**between * (healthy - healthy_taken))
    if len(taken) * healthy <= healthy_taken * passed:
        return None
    missing = _left_out(known, before, after, taken)
    if missing is not None:
        taken = [turn for turn in taken if all(step.token != missing for step in turn.visit.steps)]
    visits = list({id(turn.visit): turn.visit for turn in taken}.values())
    # When other runs stop before the step, those that still come to it are another selection of runs:
    # the turn must have become more frequent among all runs too.
    if len(visits) * known.visits <= MORE_OFTEN_MIN * healthy_taken * runs:
        return None
    decades = window.share_decades(len(taken), passed, healthy_taken, healthy)
    if decades <= 0:
        return None
    usual = missing or max(sorted(nexts), key=nexts.__getitem__)
    share = f"{len(taken)} of {passed} runs, {healthy_taken} of {healthy} healthy ones"
    first = taken[0].before
    finding = Finding(
        signal=SIGNAL,
        fault="changed_path",
        family="path",
        service=operation.service,
        decades=min(NEW_PATH_WEIGHT * decades, NEW_PATH_DECADES_MAX),
        summary=f"{operation.name} in {operation.service} goes on with {_name(after)} after {_name(before)}, "
        f"where {_name(usual)} is usual ({share})",
        evidence=_evidence(taken, usual),
        visits=visits,
        operation=operation.name,
        place=operation.name,
        instance=instance_of(visits),
        location=_region(operation, taken[0], before, usual),
        template=first.template.text if first is not None and first.template is not None else None,
        refuted_by=f"healthy runs of {operation.name} in which {_name(before)} is followed by {_name(after)}",
        after_call=before if first is not None and first.callee else None,
    )
    if missing is None:
        return finding
    if after == END:
        return structs.replace(
            finding,
            fault="stopped_early",
            family="failure",
            decades=decades,
            missing=missing,
            summary=f"{operation.name} in {operation.service} ends after {_name(before)}, "
            f"where {_name(missing)} should follow ({share})",
        )
    return structs.replace(
        finding,
        fault="missing_step",
        family="failure",
        decades=decades,
        missing=missing,
        operation=name_of(missing) if missing.startswith(CALL) else operation.name,
        summary=f"{operation.service} left out {_name(missing)} in {operation.name}: after "
        f"{_name(before)} came {_name(after)} at once ({share})",
    )


def _unanswered_by(operation: Operation, finding: Finding) -> str | None:
    """The service that usually answers this call or takes up this message; None: it is no such thing."""
    if operation.kind not in ("CLIENT", "PRODUCER") or finding.missing is None:
        return None
    return callee_of(finding.missing)


def _unanswered(finding: Finding, operation: Operation, callee: str) -> Finding:
    """A call that got no answer is held against who should have given it.

    Where nobody failed for want of it, only the callee's spans may be missing.
    """
    name = name_of(finding.missing or "")
    is_message = operation.kind == "PRODUCER"
    failed = any(visit.has_error for visit in finding.visits)
    hurts = failed or is_message
    return structs.replace(
        finding,
        service=callee,
        operation=name,
        fault="not_taken_up" if is_message else "no_answer",
        family="failure" if hurts else "path",
        decades=finding.decades if hurts else min(NEW_PATH_WEIGHT * finding.decades, NEW_PATH_DECADES_MAX),
        summary=f"{callee} did not take up {name}, which {operation.service} sent"
        if is_message
        else f"{callee} gave no answer to {name}, which {operation.service} called"
        + (" and failed for it" if failed else ""),
        instance=None,
        refuted_by=f"a span of {name} in {callee} for the same call",
    )


def _left_out(known: OperationProfile, before: str, after: str, taken: list[Turn]) -> str | None:
    """The first regular step between the two that most of these runs do not take at all.

    None: healthy runs take none between the two, or only such as belong to a failure.
    """
    if after != END and after not in known.takes:
        return None  # another way, whose end is not known: nothing can be said to be left out
    missing = [token for token in _way(known, before, after) if not known.belongs_to_failure(token)]
    for token in missing:
        lacking = sum(all(step.token != token for step in turn.visit.steps) for turn in taken)
        if 2 * lacking > len(taken):
            return token
    return None


def _way(known: OperationProfile, before: str, after: str) -> list[str]:
    """The steps that healthy runs take between two others, by the most usual way; empty if there is none."""
    way: list[str] = []
    at = before
    while at in known.follows:
        nexts = {t: n for t, n in known.follows[at].items() if t not in way and (t != END or after == END)}
        going_on = {t: n for t, n in nexts.items() if t != END}
        if not going_on:
            break
        at = max(sorted(going_on), key=going_on.__getitem__)
        if at == after:
            return way
        way.append(at)
    return way if after == END else []


def _region(operation: Operation, turn: Turn, before: str, usual: str) -> str:
    """The code region: between the last regular step and the one that should have followed."""
    if turn.before is not None and turn.before.is_line:
        begin = place(turn.before.record) or name_of(before)
    else:
        begin = _place(operation, before)
    return f"{begin} … {_place(operation, usual)}"


def _place(operation: Operation, token: str) -> str:
    if token in BEGIN.values():
        return f"{operation.name} start"
    if token == END:
        return f"{operation.name} end"
    return name_of(token) if token.startswith(LOG) else f"{name_of(token)} start"


def _name(token: str) -> str:
    """A step as a person would say it."""
    if token in BEGIN.values():
        return "the start"
    if token == END:
        return "the end"
    if token.startswith(CALL):
        callee = callee_of(token)
        return f'"{name_of(token)}"' + (f" in {callee}" if callee else "")
    return f"the line at {name_of(token)}"


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
