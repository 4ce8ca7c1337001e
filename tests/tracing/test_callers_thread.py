"""What a log call and a span do on the thread of whoever makes them: one write, under one lock, and no wait.

The interpreter's profiler sees each call, of Python's functions and of C's; nothing is patched.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, Final, NamedTuple

import pytest

import tracing
from tracing.runtime import Handle, _runtime
from tracing.spool.incarnation import Incarnation

DEAD_COLLECTOR: Final = "http://127.0.0.1:9"  # the shipper is on, and tries again and again
LOCKS: Final = ("lock", "RLock", "Condition", "Semaphore", "Event", "Queue")
WAITS: Final = frozenset({"sleep", "select", "poll", "epoll", "join", "wait", "fsync", "fdatasync"})
NETWORK: Final = frozenset({"socket", "_socket", "ssl", "_ssl", "select", "http.client"})
# Rooms whose code belongs to the shipper's thread.
ELSEWHERE: Final = ("shipper.py", "courier.py", "transport.py", "http.py", "leftovers.py", "adoption.py")


class Call(NamedTuple):
    """A call of a function written in C."""

    name: str
    module: str
    owner: object  # what a method is of
    caller: object  # the object whose method calls it


class Seen:
    """Every call of this thread while it is looked at."""

    def __init__(self, action: Callable[[], None]) -> None:
        self.calls: list[Call] = []
        self.functions: set[tuple[str, str]] = set()  # of Python's: file and name
        before = sys.getprofile()
        sys.setprofile(self._note)
        try:
            action()
        finally:
            sys.setprofile(before)

    def _note(self, frame: FrameType, event: str, argument: Any) -> None:
        if event == "c_call":
            owner = getattr(argument, "__self__", None)
            module = getattr(argument, "__module__", None) or ""
            self.calls.append(Call(argument.__name__, module, owner, frame.f_locals.get("self")))
        elif event == "call":
            self.functions.add((Path(frame.f_code.co_filename).name, frame.f_code.co_name))

    @property
    def files(self) -> set[str]:
        """Where the functions of Python's are from."""
        return {file for file, _ in self.functions}

    @property
    def waits(self) -> set[str]:
        """Calls that may take as long as somebody else pleases."""
        in_c = {call.name for call in self.calls if not isinstance(call.owner, str | bytes)}
        return (in_c & WAITS) | {name for file, name in self.functions if file == "threading.py"} & WAITS

    def held(self, lock: object) -> list[list[str]]:
        """Names of what is called each time that a lock is held."""
        spans: list[list[str]] = []
        depth = 0
        for call in self.calls:
            if call.owner is lock and call.name in {"acquire", "__enter__"}:
                depth += 1
                if depth == 1:
                    spans.append([])
            elif call.owner is lock and call.name in {"release", "__exit__"}:
                depth -= 1
            elif depth:
                spans[-1].append(call.name)
        return spans

    def other_locks(self, lock: object) -> list[Call]:
        """Locks that are taken beside the spool's own; those of the program's handlers are the program's."""
        return [
            call
            for call in self.calls
            if call.name in {"acquire", "__enter__"}
            and type(call.owner).__name__ in LOCKS
            and call.owner is not lock
            and not is_theirs(call.caller)
        ]


def is_theirs(caller: object) -> bool:
    """Whether it is a handler that is not of ours: the program's, or the test runner's."""
    return isinstance(caller, logging.Handler) and not type(caller).__module__.startswith("tracing.")


@pytest.fixture(params=["write", "mapped"])
def handle(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """A program that is traced in the ordinary way."""
    handle = tracing.configure(
        service="orders", spool_dir=tmp_path / "spool", collector_url=DEAD_COLLECTOR, spool_mode=request.param
    )
    yield handle
    tracing.uninstall()


@pytest.fixture
def logger() -> logging.Logger:
    """A logger whose records only we want."""
    logger = logging.getLogger("callers.thread")
    logger.propagate = False
    logger.handlers = [logging.NullHandler()]
    logger.setLevel(logging.INFO)
    return logger


def incarnation() -> Incarnation:
    """Where the lines of this process go."""
    parts = _runtime.parts
    assert parts is not None and parts.spool is not None
    return parts.spool.current()


def quiet_moment(action: Callable[[], None]) -> Seen:
    """An action as it is nearly always: not the one in some hundred that looks at the disk again.

    The shipper's thread may have asked for that at any moment, so a quiet one is waited for.
    """
    deadline_s = time.monotonic() + 30.0
    while True:
        seen = Seen(action)
        if "spool.py" not in seen.files and all(len(calls) < 8 for calls in seen.held(incarnation().lock)):
            return seen
        assert time.monotonic() < deadline_s, seen.calls


def work(logger: logging.Logger) -> dict[str, Callable[[], None]]:
    """What a program does, by name."""

    def failed() -> None:
        try:
            raise ValueError("no")
        except ValueError:
            logger.exception("failed")

    def span() -> None:
        with tracing.span("work", order=7):
            pass

    return {
        "log": lambda: logger.info("order %s of %d", "c-1", 7),
        "extra": lambda: logger.info("order", extra={"customer": "ann", "odd": object()}),
        "exception": failed,
        "span": span,
    }


@pytest.mark.parametrize("what", ["log", "extra", "exception", "span"])
def test_one_lock_and_nothing_in_it_but_the_write(handle: Handle, logger: logging.Logger, what: str) -> None:
    """The line is finished before the lock is taken, and no other lock is."""
    with tracing.span("around"):
        action = work(logger)[what]
        for _ in range(3):  # levels, places and names are met for the first time
            action()
        seen = quiet_moment(action)
    lock = incarnation().lock
    inside = seen.held(lock)
    written = ["write"] if handle.settings.spool_mode == "write" else ["len", "lseek"]
    assert [[name for name in calls if name != "len" or written[0] == "len"] for calls in inside] in (
        [written],
        [[*written, "len"]],
    )
    assert seen.other_locks(lock) == []


@pytest.mark.parametrize("what", ["log", "extra", "exception", "span"])
def test_nothing_waits_and_nothing_is_sent(handle: Handle, logger: logging.Logger, what: str) -> None:
    """Over hundreds of calls, with looks at the disk among them, beside a dead collector."""
    action = work(logger)[what]

    def many() -> None:
        with tracing.span("around"):
            for _ in range(400):
                action()

    seen = Seen(many)
    names = {call.name for call in seen.calls}
    assert "acquire" in names, "else nothing was seen"
    assert not seen.waits
    assert not {call.module for call in seen.calls} & NETWORK
    assert not seen.files & set(ELSEWHERE)
    assert not {type(call.owner).__name__ for call in seen.calls} & {"socket", "Thread", "SSLSocket"}


def locks_of_ours() -> list[Any]:
    """Every lock in a module of ours, or in an object of our classes; the spool's own aside."""
    ours = [module for name, module in list(sys.modules.items()) if name.startswith("tracing")]
    ours += [thing for thing in gc.get_objects() if str(type(thing).__module__).startswith("tracing.")]
    places = [vars(thing) for thing in ours if hasattr(thing, "__dict__")]
    values = {id(value): value for place in places for value in list(place.values())}
    kinds = (type(threading.Lock()), type(threading.RLock()), threading.Condition)
    own = incarnation().lock
    return [value for value in values.values() if isinstance(value, kinds) and value is not own]


@pytest.mark.parametrize("what", ["log", "extra", "exception", "span"])
def test_no_other_lock_is_needed(handle: Handle, logger: logging.Logger, what: str) -> None:
    """With every other one held by somebody, the program goes on; to the profiler `with lock` is no call."""
    action = work(logger)[what]
    action()
    held, release = threading.Event(), threading.Event()
    locks = locks_of_ours()
    assert any(lock is _runtime.lock for lock in locks), "else none was found"

    def hold() -> None:
        with contextlib.ExitStack() as stack:
            for lock in locks:
                stack.enter_context(lock)
            held.set()
            release.wait()

    holder, worker = threading.Thread(target=hold), threading.Thread(target=action, daemon=True)
    holder.start()
    held.wait()
    worker.start()
    worker.join(10.0)  # for a hung test, not a promise
    is_through = not worker.is_alive()
    release.set()
    holder.join()
    assert is_through


def test_the_end_waits_for_nothing(handle: Handle, logger: logging.Logger) -> None:
    """What is written at exit is one line; the shipper's thread is left where it is."""
    logger.info("something")
    parts = _runtime.parts
    assert parts is not None
    seen = Seen(lambda: parts.close("exit"))
    assert not seen.waits
    assert not {call.module for call in seen.calls} & NETWORK
    assert incarnation().ended == "exit"
