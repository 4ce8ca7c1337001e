"""Log libraries: not a way to go, but each has to say where it is."""

from __future__ import annotations

import logging
import logging.handlers
import queue
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from opentelemetry import trace
from opentelemetry.baggage import get_baggage

from tracing.doctor.hop import Failure, Hop, Wait, Way, Work, nothing, quietly, simple


def _here() -> Any:
    def go(work: Work, tag: str) -> Wait:
        quietly(work, tag)
        return nothing

    return simple(lambda: go)


def _visit(log: Callable[[str], object]) -> Work:
    """What `trial.visit` does, by another way to log."""

    def visit(tag: str) -> None:
        log(f"visit {tag} tenant={get_baggage('tenant')}")
        with trace.get_tracer("tracing.doctor").start_as_current_span(f"child {tag}"):
            pass

    return visit


def _fail(log: Callable[[str], object]) -> Work:
    visit = _visit(log)

    def fail(tag: str) -> None:
        visit(tag)
        raise Failure(tag)

    return fail


def _hop(name: str, log: Callable[[str], object], *, needs: tuple[str, ...] = (), opened: Any = None) -> Hop:
    return Hop(name, opened or _here(), needs=needs, by=needs, visit=_visit(log), fail=_fail(log))


_alone = logging.getLogger("tracing.doctor.alone")  # as `propagate=False` has it
_alone.propagate = False
_alone.addHandler(logging.NullHandler())
_queued = logging.getLogger("tracing.doctor.queued")


@asynccontextmanager
async def _listener() -> AsyncIterator[Way]:
    """A logger whose handlers are called by a thread of their own."""
    records: queue.Queue[Any] = queue.Queue()
    handler = logging.handlers.QueueHandler(records)
    listener = logging.handlers.QueueListener(records, logging.NullHandler())
    _queued.addHandler(handler)
    listener.start()

    def go(work: Work, tag: str) -> Wait:
        quietly(work, tag)
        return nothing

    try:
        yield Way(go)
    finally:
        listener.stop()
        _queued.removeHandler(handler)


def _structlog(text: str) -> None:
    import structlog

    structlog.get_logger("tracing.doctor").info(text)


def _loguru(text: str) -> None:
    from loguru import logger

    logger.info(text)


HOPS = [
    _hop("logging", logging.getLogger("tracing.doctor").info),
    _hop("logging, propagate=False", _alone.info),
    _hop("logging, QueueHandler", _queued.info, opened=_listener),
    _hop("structlog", _structlog, needs=("structlog",)),
    _hop("loguru", _loguru, needs=("loguru",)),
]
