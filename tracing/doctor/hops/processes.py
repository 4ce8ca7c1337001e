"""Other processes of the same program, and other programs."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

from tracing.doctor.hop import DEADLINE_S, Hop, Wait, Way, Work, future, joined, nothing, quietly, simple

FRESH = 8  # each is a new interpreter
FORKED = 50


def _process(method: str) -> Any:
    @asynccontextmanager
    async def opened() -> AsyncIterator[Way]:
        context: Any = multiprocessing.get_context(method)

        def go(work: Work, tag: str) -> Wait:
            process = context.Process(target=quietly, args=(work, tag))
            process.start()
            return joined(process.join)

        def cancel(tag: str) -> Wait:
            process = context.Process(target=_hang)
            process.start()
            process.terminate()
            return joined(process.join)

        yield Way(go, cancel)

    return opened


def _hang() -> None:
    """Longer than anybody waits."""
    import threading

    threading.Event().wait(DEADLINE_S)


def _pool(method: str) -> Any:
    @asynccontextmanager
    async def opened() -> AsyncIterator[Way]:
        context: Any = multiprocessing.get_context(method)
        with context.Pool(2) as pool:

            def go(work: Work, tag: str) -> Wait:
                return joined(pool.apply_async(quietly, (work, tag)).get)

            yield Way(go)

    return opened


@asynccontextmanager
async def _pool_map() -> AsyncIterator[Way]:
    with multiprocessing.get_context("fork").Pool(2) as pool:

        def go(work: Work, tag: str) -> Wait:
            return joined(pool.starmap_async(quietly, [(work, tag)]).get)

        yield Way(go)


def _executor(method: str) -> Any:
    @asynccontextmanager
    async def opened() -> AsyncIterator[Way]:
        with ProcessPoolExecutor(2, multiprocessing.get_context(method)) as executor:

            def cancel(tag: str) -> Wait:
                futures = [executor.submit(sum, range(100_000)) for _ in range(20)]
                for one in futures:
                    one.cancel()
                return nothing

            yield Way(lambda work, tag: future(executor.submit(work, tag)), cancel)

    return opened


def _subprocess(program: Sequence[str]) -> Any:
    def go(work: Work, tag: str) -> Wait:
        process = subprocess.Popen([*program, work.__name__, tag])

        def wait(timeout_s: float) -> None:
            process.wait(timeout_s)

        return joined(wait)

    return simple(lambda: go)


_PROCESSES = ("processes",)
_POOLS = ("process-pools",)


def hops(program: Sequence[str]) -> list[Hop]:
    """The hops of this group.

    Args:
        program: the command of a Python program that sets its library up as programs do, and then does one
            piece of work: its name, `visit` or `fail`, and the tag are the last two arguments.
    """
    return [
        Hop("multiprocessing.Process, fork", _process("fork"), contexts=FORKED, by=_PROCESSES),
        Hop("multiprocessing.Process, spawn", _process("spawn"), contexts=FRESH, by=_PROCESSES),
        Hop("multiprocessing.Process, forkserver", _process("forkserver"), contexts=FRESH, by=_PROCESSES),
        Hop("multiprocessing.Pool, fork", _pool("fork"), by=_POOLS),
        Hop("multiprocessing.Pool, spawn", _pool("spawn"), by=_POOLS),
        Hop("multiprocessing.Pool.starmap", _pool_map, by=_POOLS),
        Hop("ProcessPoolExecutor, fork", _executor("fork"), by=_POOLS),
        Hop("ProcessPoolExecutor, spawn", _executor("spawn"), by=_POOLS),
        Hop("subprocess", _subprocess(program), contexts=FRESH, by=("subprocesses",)),
    ]


HOPS = hops([sys.executable, "-m", "tracing.doctor.program"])
