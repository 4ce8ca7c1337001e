"""What a program sees of errors of queues, programs and processes has no frame of ours."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import queue
import subprocess
import traceback
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

import tracing
import tracing.handoff
from tracing.testing import Captured

OURS = str(Path(tracing.handoff.__file__).parent)


def _task_done() -> None:
    queue.Queue[int]().task_done()


def _get_nowait() -> None:
    asyncio.Queue[int]().get_nowait()


def _async_task_done() -> None:
    asyncio.Queue[int]().task_done()


def _cancelled_get() -> None:
    async def main() -> None:
        task = asyncio.ensure_future(asyncio.Queue[int]().get())
        await asyncio.sleep(0)
        task.cancel()
        await task

    asyncio.run(main())


def _after_shutdown() -> None:
    executor = ProcessPoolExecutor(1)
    executor.shutdown()
    executor.submit(int)


def _started_twice() -> None:
    process = multiprocessing.get_context("fork").Process(target=int)
    process.start()
    try:
        process.start()
    finally:
        process.join()


ERRORS: dict[str, Callable[[], object]] = {
    "Queue.get": lambda: queue.Queue[int]().get(block=False),
    "Queue.task_done": _task_done,
    "asyncio.Queue.get_nowait": _get_nowait,
    "asyncio.Queue.get": _cancelled_get,
    "asyncio.Queue.task_done": _async_task_done,
    "subprocess": lambda: subprocess.run(["/nowhere/to/be/found"], check=False),
    "ProcessPoolExecutor.submit": _after_shutdown,
    "Process.start": _started_twice,
}


def shown(fail: Callable[[], object]) -> list[str]:
    """The files in the traceback of what it raises."""
    try:
        fail()
    except (Exception, asyncio.CancelledError) as error:
        return [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
    raise AssertionError("it did not fail")


@pytest.mark.parametrize("name", ERRORS)
def test_an_error_looks_as_it_would_without_us(name: str, tracing_capture: Captured) -> None:
    """The same files in the same order, inside a span and outside any."""
    tracing.uninstrument()
    without = shown(ERRORS[name])
    tracing.instrument()
    for inside in (contextlib.nullcontext(), tracing.span("request")):
        with inside:
            with_us = shown(ERRORS[name])
            assert with_us == without
            assert not [file for file in with_us if file.startswith(OURS)]
