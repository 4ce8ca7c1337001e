"""Threads begin where they were started; what an executor runs belongs to who submitted it."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from tracing.context import Snapshot
from tracing.handoff.patch import Patch
from tracing.health import Fuse

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


class _Carried:
    """Stands for a thread's `run`, and takes itself away before it calls that."""

    __slots__ = ("snapshot", "thread")

    def __init__(self, thread: threading.Thread, snapshot: Snapshot) -> None:
        self.thread = thread
        self.snapshot = snapshot

    def __call__(self) -> None:
        thread, snapshot = self.thread, self.snapshot
        del thread.run  # the class's own, or the subclass's, is there again; and no cycle is left
        snapshot.install()
        thread.run()


def _start(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def start(self: threading.Thread) -> None:
        if thread_start.on and not fuse.blown:
            try:
                snapshot = Snapshot()
                target = getattr(self, "_target", None)
                serves = getattr(target, "__module__", None) in _SERVANTS
                if not snapshot.empty and not serves and "run" not in self.__dict__:
                    self.run = _Carried(self, snapshot)  # type: ignore[method-assign]
            except Exception as error:
                fuse.failed(error)
        try:
            original(self)
        except BaseException:  # no thread could be started, or this one was before
            if isinstance(self.__dict__.get("run"), _Carried):
                del self.run
            raise

    return start


def _submit(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def submit(self: ThreadPoolExecutor, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        if executor_submit.on and not fuse.blown:
            try:
                snapshot = Snapshot()
            except Exception as error:
                fuse.failed(error)
            else:
                if not snapshot.empty:
                    return original(self, snapshot.run, fn, *args, **kwargs)
        return original(self, fn, *args, **kwargs)

    return submit


thread_start: Final = Patch(threading.Thread, "start", _start)
executor_submit: Final = Patch(ThreadPoolExecutor, "submit", _submit)
