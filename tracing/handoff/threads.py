"""Threads begin where they were started; what an executor runs belongs to who submitted it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context
from functools import partial, wraps
from typing import Any, Final

from tracing.context import NO_FIELDS, Snapshot, fields_variable, get_fields
from tracing.handoff.patch import Patch, without_our_frame
from tracing.health import Fuse
from tracing.scopes import current_context, set_context

fuse: Final = Fuse("hand-off to threads")

# Threads that serve whoever comes: they begin without a context, and get one with each piece of work.
# Started inside a request, they would otherwise carry its trace for as long as they live.
_SERVANTS: Final = frozenset(
    {
        "concurrent.futures.thread",
        "concurrent.futures.process",
        "multiprocessing.pool",
        "multiprocessing.queues",
        "logging.handlers",
        "tracing.spool.shipper",
    }
)


def _serves(thread: threading.Thread) -> bool:
    target = getattr(thread, "_target", None)
    return getattr(target, "__module__", None) in _SERVANTS or type(thread).__module__ in _SERVANTS


class _Bootstrap:
    """Stands for `Thread._bootstrap`, which `start` reads once and hands to the new thread to call.

    That reading is the hand-off: it happens where the thread is started, and nothing of ours is on the
    stack of either thread afterwards, so that tracebacks and `stack_info` say what they would say without us.
    """

    def __init__(self, original: Callable[..., Any]) -> None:
        self._original = original

    def __get__(self, thread: threading.Thread | None, owner: type | None = None) -> Callable[[], None]:
        """Have the thread begin with what is current here and nothing else, as it would with nothing."""
        begin: Callable[[], None] = self._original.__get__(thread, owner)
        if thread is None or not thread_start.on or fuse.blown:
            return begin
        try:
            context, fields = current_context(), get_fields()
            if (not context and fields is NO_FIELDS) or _serves(thread):
                return begin
            own: Context | None = getattr(thread, "_context", None)
            if own:  # since Python 3.14 a thread has one; it is not empty when it was inherited or chosen
                return begin
            run = (Context() if own is None else own).run
            run(set_context, context)  # functions in C: a frame of ours costs as much as all the rest
            if fields is not NO_FIELDS:
                run(fields_variable.set, fields)
            return partial(run, begin) if own is None else begin
        except Exception as error:
            fuse.failed(error)
            return begin


class Carried:
    """Calls a function with what was current where it was submitted, without a frame of ours around it.

    To call this object, CPython reads `__call__`, calls what it finds, and lets go of that before it goes on:
    the reading installs, the letting go puts back.
    """

    __slots__ = ("_function", "_snapshot")

    def __init__(self, function: Callable[..., Any], snapshot: Snapshot) -> None:
        self._function = function
        self._snapshot = snapshot

    @property
    def __call__(self) -> Callable[..., Any]:
        called = _Called(self._function)
        called.before = Snapshot()
        self._snapshot.install()
        return called


class _Called(partial[Any]):
    """A function that is being called; when it has been, what was current before is current again."""

    before: Snapshot

    def __del__(self) -> None:
        self.before.install()


def carried(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function to be called in another thread with what is current here; never raises."""
    if fuse.blown or not callable(function):
        return function
    try:
        snapshot = Snapshot()
        return function if snapshot.empty else Carried(function, snapshot)
    except Exception as error:
        fuse.failed(error)
        return function


def _submit(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def submit(self: ThreadPoolExecutor, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        if executor_submit.on:
            fn = carried(fn)
        try:
            return original(self, fn, *args, **kwargs)
        except BaseException as error:
            without_our_frame(error)
            raise

    return submit


thread_start: Final = Patch(threading.Thread, "_bootstrap", _Bootstrap)
executor_submit: Final = Patch(ThreadPoolExecutor, "submit", _submit)
