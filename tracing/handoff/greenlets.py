"""gevent and eventlet: a greenlet begins where it was spawned, and nothing else changes.

A greenlet has a `contextvars` context of its own, empty at first, which may be set until it begins. It gets
what is ours; other variables of the program are as they would be without us.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Context
from functools import wraps
from importlib import import_module
from typing import Any, Final

from tracing.context import Snapshot
from tracing.handoff.patch import Handoff, Patch
from tracing.handoff.threads import carried
from tracing.health import Fuse

fuse: Final = Fuse("hand-off to greenlets")


def _hand_over(greenlet: Any) -> None:
    """Let a greenlet that has not begun begin with what is current; one that has a context keeps it."""
    if fuse.blown:
        return
    try:
        snapshot = Snapshot()
        if not snapshot.empty and greenlet.gr_context is None and not greenlet.dead:
            context = Context()
            context.run(snapshot.install)
            greenlet.gr_context = context
    except Exception as error:
        fuse.failed(error)


# ---------------------------------------------------------------- gevent


class _SpawnCallback:
    """gevent's own hook for greenlets that are started: its class is compiled and cannot be patched."""

    def __init__(self, greenlet_class: Any) -> None:
        self._class = greenlet_class
        self.on = False

    def install(self) -> None:
        """Have gevent call us; a second call changes nothing."""
        self.on = True
        self._class.add_spawn_callback(_hand_over)

    def remove(self) -> None:
        """Have it call us no more."""
        if self.on:
            self._class.remove_spawn_callback(_hand_over)
        self.on = False


def _spawn_raw(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def spawn_raw(*args: Any, **kwargs: Any) -> Any:
        greenlet = original(*args, **kwargs)
        _hand_over(greenlet)
        return greenlet

    return spawn_raw


def _function_first(original: Callable[..., Any]) -> Callable[..., Any]:
    """A method whose first argument is what another thread is to call."""

    @wraps(original)
    def spawn(self: Any, func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return original(self, carried(func), *args, **kwargs)

    return spawn


def gevent_handoffs() -> list[Handoff]:
    """What makes gevent's greenlets and its thread pool carry the context."""
    gevent = import_module("gevent")
    pool = import_module("gevent.threadpool").ThreadPool
    return [
        _SpawnCallback(gevent.Greenlet),
        Patch(gevent, "spawn_raw", _spawn_raw),
        Patch(import_module("gevent.hub"), "spawn_raw", _spawn_raw),
        Patch(pool, "spawn", _function_first),
    ]


# ---------------------------------------------------------------- eventlet


def _green_thread(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        _hand_over(self)

    return init


def _spawn_n(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def spawn_n(seconds: float, func: Callable[..., Any], *args: Any) -> Any:
        return original(seconds, carried(func), *args)

    return spawn_n


def _execute(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def execute(meth: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return original(carried(meth), *args, **kwargs)

    return execute


def eventlet_handoffs() -> list[Handoff]:
    """What makes eventlet's green threads and its thread pool carry the context."""
    greenthread = import_module("eventlet.greenthread")
    return [
        Patch(greenthread.GreenThread, "__init__", _green_thread),
        Patch(greenthread, "_spawn_n", _spawn_n),
        Patch(import_module("eventlet.tpool"), "execute", _execute),
    ]
