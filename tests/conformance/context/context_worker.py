"""Workers of task queues, processes of their own, and how their tasks say that they are done."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import context_side
from context_hop import DEADLINE_S, Wait

POLL_S = 0.005


def set_up_worker() -> bool:
    """Turn the library on where a group's file is imported by a worker, not by whoever tries its hops.

    Returns:
        Whether this is a worker.
    """
    is_worker = Path(sys.argv[0]) != Path(context_side.__file__)
    if is_worker:
        context_side.set_up_child()
    return is_worker


def note(what: str) -> Path:
    """The file by which a task, in whichever process, says that it got somewhere."""
    lines = os.environ[context_side.SIDE_VARIABLE].partition(":")[2]
    return Path(f"{lines}-{quote(what, safe='')}")


def until(is_so: Callable[[], bool]) -> None:
    """Return once something is so."""
    deadline_s = time.monotonic() + DEADLINE_S
    while not is_so():
        assert time.monotonic() < deadline_s, "it was never done"
        time.sleep(POLL_S)


def done(tag: str) -> Wait:
    """A `Wait` for the work of a tag."""

    async def waited() -> None:
        until(note(f"done {tag}").exists)

    return waited


def do(name: str, tag: str) -> None:
    """What a task does: the work of a name, which may fail, and a note of its end."""
    try:
        getattr(context_side, name)(tag)
    finally:
        note(f"done {tag}").touch()


@contextmanager
def process(*arguments: str) -> Iterator[None]:
    """A worker, ended in order, so that all of it is written."""
    worker = subprocess.Popen(
        [sys.executable, *arguments],
        cwd=Path(__file__).parent,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        worker.send_signal(signal.SIGTERM)
        try:
            worker.wait(DEADLINE_S)
        except subprocess.TimeoutExpired:
            worker.kill()
            raise
