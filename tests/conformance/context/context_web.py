"""What the hops over HTTP share: the doctor's, under the name that the files here have for it."""

from __future__ import annotations

from tracing.doctor.web import (
    CLIENT_THREADS,
    CONNECTIONS,
    CONTEXTS,
    DEADLINE_S,
    Desk,
    Errand,
    Held,
    on_a_loop,
    served,
    through_tasks,
    through_threads,
    uvicorn_server,
    werkzeug_server,
)

__all__ = [
    "CLIENT_THREADS",
    "CONNECTIONS",
    "CONTEXTS",
    "DEADLINE_S",
    "Desk",
    "Errand",
    "Held",
    "on_a_loop",
    "served",
    "through_tasks",
    "through_threads",
    "uvicorn_server",
    "werkzeug_server",
]
