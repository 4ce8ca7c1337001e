"""arq: the trace is a key of the job beside arq's own, which a worker without this library does not look at.

Each try of a job has a span of its own, below whoever enqueued it. A cron job begins a trace with each turn.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from functools import partial, wraps
from importlib import import_module
from typing import Any, Final

from opentelemetry.context.context import Context

from tracing.handoff import Handoff, Patch
from tracing.instrumentation.messaging import fuse, is_wanted, processing, sending
from tracing.propagation import messages
from tracing.scopes import get_context, set_context
from tracing.spans.scopes import fail

SYSTEM: Final = "arq"
KEY: Final = "backtrail"  # in the job as it is stored, beside arq's `t`, `f`, `a`, `k`, `et`
TASK_NAME: Final = "arq.job.function"
RETRY: Final = "arq.retry"  # of a try that asked for another one: the reason

Serializer = Callable[[dict[str, Any]], bytes]
Deserializer = Callable[[bytes], dict[str, Any]]


def connection_patches() -> Sequence[Handoff]:
    """Enqueuing, and how a job is stored then."""
    module = import_module("arq.connections")
    return [
        Patch(module.ArqRedis, "enqueue_job", _enqueue_job),
        Patch(module, "serialize_job", _serialize_job),
    ]


def worker_patches() -> Sequence[Handoff]:
    """Each try of a job, the reading of it, and the timer of cron jobs."""
    module = import_module("arq.worker")
    watch = _Watch()
    return [
        watch,
        Patch(module.Worker, "run_job", _run_job),
        Patch(module, "deserialize_job_raw", partial(_deserialize_job_raw, watch)),
        Patch(module.Worker, "run_cron", _run_cron),
    ]


# ---------------------------------------------------------------- enqueuing


def _enqueue_job(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    async def enqueue_job(self: Any, function: str, *args: Any, **kwargs: Any) -> Any:
        if not is_wanted():
            return await original(self, function, *args, **kwargs)
        queue = kwargs.get("_queue_name") or self.default_queue_name
        with sending(SYSTEM, str(queue), function, {TASK_NAME: function}) as span:
            job = await original(self, function, *args, **kwargs)
            if job is not None:  # else there is one of this id already
                span.set_attribute("messaging.message.id", job.job_id)
            return job

    return enqueue_job


def _serialize_job(original: Callable[..., bytes]) -> Callable[..., bytes]:
    @wraps(original)
    def serialize_job(*args: Any, serializer: Serializer | None = None, **kwargs: Any) -> bytes:
        dump = serializer or pickle.dumps

        def with_trace(job: dict[str, Any]) -> bytes:
            return dump({**job, KEY: messages.texts()})

        return original(*args, serializer=with_trace if is_wanted() else serializer, **kwargs)

    return serialize_job


# ---------------------------------------------------------------- running


class _Try:
    """One run of a job: begins once the job was read, and ends with what the worker does about it."""

    def __init__(self, worker: Any, job_id: str) -> None:
        self.worker = worker
        self._job_id = job_id
        self._processing: processing | None = None
        self._span: Any = None

    def begin(self, function: str, job: dict[str, Any]) -> None:
        """Make the span of the run current in the worker's task, from which the job's is started."""
        about = {TASK_NAME: function, "messaging.message.id": self._job_id}
        self._processing = processing(SYSTEM, self.worker.queue_name, job.get(KEY), function, about)
        self._span = self._processing.__enter__()

    def raised(self, error: BaseException) -> None:
        """What the job's coroutine raised, which the worker catches."""
        if self._span is None:
            return
        try:
            if isinstance(error, _retries()):
                self._span.set_attribute(RETRY, repr(error))
            else:
                fail(self._span, error, record=True, set_status=True)
        except Exception as failure:
            fuse.failed(failure)

    def end(self) -> None:
        """End the span, if there is one."""
        if self._processing is not None:
            self._processing.__exit__(None, None, None)


def _retries() -> tuple[type[BaseException], ...]:
    module = import_module("arq.worker")
    return module.Retry, module.RetryJob


_current: Final[ContextVar[_Try | None]] = ContextVar("tracing.arq", default=None)


def _run_job(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    async def run_job(self: Any, job_id: str, *args: Any, **kwargs: Any) -> Any:
        if not is_wanted():
            return await original(self, job_id, *args, **kwargs)
        run = _Try(self, job_id)
        _current.set(run)  # of the task that the worker has made for this run alone
        try:
            return await original(self, job_id, *args, **kwargs)
        finally:
            run.end()

    return run_job


def _deserialize_job_raw(watch: _Watch, original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def deserialize_job_raw(stored: bytes, *, deserializer: Deserializer | None = None) -> Any:
        run = _current.get()
        if run is None:
            return original(stored, deserializer=deserializer)
        read: list[dict[str, Any]] = []

        def noting(raw: bytes) -> dict[str, Any]:
            read.append((deserializer or pickle.loads)(raw))
            return read[0]

        job = original(stored, deserializer=noting)
        try:
            watch.see(run.worker.functions.get(job[0]))
            run.begin(job[0], read[0])
        except Exception as error:
            fuse.failed(error)
        return job

    return deserialize_job_raw


class _Watch:
    """Has coroutines of jobs tell what they raise; the worker itself catches it and tells nobody."""

    def __init__(self) -> None:
        self._watched: dict[int, tuple[Any, Any]] = {}  # of each function, by its identity: it, and its own
        self.on = False

    def install(self) -> None:
        """From now on `see` watches."""
        self.on = True

    def remove(self) -> None:
        """Give the functions their own coroutines back."""
        self.on = False
        watched, self._watched = self._watched, {}
        for function, original in watched.values():
            function.coroutine = original

    def see(self, function: Any) -> None:
        """Watch a function of a worker's, from now on."""
        if self.on and function is not None and id(function) not in self._watched:
            self._watched[id(function)] = (function, function.coroutine)
            function.coroutine = _telling(function.coroutine)


def _telling(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    async def coroutine(*args: Any, **kwargs: Any) -> Any:
        try:
            return await original(*args, **kwargs)
        except BaseException as error:
            run = _current.get()
            if run is not None:
                run.raised(error)
            raise

    return coroutine


def _run_cron(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    async def run_cron(self: Any, *args: Any, **kwargs: Any) -> Any:
        previous = get_context()
        set_context(Context())  # whatever the worker was started in is nothing to these jobs
        try:
            return await original(self, *args, **kwargs)
        finally:
            set_context(previous)

    return run_cron
