"""`multiprocessing.Pool` and `ThreadPool`: what a pool runs belongs to who asked for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import wraps
from multiprocessing.pool import Pool, ThreadPool
from typing import Any, Final

from tracing.handoff.parcel import packed
from tracing.handoff.patch import Patch, Patches
from tracing.handoff.threads import carried


def _work(pool: Pool, function: Callable[..., Any]) -> Callable[..., Any]:
    if not pools.on:
        return function
    return carried(function) if isinstance(pool, ThreadPool) else packed(function)


def _callback(function: Callable[..., Any] | None) -> Callable[..., Any] | None:
    """Called by a thread of the pool, in this process."""
    return function if function is None or not pools.on else carried(function)


def _apply_async(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def apply_async(
        self: Pool,
        func: Callable[..., Any],
        args: Any = (),
        kwds: Any = {},  # noqa: B006  # as the original has it
        callback: Callable[..., Any] | None = None,
        error_callback: Callable[..., Any] | None = None,
    ) -> Any:
        return original(self, _work(self, func), args, kwds, _callback(callback), _callback(error_callback))

    return apply_async


def _map_async(original: Callable[..., Any]) -> Callable[..., Any]:
    """`map`, `starmap` and their asynchronous forms come through here."""

    @wraps(original)
    def map_async(
        self: Pool,
        func: Callable[..., Any],
        iterable: Iterable[Any],
        mapper: Any,
        chunksize: int | None = None,
        callback: Callable[..., Any] | None = None,
        error_callback: Callable[..., Any] | None = None,
    ) -> Any:
        callbacks = _callback(callback), _callback(error_callback)
        return original(self, _work(self, func), iterable, mapper, chunksize, *callbacks)

    return map_async


def _imap(original: Callable[..., Any]) -> Callable[..., Any]:
    """`imap` and `imap_unordered`."""

    @wraps(original)
    def imap(self: Pool, func: Callable[..., Any], iterable: Iterable[Any], chunksize: int = 1) -> Any:
        return original(self, _work(self, func), iterable, chunksize)

    return imap


pools: Final = Patches(
    Patch(Pool, "apply_async", _apply_async),
    Patch(Pool, "_map_async", _map_async),
    Patch(Pool, "imap", _imap),
    Patch(Pool, "imap_unordered", _imap),
)
