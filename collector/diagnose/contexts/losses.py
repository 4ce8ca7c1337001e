"""The losses of context in a stretch of time: pure, from traces and lines that were read before.

A place is told when it is normal there to have a context, as it had one before, or when what it belongs to
can be shown not to be chance; never because a span begins a trace or a line has no id, which is what jobs,
probes and start-up messages do.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

from collector.diagnose.contexts import words
from collector.diagnose.contexts.model import (
    EXAMPLES_MAX,
    ContextLoss,
    LossExample,
    LossKind,
    ProbableParent,
    shortened,
)
from collector.diagnose.contexts.parents import Found, Moment, calling, going_on, going_on_elsewhere, sending
from collector.diagnose.contexts.spans import Place, Seen, Spans, place_of, process_of
from collector.diagnose.visits import operation_name
from collector.model import Record, Trace
from tracing.semconv import EVENT_NAME

LOSSES_MIN: Final = 3  # of one place; fewer may be a person trying something
NORMAL_MIN: Final = 3  # so often something must have been seen with a context before that is called normal
ABNORMAL_SHARE_MAX: Final = 0.1  # of what lacks its context where that is normal
WITH_IDS_SHARE_MIN: Final = 0.2  # of a service's lines, for its lines to have ids normally


class Evidence(NamedTuple):
    """What was read of a stretch of time.

    Attributes:
        traces: that began in it.
        loose: log lines outside any trace.
    """

    traces: Sequence[Trace]
    loose: Sequence[Record]


class Site(NamedTuple):
    """Where log lines are written."""

    service: str
    logger: str | None
    where: str  # `file:line`, or what the line reads without ids


def context_losses(now: Evidence, before: Evidence, *, settled_ns: int) -> list[ContextLoss]:
    """Every place at which the context is lost, the surest first.

    Args:
        before: of a stretch of time before, which says what is normal.
        settled_ns: what ended later may still be incomplete, and its parents are not missed yet.
    """
    here, there = Spans(now.traces), Spans(before.traces)
    found = [
        *_new_traces(here, there),
        *_missing_parents(here, there, settled_ns),
        *_without_ids(now, before, here),
    ]
    found.sort(key=lambda loss: (-loss.confidence, -loss.count, loss.service, loss.summary))
    return found


# ---------------------------------------------------------------- spans that begin a trace


def _new_traces(here: Spans, there: Spans) -> list[ContextLoss]:
    losses = []
    for place, seen in here.by_place.items():
        roots = [one for one in seen if one.is_root and not one.node.record.links]
        if len(roots) < LOSSES_MIN:
            continue
        found = _parent_of(place, roots, here)
        usual = _usual(there.by_place.get(place, ()), lambda one: one.is_root)
        if usual is not None:
            found = _more_sure(found, usual, there.parents_of(place))
        if found is not None:
            losses.append(_span_loss("new_trace", place, roots, here, there, found))
    return losses


def _parent_of(place: Place, roots: Sequence[Seen], here: Spans) -> Found | None:
    if place.span_kind == "SERVER":
        return calling(roots, here) or going_on_elsewhere(roots, here)
    if place.span_kind == "CONSUMER":
        return sending(roots, here)
    moments = [Moment(process_of(root.node.record), root.node.record.timestamp_ns) for root in roots]
    return going_on(moments, here, (root.trace.trace_id for root in roots))


def _usual(seen: Sequence[Seen], is_without: Callable[[Seen], bool]) -> float | None:
    """How sure it is that a place has a context normally, by what was seen of it; `None`: it has not.

    Source: Laplace's rule of succession.
    """
    without = sum(map(is_without, seen))
    kept = len(seen) - without
    if kept < NORMAL_MIN or without > ABNORMAL_SHARE_MAX * len(seen):
        return None
    return (kept + 1) / (len(seen) + 2)


def _more_sure(found: Found | None, usual: float, parents: Mapping[Place, int]) -> Found | None:
    """What is known from before: that the place has a parent, and where."""
    services = {place.service for place in parents}
    if found is not None and (not parents or found.place.service in services):
        return found._replace(confidence=1 - (1 - found.confidence) * (1 - usual))
    if not parents:
        return None
    place = max(parents, key=lambda one: (parents[one], one))
    return Found(place, "it is the parent in traces where the context is kept", {}, usual)


# ---------------------------------------------------------------- spans whose parent never came


def _missing_parents(here: Spans, there: Spans, settled_ns: int) -> list[ContextLoss]:
    losses = []
    for place, seen in here.by_place.items():
        orphans = [one for one in seen if one.is_orphan and _is_settled(one.trace, settled_ns)]
        usual = _usual(there.by_place.get(place, ()), lambda one: one.is_orphan)
        parents = there.parents_of(place)
        if len(orphans) < LOSSES_MIN or usual is None or not parents:
            continue
        parent = max(parents, key=lambda one: (parents[one], one))
        found = Found(parent, "it is the parent in traces where its span arrives", {}, usual)
        losses.append(_span_loss("missing_parent", place, orphans, here, there, found))
    return losses


def _is_settled(trace: Trace, settled_ns: int) -> bool:
    """Whether all has come that will: nothing is running, nothing was lost on the way, it is not fresh."""
    is_lost = trace.truncated or any(gap.kind == "lost" for gap in trace.gaps)
    return trace.completeness != "open" and not is_lost and trace.end_ns <= settled_ns


def _span_loss(
    kind: LossKind, place: Place, lost: Sequence[Seen], here: Spans, there: Spans, found: Found
) -> ContextLoss:
    seen = len(here.by_place[place])
    line = next((log for one in lost for log in one.node.logs if log.source is not None), None)
    source = _source(line) if line is not None else None
    parent = _parent(found)
    gone = _gone(found.place, here, there) if kind == "new_trace" else None
    hop = words.hop_of(gone or lost[0].node.record)
    return ContextLoss(
        kind=kind,
        service=place.service,
        operation=place.operation,
        logger=None,
        source=source,
        hop=hop,
        count=len(lost),
        seen=seen,
        summary=words.summary(kind, place.operation, place.service, len(lost), seen, parent),
        parent=parent,
        confidence=round(found.confidence, 3),
        advice=words.gone(found.place)
        if gone is not None
        else words.advice(kind, hop, found.place, place.service, source),
        examples=[
            LossExample(
                uid=one.node.record.uid,
                timestamp_ns=one.node.record.timestamp_ns,
                trace_id=one.trace.trace_id,
                span_id=one.node.span_id,
                quote=shortened(one.node.name),
            )
            for one in lost[:EXAMPLES_MAX]
        ],
    )


def _gone(place: Place, here: Spans, there: Spans) -> Record | None:
    """A span that began work in a service before, where there are none any more: all below it lost that."""
    if place.span_kind not in ("SERVER", "CONSUMER") or place in here.by_place:
        return None
    return there.by_place[place][0].node.record


def _parent(found: Found) -> ProbableParent:
    example = next(iter(found.matches.values()), None)
    return ProbableParent(
        service=found.place.service,
        operation=found.place.operation,
        span_kind=found.place.span_kind,
        how=found.how,
        matched=len(found.matches),
        trace_id=example.trace.trace_id if example is not None else None,
        span_id=example.node.span_id if example is not None else None,
    )


# ---------------------------------------------------------------- log lines without ids


def _without_ids(now: Evidence, before: Evidence, here: Spans) -> list[ContextLoss]:
    loose, kept = _by_site(now.loose), _kept(now.traces)
    loose_before, kept_before = _by_site(before.loose), _kept(before.traces)
    with_ids = Counter[str]()
    for site, places in (*kept.items(), *kept_before.items()):
        with_ids[site.service] += places.total()
    without = Counter(line.service for line in now.loose)
    losses = []
    for site, lines in loose.items():
        with_ids_here = with_ids[site.service]
        if len(lines) < LOSSES_MIN or with_ids_here < WITH_IDS_SHARE_MIN * (
            with_ids_here + without[site.service]
        ):
            continue
        found = going_on([Moment(process_of(line), line.timestamp_ns) for line in lines], here, ())
        places = kept_before.get(site, Counter())
        usual = _usual_line(places.total(), len(loose_before.get(site, ())))
        if usual is not None and found is None:
            place = max(places, key=lambda one: (places[one], one))
            found = Found(place, "it was written there while the context was kept", {}, usual)
        elif usual is not None and found is not None:
            found = found._replace(confidence=1 - (1 - found.confidence) * (1 - usual))
        if found is not None:
            losses.append(_line_loss(site, lines, len(lines) + kept.get(site, Counter()).total(), found))
    return losses


def _usual_line(kept: int, without: int) -> float | None:
    if kept < NORMAL_MIN or without > ABNORMAL_SHARE_MAX * (kept + without):
        return None
    return (kept + 1) / (kept + without + 2)


def _by_site(lines: Sequence[Record]) -> dict[Site, list[Record]]:
    sites: dict[Site, list[Record]] = defaultdict(list)
    for line in lines:
        if EVENT_NAME not in line.attributes:  # a change or a finding belongs to no request
            sites[_site(line)].append(line)
    return sites


def _kept(traces: Sequence[Trace]) -> dict[Site, Counter[Place]]:
    """Of each site whose lines have ids: in which spans they were written, and how often."""
    places: dict[Site, Counter[Place]] = defaultdict(Counter)
    for trace in traces:
        for node in trace.walk():
            place = place_of(node)
            for line in node.logs:
                places[_site(line)][place] += 1
    return places


def _site(line: Record) -> Site:
    source = line.source
    if source is not None and source.file is not None:
        return Site(line.service, line.logger, f"{source.file}:{source.line}")
    return Site(line.service, line.logger, operation_name(line.message or ""))


def _line_loss(site: Site, lines: Sequence[Record], seen: int, found: Found) -> ContextLoss:
    source = _source(lines[0])
    parent = _parent(found)
    what = f"{site.logger or 'a logger'} at {source}" if source else f"{site.logger or 'a logger'}"
    return ContextLoss(
        kind="no_ids",
        service=site.service,
        operation=None,
        logger=site.logger,
        source=source,
        hop="process",
        count=len(lines),
        seen=seen,
        summary=words.summary("no_ids", what, site.service, len(lines), seen, parent),
        parent=parent,
        confidence=round(found.confidence, 3),
        advice=words.advice("no_ids", "process", found.place, site.service, source),
        examples=[
            LossExample(
                uid=line.uid,
                timestamp_ns=line.timestamp_ns,
                trace_id=None,
                span_id=None,
                quote=shortened(line.message or ""),
            )
            for line in lines[:EXAMPLES_MAX]
        ],
    )


def _source(line: Record) -> str | None:
    source = line.source
    if source is None or source.file is None:
        return None
    at = f"{source.file}:{source.line}" if source.line is not None else source.file
    return f"{at} in {source.function}" if source.function else at
