"""What a span or a line that lost its context probably belongs to, and how sure that is.

Three ways to find out, by the kind of hop: what was going on in the same process at that time, which call
that nobody answered is about the same request, and which message that nobody took has the same destination.
Each is told only where chance does not explain it as well.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from collector.diagnose.contexts.chance import CHANCE_MAX, tail
from collector.diagnose.contexts.spans import Course, Place, Seen, Spans, process_of
from collector.model import Record
from tracing.semconv import HOST_NAME, HTTP_REQUEST_METHOD, MESSAGING_DESTINATION

# So many of the losses of one place must have a parent of one place; the others may have come late.
MATCHED_SHARE_MIN: Final = 0.6
OTHER_CLOCK_NS: Final = 50_000_000  # how far clocks of two hosts may be apart that are kept in step
SAME_CLOCK_NS: Final = 2_000_000
WAITED_NS_MAX: Final = 600_000_000_000  # in a queue; what waits longer has more than a lost context

SURE: Final = 0.99  # the two name the same message
ELSEWHERE: Final = 0.7  # it cannot be chance; what brought the one about may have brought the other about too
CONTAINED: Final = 0.9  # it cannot be chance; that one is the other's parent is still inferred
SAME_PLACE: Final = 0.75  # the same destination, one after the other


class Found(NamedTuple):
    """The place of probable parents, and of each loss, by its index, the parent."""

    place: Place
    how: str
    matches: Mapping[int, Seen]
    confidence: float


class Moment(NamedTuple):
    """When and in which process something was without context."""

    process: str
    time_ns: int


def going_on(moments: Sequence[Moment], spans: Spans, besides: Iterable[str]) -> Found | None:
    """What was going on in the same process each time, more often than chance has it.

    Args:
        besides: ids of traces that are the losses' own.
    """
    processes = {moment.process for moment in moments}
    own = set(besides)
    there = [
        (one, process)
        for one in spans.seen
        if (process := process_of(one.node.record)) in processes and one.trace.trace_id not in own
    ]
    return _around(moments, there, spans, 0, "it was going on in the same process each time", CONTAINED)


def going_on_elsewhere(roots: Sequence[Seen], spans: Spans) -> Found | None:
    """What was going on in another service each time: a call that its own side has no span of."""
    own = {root.trace.trace_id for root in roots}
    service = roots[0].node.service
    there = [
        (one, "")
        for one in spans.seen
        if one.node.service != service and one.trace.trace_id not in own and one.node.record.duration_ns
    ]
    moments = [Moment("", root.node.record.timestamp_ns) for root in roots]
    how = f"it was going on in another service each time that {service} began"
    return _around(moments, there, spans, SAME_CLOCK_NS, how, ELSEWHERE)


def _around(
    moments: Sequence[Moment],
    there: Iterable[tuple[Seen, str]],
    spans: Spans,
    off_ns: int,
    how: str,
    confidence: float,
) -> Found | None:
    """The place of which a span was going on at these moments, if that is no chance.

    Args:
        there: spans, each with what stands for its process.
    """
    sorts: dict[Place, dict[str, list[Seen]]] = defaultdict(lambda: defaultdict(list))
    for one, process in there:
        sorts[one.place][process].append(one)
    best: tuple[int, float, Place] | None = None
    matches: dict[int, Seen] = {}
    for place, by_process in sorts.items():
        courses = {process: Course(seen) for process, seen in by_process.items()}
        busy = {
            process: course.busy.share_of(spans.first_ns, spans.last_ns)
            for process, course in courses.items()
        }
        found = {
            index: parent
            for index, moment in enumerate(moments)
            if moment.process in courses
            and (parent := next(courses[moment.process].at(moment.time_ns, off_ns), None)) is not None
        }
        share = sum(busy.get(moment.process, 0.0) for moment in moments) / len(moments)
        if _is_no_chance(len(moments), len(found), share, len(sorts)):
            rank = (len(found), -share, place)  # of two that contain each other, the inner one
            if best is None or rank > best:
                best, matches = rank, found
    if best is None:
        return None
    hits, _, place = best
    return Found(place, how, matches, confidence * hits / len(moments))


def calling(roots: Sequence[Seen], spans: Spans) -> Found | None:
    """Calls that got no span from the other side, and are about the same request at the same time."""
    own = {root.trace.trace_id for root in roots}
    by_request: dict[tuple[str, ...], dict[Place, list[Seen]]] = defaultdict(lambda: defaultdict(list))
    for one in spans.seen:
        if one.place.span_kind == "CLIENT" and not one.node.children and one.trace.trace_id not in own:
            key = request_of(one.node.record)
            if key is not None:
                by_request[key][one.place].append(one)
    courses = {
        key: {place: Course(calls) for place, calls in by_place.items()}
        for key, by_place in by_request.items()
    }
    busy = {
        (key, place): course.busy.share_of(spans.first_ns, spans.last_ns)
        for key, by_place in courses.items()
        for place, course in by_place.items()
    }
    matches: dict[Place, dict[int, Seen]] = defaultdict(dict)
    shares: dict[Place, float] = defaultdict(float)
    for index, root in enumerate(roots):
        record = root.node.record
        key = request_of(record)
        if key is None:
            continue
        for place, course in courses.get(key, {}).items():
            shares[place] += busy[key, place]
            around = course.at(record.timestamp_ns, OTHER_CLOCK_NS)
            call = next((call for call in around if _is_during(record, call.node.record)), None)
            if call is not None:
                matches[place][index] = call
    told = [
        (len(found), place)
        for place, found in matches.items()
        if _is_no_chance(len(roots), len(found), shares[place] / len(roots), len(matches))
    ]
    if not told:
        return None
    hits, place = max(told)
    how = "it called the same thing at that time, and nobody answered"
    return Found(place, how, matches[place], CONTAINED * hits / len(roots))


def sending(roots: Sequence[Seen], spans: Spans) -> Found | None:
    """Messages that nobody took and that have the same identity, or went to the same destination before."""
    own = {root.trace.trace_id for root in roots}
    sent = sorted(
        (
            one
            for one in spans.seen
            if one.place.span_kind == "PRODUCER" and not one.node.children and one.trace.trace_id not in own
        ),
        key=lambda one: one.node.record.timestamp_ns,
    )
    by_id = {_text(one.node.record, "messaging.message.id"): one for one in sent}
    by_id.pop(None, None)
    matches = {
        index: by_id[identity]
        for index, root in enumerate(roots)
        if (identity := _text(root.node.record, "messaging.message.id")) in by_id
    }
    if matches:
        found = _of_one_place(matches, len(roots), "its message has the same id", SURE)
        if found is not None:
            return found
    return _of_one_place(
        _in_turn(roots, sent), len(roots), "it sent to the same destination before", SAME_PLACE
    )


def _in_turn(roots: Sequence[Seen], sent: Sequence[Seen]) -> dict[int, Seen]:
    """Of each consumer the earliest message to its destination that no earlier consumer has."""
    waiting: dict[str, list[Seen]] = defaultdict(list)
    for one in sent:
        destination = _text(one.node.record, MESSAGING_DESTINATION)
        if destination is not None:
            waiting[destination].append(one)
    matches: dict[int, Seen] = {}
    for index in sorted(range(len(roots)), key=lambda at: roots[at].node.record.timestamp_ns):
        record = roots[index].node.record
        line = waiting.get(_text(record, MESSAGING_DESTINATION) or "", [])
        while line and line[0].node.record.timestamp_ns < record.timestamp_ns - WAITED_NS_MAX:
            del line[0]
        if line and line[0].node.record.timestamp_ns <= record.timestamp_ns + OTHER_CLOCK_NS:
            matches[index] = line.pop(0)
    return matches


def _of_one_place(matches: Mapping[int, Seen], losses: int, how: str, confidence: float) -> Found | None:
    by_place: dict[Place, dict[int, Seen]] = defaultdict(dict)
    for index, parent in matches.items():
        by_place[parent.place][index] = parent
    if not by_place:
        return None
    place, found = max(by_place.items(), key=lambda item: (len(item[1]), item[0]))
    if len(found) < MATCHED_SHARE_MIN * losses:
        return None
    return Found(place, how, found, confidence * len(found) / losses)


def request_of(record: Record) -> tuple[str, ...] | None:
    """What a call is about, in the words that both its ends have; `None`: the span does not say."""
    method = _text(record, HTTP_REQUEST_METHOD) or _text(record, "http.method")
    if method is not None:
        path = _text(record, "url.path") or _path_of(record)
        return None if path is None else ("http", method.upper(), path)
    if _text(record, "rpc.system") or _text(record, "rpc.system.name"):
        service, called = _text(record, "rpc.service"), _text(record, "rpc.method")
        return ("rpc", service or "", called or record.name or "")
    return None


def _path_of(record: Record) -> str | None:
    for key in ("url.full", "http.url", "http.target"):
        text = _text(record, key)
        if text is not None:
            try:
                return urlsplit(text).path
            except ValueError:
                return None
    return None


def _text(record: Record, key: str) -> str | None:
    value: Any = record.attributes.get(key)
    return value if isinstance(value, str) and value else None


def _is_during(called: Record, call: Record) -> bool:
    """Whether a server began its work while the client waited."""
    same = called.resource.get(HOST_NAME) is not None and called.resource.get(HOST_NAME) == call.resource.get(
        HOST_NAME
    )
    off_ns = SAME_CLOCK_NS if same else OTHER_CLOCK_NS
    return call.timestamp_ns - off_ns <= called.timestamp_ns <= call.end_ns + off_ns


def _is_no_chance(tries: int, hits: int, share: float, looked_at: int) -> bool:
    return hits >= MATCHED_SHARE_MIN * tries and tail(tries, hits, share) * looked_at <= CHANCE_MAX
