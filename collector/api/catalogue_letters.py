"""What the API offers about dead letters; a part of `catalogue`."""

from __future__ import annotations

from typing import Final

from collector.api import shapes
from collector.api.letters import PAGE_LETTERS_MAX
from collector.api.operations import Order, Question
from collector.api.parameters import Parameter

_UID: Final = "c2a1f00d8e7b4b7f9d3e5a6c7b8d9e0f-1734"

QUESTIONS: Final = (
    Question(
        name="listDeadLetters",
        path="/api/v1/dead-letters",
        summary="Records that the store refuses, in the order they came; none where it refuses nothing",
        ask=lambda answers, given: answers.dead_letters.list(**given),
        answer=shapes.DeadLettersObject,
        parameters=(
            Parameter(
                name="limit",
                kind="integer",
                description="how many, oldest first",
                minimum=1,
                maximum=PAGE_LETTERS_MAX,
                default=50,
                example=50,
            ),
            Parameter(name="cursor", kind="text", description="`cursor` of the page before"),
        ),
        problems=("invalid-query",),
    ),
    Question(
        name="getDeadLetter",
        path="/api/v1/dead-letters/{uid}",
        summary="A record that the store refuses, what was sent, and why it was refused",
        ask=lambda answers, given: answers.dead_letters.show(**given),
        answer=shapes.WholeDeadLetterObject,
        parameters=(
            Parameter(name="uid", kind="text", description="of the record", example=_UID, place="path"),
        ),
        problems=("not-found",),
    ),
)

ORDERS: Final = (
    Order(
        name="replayDeadLetters",
        path="/api/v1/dead-letters/replay",
        summary="Send dead letters again, as they are or mended; what is stored is no longer one",
        carry_out=lambda answers, body: answers.dead_letters.replay(body.uids, records=body.records),
        body=shapes.ReplayBody,
        answer=shapes.ReplayedObject,
        example={"uids": [_UID]},
        answer_example={"stored": 1, "already_stored": 0, "refused": [], "left": 0},
        problems=("not-found", "invalid-query"),
        right="ingest",
    ),
    Order(
        name="dropDeadLetters",
        path="/api/v1/dead-letters/drop",
        summary="Give dead letters up: their records are lost",
        carry_out=lambda answers, body: answers.dead_letters.drop(body.uids),
        body=shapes.DropBody,
        answer=shapes.DroppedObject,
        example={"uids": [_UID]},
        answer_example={"dropped": 1, "left": 0},
        problems=("not-found",),
    ),
)
