"""The daemon thread that brings a process's lines to the collector, and what dead neighbours left.

It is never waited for: at exit the close line is written and nothing else, since whatever is unsent is on
disk, where the next process of the service, `backtrail agent` or `backtrail run` finds it.
"""

from __future__ import annotations

import contextvars
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from opentelemetry import context as otel_context

from tracing.errors import RetryableExportError
from tracing.spool.courier import Carrier, Courier
from tracing.spool.forking import begin_after_forks
from tracing.spool.format import service_directory
from tracing.spool.leftovers import ship_left
from tracing.spool.limits import ShipperLimits
from tracing.spool.own import OwnSource
from tracing.spool.spool import Spool

THREAD_NAME: Final = "backtrail-shipper"
# Names of the keys that every instrumentation of OpenTelemetry asks for, and the plain one for older
# ones (opentelemetry.instrumentation.utils, `is_instrumentation_enabled`).
SUPPRESS_KEYS: Final = (
    "_SUPPRESS_INSTRUMENTATION_KEY",
    "_SUPPRESS_HTTP_INSTRUMENTATION_KEY",
    "suppress_instrumentation",
)


class _Run:
    """What one process's thread needs; made anew after a fork, when threads and locks are worthless."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.is_stopping = False
        self.wake = threading.Event()
        self.ended = threading.Event()
        self.progress = threading.Condition()
        self.sent: dict[str, int] = {}  # by spool id
        self.flushes_wanted = 0  # calls of `flush` so far
        self.flushes_done = 0  # of them, those made before a look that left nothing of the dead

    @property
    def is_flushing(self) -> bool:
        """Whether somebody waits for what dead neighbours have left."""
        return self.flushes_done < self.flushes_wanted


class Shipper:
    """Ships the spool of this process and those of dead processes of its service.

    Its thread starts with `start`, and again in each forked child that logs.
    """

    def __init__(
        self, spool: Spool, make_carrier: Callable[[], Carrier], limits: ShipperLimits | None = None
    ) -> None:
        """Prepare only.

        Args:
            make_carrier: is called once in each process, by its shipping thread.
        """
        self._spool = spool
        self._limits = limits or ShipperLimits()
        self._make_carrier = make_carrier
        self._counts: Counter[str] = Counter()
        self._run: _Run | None = None
        self._is_wanted = False
        self.last_failure: str | None = None  # for a person to read; None since the last success

    def start(self) -> None:
        """Start the thread, unless it runs; in a process that is yet to be forked, its children start it."""
        if not self._is_wanted:
            self._is_wanted = True
            self._spool.when_born_again(self._begin)
            begin_after_forks(self._begin)

    def flush(self, timeout_s: float) -> bool:
        """Wait until what this process has logged so far is durable at the collector.

        What dead processes of the service have left, and nobody else ships, is waited for as well: to a
        short-lived program it is the same to lose a line of its own as one of the run before it.

        Returns:
            False when `timeout_s` passed before that. Nothing is lost then: the thread goes on.
        """
        run, own = self._run, self._spool.current()
        target = own.position
        if run is None or run.pid != os.getpid():
            return target == 0
        with run.progress:
            run.flushes_wanted += 1
            flush = run.flushes_wanted
            run.wake.set()
            return run.progress.wait_for(
                lambda: run.sent.get(own.spool_id, 0) >= target and run.flushes_done >= flush, timeout_s
            )

    def stop(self, timeout_s: float) -> None:
        """Ship once more what there is, then end the thread; after `timeout_s` it is left to itself."""
        run, self._run, self._is_wanted = self._run, None, False
        if run is not None and run.pid == os.getpid():
            run.is_stopping = True
            run.wake.set()
            run.ended.wait(timeout_s)

    def stats(self) -> dict[str, int]:
        """Return counts of this process: `sent_batches`, `sent_bytes`, `sent_lines`, `refused_lines`,
        `ship_failures`, `given_up_batches`, `ship_errors` (of ours: nobody foresaw them).
        """
        counts = self._counts
        return {
            "sent_batches": counts["batches"],
            "sent_bytes": counts["bytes"],
            "sent_lines": counts["lines"],
            "refused_lines": counts["refused_lines"],
            "ship_failures": counts["failures"],
            "given_up_batches": counts["given_up_batches"],
            "ship_errors": counts["errors"],
        }

    def _begin(self) -> None:
        """Start this process's thread, if it is wanted and not there."""
        if not self._is_wanted or (self._run is not None and self._run.pid == os.getpid()):
            return
        if self._run is not None:
            self._counts = Counter()  # those were the parent's
        run = self._run = _Run()
        thread = threading.Thread(target=self._work, args=(run,), name=THREAD_NAME, daemon=True)
        with _signals_blocked():
            # An empty context: what instruments threads must not carry the caller's trace into this one.
            contextvars.Context().run(thread.start)

    def _work(self, run: _Run) -> None:
        # The courier is a local on purpose: after a fork it lives on, untouched, in the frame of a thread
        # that is no more, and the child never runs into a lock inside its half-read connection.
        _suppress_instrumentation()
        courier = Courier(self._make_carrier(), self._limits, counts=self._counts)
        source = OwnSource(self._spool.current())
        scan_at_s = 0.0
        is_last_round = False
        while not is_last_round:
            is_stopping = run.is_stopping
            wait_s = self._limits.poll_interval_s
            try:
                source = self._same_or_next(source)
                is_scan_due = is_stopping or run.is_flushing or time.monotonic() >= scan_at_s
                if is_scan_due:
                    scan_at_s = time.monotonic() + self._limits.scan_interval_s
                is_all_sent = self._round(courier, source, run, scan=is_scan_due)
                is_last_round = is_stopping and is_all_sent
                wait_s = wait_s if is_all_sent else 0.0
            except RetryableExportError as error:
                is_last_round = is_stopping
                wait_s = error.retry_after_s or 0.0
            except Exception as error:  # of ours; a thread that ends would lose everything after it
                self._counts["errors"] += 1
                self.last_failure = repr(error)
                is_last_round = is_stopping
                wait_s = self._limits.backoff_max_s
            if not is_last_round:
                run.wake.wait(wait_s)
                run.wake.clear()
        source.close()
        courier.close()
        run.ended.set()

    def _round(self, courier: Courier, source: OwnSource, run: _Run, *, scan: bool) -> bool:
        """Ship a turn of our own, then of each neighbour that needs it; return whether all is sent."""
        try:
            is_all_sent = self._ship_own(courier, source, run)
            if scan:
                flushes = run.flushes_wanted  # before the look: a later one wants a look of its own
                is_left_sent = ship_left(service_directory(self._spool.root, self._spool.service), courier)
                is_all_sent &= is_left_sent
                if is_left_sent:
                    with run.progress:
                        run.flushes_done = flushes
                        run.progress.notify_all()
            return is_all_sent
        finally:
            source.tidy()  # also while the collector is away: bounds and losses do not wait for it

    def _ship_own(self, courier: Courier, source: OwnSource, run: _Run) -> bool:
        try:
            return courier.ship(source)
        finally:
            self.last_failure = courier.last_failure
            with run.progress:
                run.sent = {source.own.spool_id: source.sent}
                run.progress.notify_all()

    def _same_or_next(self, source: OwnSource) -> OwnSource:
        """Follow the spool to a new incarnation; what the last one has left is adopted like any other's."""
        own = self._spool.current()
        if own is source.own:
            return source
        source.close()
        return OwnSource(own)


@contextmanager
def _signals_blocked() -> Iterator[None]:
    """Block what a thread that is started now shall never be given.

    A program may block signals in its threads and wait for them in one: a thread of ours that does not
    block them would be the one they go to, and SIGTERM would end the program that is waiting for it.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    faults = {signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGABRT}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals() - faults)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _suppress_instrumentation() -> None:
    """Tell every instrumentation of OpenTelemetry that this thread's requests are not to be traced."""
    context = otel_context.get_current()
    for key in SUPPRESS_KEYS:
        context = otel_context.set_value(getattr(otel_context, key, key), True, context)
    otel_context.attach(context)
