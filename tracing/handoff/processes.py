"""Processes, by fork, spawn or forkserver.

A forked child goes on where its parent was. A child that is started afresh gets the context, and the
library's settings, in the pickled process object. Workers of a pool serve whoever comes: they begin with
nothing, and what they run brings its own context.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from multiprocessing.process import BaseProcess
from typing import Any, Final

from opentelemetry.context.context import Context

from tracing.context import NO_FIELDS, Snapshot
from tracing.handoff.parcel import Parcel
from tracing.handoff.patch import Patch, without_our_frame
from tracing.health import Fuse

fuse: Final = Fuse("hand-off to processes")

_SERVANTS: Final = frozenset(
    {"concurrent.futures.process", "multiprocessing.pool", "multiprocessing.managers"}
)
_NOTHING: Final = Snapshot.of(Context(), NO_FIELDS)


class _Run:
    """Stands for a process's `run`, and takes itself away before it calls that."""

    def __init__(self, process: BaseProcess, snapshot: Snapshot) -> None:
        self._process = process
        self._snapshot: Snapshot | None = snapshot
        self._parcel: Parcel | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Asked where a child is started afresh: snapshots hold spans, which cannot be pickled."""
        parcel = Parcel(self._snapshot) if self._snapshot is not None else self._parcel
        return {"_process": self._process, "_snapshot": None, "_parcel": parcel}

    def __call__(self) -> None:
        process = self._process
        del process.run  # the class's own is there again
        try:
            snapshot = self._parcel.unpacked() if self._parcel is not None else self._snapshot
            if snapshot is not None:
                snapshot.install()
        except Exception as error:
            fuse.failed(error)
        process.run()


def _start(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def start(self: BaseProcess) -> None:
        if process_start.on and not fuse.blown:
            try:
                serves = getattr(getattr(self, "_target", None), "__module__", None) in _SERVANTS
                if "run" not in self.__dict__:
                    self.run = _Run(self, _NOTHING if serves else Snapshot())  # type: ignore[method-assign]
            except Exception as error:
                fuse.failed(error)
        try:
            original(self)
        except BaseException as error:
            without_our_frame(error)
            raise
        finally:
            if isinstance(self.__dict__.get("run"), _Run):
                del self.run

    return start


process_start: Final = Patch(BaseProcess, "start", _start)
