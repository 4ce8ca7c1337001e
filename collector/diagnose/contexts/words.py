"""How a loss of context is told: a sentence, and what to do about it."""

from __future__ import annotations

from collector.diagnose.contexts.model import Hop, LossKind, ProbableParent
from collector.diagnose.contexts.spans import Place
from collector.model import Record


def hop_of(record: Record) -> Hop:
    """How work comes to a span, as far as its kind and attributes say."""
    if record.span_kind == "CONSUMER":
        return "message"
    if record.span_kind == "SERVER":
        is_rpc = any(key in record.attributes for key in ("rpc.system", "rpc.system.name", "rpc.service"))
        return "rpc" if is_rpc else "http"
    return "process"


def summary(kind: LossKind, what: str, service: str, count: int, seen: int, parent: ProbableParent) -> str:
    """One sentence: what happens where, how often, and what it probably belongs to."""
    often = f"{count} of {seen}"
    said = {
        "new_trace": f"{what} in {service} begins traces of its own ({often})",
        "no_ids": f"{what} in {service} writes lines without ids ({often})",
        "missing_parent": f"{what} in {service} names a parent that never came ({often})",
    }[kind]
    return f"{said}; it probably belongs to {parent.operation} in {parent.service}"


def gone(place: Place) -> str:
    """What to look at where the span that used to begin the work is not there any more."""
    return (
        f"{place.operation} in {place.service}, which it was below before, has no spans any more: "
        "tracing.instrument() comes too late there or leaves its library out: "
        f"`backtrail doctor --app MODULE` where {place.service} runs"
    )


def advice(kind: LossKind, hop: Hop, place: Place, service: str, source: str | None) -> str:
    """What to look at, the likeliest first.

    Args:
        place: of the probable parent.
        source: `file:line` of a line that was written there.
    """
    caller = place.service
    at = f" at {source}" if source else ""
    if kind == "missing_parent":
        return (
            f"the parent's span was not recorded: see whether {caller} samples its spans away, sends them to "
            "another collector, or is a proxy that makes ids and records nothing"
        )
    if hop == "http":
        return f"{caller} sends no `traceparent`, or a proxy drops it: `backtrail doctor` where {caller} runs"
    if hop == "rpc":
        return f"{caller} sends no `traceparent` in its metadata: `backtrail doctor` where {caller} runs"
    if hop == "message":
        return (
            f"the message has no `traceparent`, or {service} does not take it: `backtrail doctor` "
            f"where {caller} and where {service} run"
        )
    return (
        f"a thread, a queue or an executor does not carry the context{at}: `backtrail doctor --app MODULE` "
        f"where {service} runs says whether tracing.instrument() comes too late or leaves it out; "
        "by hand: contextvars.copy_context().run"
    )
