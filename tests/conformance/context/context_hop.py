"""What a hop is: the doctor's words, under the name that the files here have for them."""

from __future__ import annotations

from tracing.doctor.hop import (
    CONTEXTS,
    DEADLINE_S,
    AsyncErrand,
    Errand,
    Failure,
    Hop,
    Wait,
    Way,
    Work,
    drain,
    future,
    joined,
    nothing,
    quietly,
    request,
    run_plain,
    simple,
    workers,
)

__all__ = [
    "CONTEXTS",
    "DEADLINE_S",
    "AsyncErrand",
    "Errand",
    "Failure",
    "Hop",
    "Wait",
    "Way",
    "Work",
    "drain",
    "future",
    "joined",
    "nothing",
    "quietly",
    "request",
    "run_plain",
    "simple",
    "workers",
]
