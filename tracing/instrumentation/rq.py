"""RQ: the trace is in the job's `meta`, from whoever enqueues it to the worker's child that performs it.

Everything between goes along: jobs that wait for others, scheduled ones, jobs that change their queue. A job
that is tried again is below the attempt that failed; one that repeats begins a trace of its own with each
turn. A worker without this library keeps `meta` and does not look at it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextvars import ContextVar
from functools import wraps
from importlib import import_module
from typing import Any, Final

from opentelemetry.context.context import Context
from opentelemetry.trace import Span, SpanKind

from tracing.handoff import Handoff, Patch
from tracing.instrumentation.messaging import (
    SCOPE,
    carried,
    fuse,
    is_wanted,
    processing,
    sending,
    span_carried,
    untraced,
)
from tracing.propagation import extracted, messages
from tracing.spans import get_tracer
from tracing.spans.scopes import SpanScope, fail

SYSTEM: Final = "rq"
META: Final = "backtrail"  # the key in a job's `meta`
TASK_NAME: Final = "rq.job.func"

# The span of the job that is performed here, and its id.
_performed: Final[ContextVar[tuple[str, Span] | None]] = ContextVar("tracing.rq", default=None)


def queue_patches() -> Sequence[Handoff]:
    """Wherever a job is put into a queue, or kept until it is."""
    queue = import_module("rq.queue").Queue
    return [
        Patch(queue, "enqueue_job", _enqueue_job),
        Patch(queue, "schedule_job", _enqueue_job),
        Patch(queue, "enqueue_many", _enqueue_many),
        Patch(queue, "create_job", _create_job),
    ]


def job_patches() -> Sequence[Handoff]:
    """What runs the job's function, and what has it tried again."""
    job = import_module("rq.job").Job
    return [Patch(job, "perform", _perform), Patch(job, "retry", _retry)]


def repeat_patches() -> Sequence[Handoff]:
    """What has a job done once more."""
    return [Patch(import_module("rq.repeat").Repeat, "schedule", _schedule)]


def result_patches() -> Sequence[Handoff]:
    """Results are entries of a Redis stream, but nobody's messages."""
    result = import_module("rq.results").Result
    return [Patch(result, "save", untraced), Patch(result, "fetch_latest", untraced)]


def worker_patches() -> Sequence[Handoff]:
    """The worker, and its child, or itself, that performs the job."""
    module = import_module("rq.worker")
    names = ("Worker", "SimpleWorker")
    definers = {_definer(getattr(module, name), "execute_job") for name in names}
    performing = _definer(module.Worker, "perform_job")
    return [
        Patch(performing, "perform_job", _perform_job),
        *(Patch(definer, "execute_job", _execute_job) for definer in sorted(definers, key=str)),
    ]


def _definer(worker: type, method: str) -> type:
    """Older versions have the methods in `Worker`, newer ones in a class before it."""
    return next(one for one in worker.__mro__ if method in vars(one))


# ---------------------------------------------------------------- enqueuing


def _name(job: Any) -> str:
    """The function's; of a job that cannot be read here, which RQ itself is about to find out, its id."""
    try:
        return str(job.func_name)
    except Exception:
        return str(job.id)


def _about(job: Any) -> dict[str, Any]:
    return {TASK_NAME: _name(job), "messaging.message.id": str(job.id)}


def _sending(queue: Any, job: Any) -> SpanScope:
    return sending(SYSTEM, str(queue.name), _name(job), _about(job))


def _tell(job: Any) -> None:
    """Put what is current into a job; one whose `meta` cannot be read here stays as it is."""
    try:
        if getattr(job, "_unreadable_meta", None) is None:
            job.meta = {**job.meta, META: messages.texts()}
    except Exception as error:
        fuse.failed(error)


def _enqueue_job(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def enqueue(self: Any, job: Any, *args: Any, **kwargs: Any) -> Any:
        if not is_wanted():
            return original(self, job, *args, **kwargs)
        with _sending(self, job) as span, carried(span):
            _tell(job)
            if getattr(self, "_is_async", True):
                return original(self, job, *args, **kwargs)
        return original(self, job, *args, **kwargs)  # performs it, here and now

    return enqueue


def _enqueue_many(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def enqueue_many(self: Any, *args: Any, **kwargs: Any) -> Any:
        if not is_wanted() or not getattr(self, "_is_async", True):
            return original(self, *args, **kwargs)
        with sending(SYSTEM, str(self.name)) as span, carried(span):
            jobs = original(self, *args, **kwargs)
            span.set_attribute("messaging.batch.message_count", len(jobs))
            return jobs

    return enqueue_many


def _create_job(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def create_job(self: Any, *args: Any, **kwargs: Any) -> Any:
        job = original(self, *args, **kwargs)
        if span_carried() is not None:  # one of many
            _tell(job)
        return job

    return create_job


def _retry(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def retry(self: Any, queue: Any, *args: Any, **kwargs: Any) -> Any:
        if not is_wanted():
            return original(self, queue, *args, **kwargs)
        with _sending(queue, self) as span, carried(span):
            _tell(self)
            return original(self, queue, *args, **kwargs)

    return retry


def _schedule(original: Any) -> Any:
    function = original.__func__

    @wraps(function)
    def schedule(cls: Any, job: Any, queue: Any, *args: Any, **kwargs: Any) -> Any:
        if not is_wanted():
            return function(cls, job, queue, *args, **kwargs)
        scope = SpanScope(get_tracer(SCOPE), f"repeat {_name(job)}", Context(), attributes=_about(job))
        with scope, _sending(queue, job) as span, carried(span):
            _tell(job)
            return function(cls, job, queue, *args, **kwargs)

    return classmethod(schedule)


# ---------------------------------------------------------------- performing


def _execute_job(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def execute_job(self: Any, job: Any, *args: Any, **kwargs: Any) -> Any:
        if not is_wanted():
            return original(self, job, *args, **kwargs)
        with extracted(_headers(job)):  # what the worker says of its child, and of one that died
            return original(self, job, *args, **kwargs)

    return execute_job


def _headers(job: Any) -> Any:
    try:
        found = job.meta.get(META)
    except Exception:
        return {}
    return found if isinstance(found, dict) else {}


def _perform_job(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def perform_job(self: Any, job: Any, queue: Any, *args: Any, **kwargs: Any) -> Any:
        if not is_wanted():
            return original(self, job, queue, *args, **kwargs)
        with processing(SYSTEM, str(queue.name), _headers(job), _name(job), _about(job)) as span:
            token = _performed.set((job.id, span) if span is not None else None)
            try:
                return original(self, job, queue, *args, **kwargs)
            finally:
                _performed.reset(token)

    return perform_job


def _perform(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def perform(self: Any) -> Any:
        if not is_wanted():
            return original(self)
        performed = _performed.get()
        if performed is None or performed[0] != self.id:  # of a queue that is not asynchronous
            name = f"process {_name(self)}"
            with SpanScope(get_tracer(SCOPE), name, None, SpanKind.INTERNAL, _about(self)):
                return original(self)
        try:
            return original(self)
        except BaseException as error:  # which the worker catches
            fail(performed[1], error, record=True, set_status=True)
            raise

    return perform
