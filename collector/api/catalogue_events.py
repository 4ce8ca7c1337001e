"""What the API offers about changes and findings; a part of `catalogue`."""

from __future__ import annotations

from typing import Final

from collector.api import event_shapes
from collector.api.events import PAGE_EVENTS_MAX
from collector.api.operations import Order, Question
from collector.api.parameters import Parameter
from collector.changes import ToldChange
from collector.watch.events import STATES

_TIME: Final = "in human words (`15m`, `yesterday 14:00`), RFC 3339, or epoch nanoseconds"
_START: Final = Parameter(
    name="start", kind="time", description=f"earliest time, included: {_TIME}", example="2h"
)
_END: Final = Parameter(
    name="end", kind="time", description=f"latest time, not included: {_TIME}", example="now"
)
_SERVICE: Final = Parameter(name="service", kind="text", description="name of the service", example="orders")
_LIMIT: Final = Parameter(
    name="limit",
    kind="integer",
    description="how many, newest first",
    minimum=1,
    maximum=PAGE_EVENTS_MAX,
    default=50,
    example=50,
)
_CURSOR: Final = Parameter(name="cursor", kind="text", description="`cursor` of the page before")

QUESTIONS: Final = (
    Question(
        name="listChanges",
        path="/api/v1/changes",
        summary="What was changed on purpose: deploys, settings, flags; newest first, a page at a time",
        ask=lambda answers, given: answers.changes.list(**given),
        answer=event_shapes.ChangesObject,
        parameters=(
            _START,
            _END,
            _SERVICE,
            Parameter(name="kind", kind="text", description="only of this kind", example="flag"),
            _LIMIT,
            _CURSOR,
        ),
        problems=("invalid-query",),
    ),
    Question(
        name="listFindings",
        path="/api/v1/findings",
        summary="What the watch has found not to be as usual; newest first, a page at a time",
        ask=lambda answers, given: answers.findings.list(**given),
        answer=event_shapes.FindingsObject,
        parameters=(
            _START,
            _END,
            _SERVICE,
            Parameter(
                name="state",
                kind="text",
                description="only these moments of an episode",
                choices=STATES,
                example="began",
            ),
            _LIMIT,
            _CURSOR,
        ),
        problems=("invalid-query",),
    ),
)

ORDERS: Final = (
    Order(
        name="recordChange",
        path="/api/v1/changes",
        summary="Tell that something was changed on purpose; with a `timestamp`, twice is harmless",
        carry_out=lambda answers, body: answers.changes.record(body),
        body=ToldChange,
        answer=event_shapes.RecordedChangeObject,
        example={"kind": "flag", "service": "orders", "name": "new-pricing", "old": "off", "new": "on"},
        answer_example={"uid": "9b2f0c7d4e1a4c0f8f5d2b7a6c3e1d90"},
        problems=("bad-request", "invalid-query", "overloaded"),
        right="ingest",
    ),
)
