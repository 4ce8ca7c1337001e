"""How long a question may still take: set around it, asked after wherever much is read.

A thread cannot be stopped from outside, so what reads looks at the time itself, each time before it asks an
index or a cluster for something. Without a deadline that costs as much as reading one variable.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from collector.errors import TookTooLong

_deadline: ContextVar[tuple[float, float] | None] = ContextVar("backtrail_deadline", default=None)


@contextmanager
def within(timeout_s: float, *, since_s: float) -> Iterator[None]:
    """Let what happens inside, in this thread, take so long at most.

    Args:
        since_s: when the time began, as `time.monotonic` has it.
    """
    token = _deadline.set((since_s + timeout_s, timeout_s))
    try:
        yield
    finally:
        _deadline.reset(token)


def check_deadline() -> None:
    """Go on only while there is time.

    Raises:
        TookTooLong: there is none left.
    """
    deadline = _deadline.get()
    if deadline is not None and time.monotonic() > deadline[0]:
        raise TookTooLong(deadline[1])
