"""What the API offers about lost contexts; a part of `catalogue`."""

from __future__ import annotations

from typing import Final

from collector.api import context_shapes
from collector.api.operations import Question
from collector.api.parameters import Parameter

_TIME: Final = "in human words (`15m`, `yesterday 14:00`), RFC 3339, or epoch nanoseconds"

QUESTIONS: Final = (
    Question(
        name="listContextLosses",
        path="/api/v1/context-losses",
        summary="Where the context is lost: what arrived without it, and what it probably belongs to",
        ask=lambda answers, given: answers.context_losses(**given),
        answer=context_shapes.ContextLossesObject,
        parameters=(
            Parameter(
                name="start",
                kind="time",
                description=f"earliest time, included: {_TIME}; by default an hour before the end",
                example="1h",
            ),
            Parameter(
                name="end",
                kind="time",
                description=f"latest time, not included: {_TIME}; by default now",
                example="now",
            ),
            Parameter(
                name="service",
                kind="text",
                description="only places in this service, or whose probable parent is in it",
                example="orders",
            ),
        ),
        problems=("invalid-query",),
    ),
)
