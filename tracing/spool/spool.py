"""The sink that an application writes to: one incarnation after the other, a new one after each fork."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Mapping
from os import getpid
from pathlib import Path
from typing import Any

from tracing.spool.endings import close_at_the_end_of_a_worker
from tracing.spool.format import LOSS_REASONS, fitting_resource
from tracing.spool.incarnation import Incarnation
from tracing.spool.limits import SpoolLimits


class Spool:
    """A `tracing.sink.Sink` that keeps each line once `write` has returned, whatever kills the process.

    Written: the line is in the page cache of the system, which outlives the process; with
    `SpoolLimits.fsync` it is on the disk. Exceptions, all counted by `stats`: no directory that can be
    written (the line is in memory), and lines shed over a bound.
    Forked: `write` knows its process (`tracing.forks`), so that a child has an identity, a directory and a
    lock of its own from its first line on, also under servers that do not run Python's fork hooks.
    Threads: any thread may write; a line waits for at most the one write that is under way.
    Raises nothing: a line that cannot be taken is counted.

    Attributes:
        write: takes one line, its newline included, and its severity number, which decides what is shed
            first. It is the incarnation's own, because a call in between would be felt; one that was kept
            from before a fork works as well.
    """

    write: Callable[[bytes, int], None]

    def __init__(
        self, root: Path, *, service: str, resource: Mapping[str, Any], limits: SpoolLimits | None = None
    ) -> None:
        """Prepare only: the directory is made by the first line."""
        self.root = root
        self.service = service
        self._resource = fitting_resource(resource)
        self._limits = limits or SpoolLimits()
        self._become(self._incarnate(parent=None))
        self._births: dict[int, threading.RLock] = {}
        self._when_born: list[Callable[[], None]] = []
        self._failures = 0
        self.last_failure: str | None = None  # of the errors that nobody foresaw, for a person to read
        if hasattr(os, "register_at_fork"):  # a second line of defence: process ids may repeat
            os.register_at_fork(after_in_child=_Forked(self))
        close_at_the_end_of_a_worker(self.close)

    def close(self, ended: str = "exit") -> None:
        """Write the close line.

        With `exit` (the process is about to end) the spool stays ours, and late lines follow the close
        line. With any other word it is given up: whoever ships may adopt it, and a later line begins a
        new incarnation.
        """
        try:
            own = self._own
            if own.mine[0] or _has_ended(own):
                own.close(ended)
                if ended != "exit":
                    own.leave()
        except Exception as error:
            self.failed(error)

    def write_elsewhere(self, own: Incarnation, line: bytes, severity_number: int) -> None:
        """Take a line that an incarnation could not take."""
        try:
            if own is not self._own:  # whoever has this `write` has it from before a fork
                self._own.write(line, severity_number)
            elif _has_ended(own):
                own.write_late(line, severity_number)
            else:
                self._born_again(own).write(line, severity_number)
        except Exception as error:
            self.failed(error)

    def failed(self, error: Exception) -> None:
        """Count a line that was lost by an error that nobody foresaw."""
        self._failures += 1
        self.last_failure = repr(error)

    def current(self) -> Incarnation:
        """Return the incarnation of this process, a new one after a fork."""
        own = self._own
        return own if own.mine[0] or _has_ended(own) else self._born_again(own)

    def when_born_again(self, callback: Callable[[], None]) -> None:
        """Have a callback run in each forked child once it has an incarnation of its own."""
        self._when_born.append(callback)

    @property
    def spool_id(self) -> str:
        """Identity of this process's incarnation, 32 hex."""
        return self.current().spool_id

    def stats(self) -> dict[str, int]:
        """Return what became of the lines of this process.

        `lines` and `bytes` taken, `memory_lines` of them that no disk could take at first, `memory_bytes`
        that are in memory now, and `lost_<reason>` for each reason of `LOSS_REASONS`.
        """
        own = self.current()
        losses = {f"lost_{reason}": own.losses.totals[reason] for reason in LOSS_REASONS}
        losses["lost_write_failed"] += self._failures
        return {
            "lines": own.lines,
            "bytes": own.position,
            "memory_lines": own.memory_lines_total,
            "memory_bytes": own.memory.bytes,
            **losses,
        }

    def _incarnate(self, parent: Mapping[str, Any] | None) -> Incarnation:
        return Incarnation(
            self.root,
            service=self.service,
            resource=self._resource,
            limits=self._limits,
            home=self,
            parent=parent,
        )

    def _become(self, own: Incarnation) -> None:
        self._own = own
        self.write = own.write

    def _born_again(self, before: Incarnation) -> Incarnation:
        """Begin a new incarnation; of several threads that ask at once, one does."""
        pid = getpid()
        # One atomic operation, and a lock that no thread of the parent can have held at the fork.
        with self._births.setdefault(pid, threading.RLock()):
            if self._own is not before:
                return self._own
            before.forget()
            self._become(self._incarnate({"spool_id": before.spool_id, "pid": before.born_pid}))
            self._births = {}
            self._failures = 0
        close_at_the_end_of_a_worker(self.close)
        for callback in self._when_born:
            callback()
        return self._own


def _has_ended(own: Incarnation) -> bool:
    """Whether this process has written its close line, and only late lines may follow."""
    return own.ended == "exit" and own.born_pid == getpid()


class _Forked:
    """Tells a spool's incarnation that it is another process now; does not keep the spool alive."""

    def __init__(self, spool: Spool) -> None:
        self._spool = weakref.ref(spool)

    def __call__(self) -> None:
        spool = self._spool()
        if spool is not None:
            spool._own.disown()
