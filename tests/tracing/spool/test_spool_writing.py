"""What a spool's files hold, line by line, while nothing goes wrong."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from tracing.spool import Spool, open_spool
from tracing.spool import incarnation as incarnation_module
from tracing.spool.format import SegmentHeader, service_directory
from tracing.spool.reader import read_lines, segment_paths

OpenOrders = Callable[..., Spool]


@pytest.fixture(params=["write", "mapped"])
def mode(request: pytest.FixtureRequest) -> str:
    """All of this holds for both ways of writing."""
    chosen: str = request.param
    return chosen


def the_directory(root: Path) -> Path:
    """The only spool under a root."""
    (directory,) = [path for path in (root / "orders").iterdir() if not path.name.startswith(".")]
    return directory


def test_a_silent_process_leaves_nothing(open_orders: OpenOrders, root: Path) -> None:
    """Opening is free: the directory is made by the first line."""
    spool = open_orders()
    spool.close("exit")
    assert not root.exists()


def test_a_line_is_in_the_file_when_write_returns(open_orders: OpenOrders, root: Path, helpers: Any) -> None:
    """Another reader sees it at once: nothing waits in a buffer of the process."""
    spool = open_orders()
    for number in range(3):
        spool.write(helpers.line(f"m{number}"), 9)
        assert helpers.messages(the_directory(root)) == [f"m{n}" for n in range(number + 1)]


def test_one_write_a_record(open_orders: OpenOrders, helpers: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the first line, one system call carries each, whole."""
    spool = open_orders()
    spool.write(helpers.line("first"), 9)
    written: list[bytes] = []
    real_write = os.write

    def recording(fd: int, data: bytes) -> int:
        written.append(data)
        return real_write(fd, data)

    monkeypatch.setattr(spool.current(), "_write", recording)
    lines = [helpers.line(f"m{number}") for number in range(5)]
    for line in lines:
        spool.write(line, 9)
    assert written == lines


def test_files_belong_to_their_owner_alone(open_orders: OpenOrders, root: Path, helpers: Any) -> None:
    """Log lines hold what users typed: nobody else on the machine reads them."""
    spool = open_orders(segment_bytes_max=4096)
    for number in range(100):
        spool.write(helpers.line(f"m{number}"), 9)
    directory = the_directory(root)
    assert {stat.S_IMODE(path.stat().st_mode) for path in (root, root / "orders", directory)} == {0o700}
    assert {stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()} == {0o600}
    assert {path.name for path in directory.iterdir()} >= {"lock", "shipper", "sent", "00000000.ndjson"}


def test_offsets_run_on_across_segments(open_orders: OpenOrders, root: Path, helpers: Any) -> None:
    """A line's offset is the number of bytes logged before it; headers are not counted."""
    spool = open_orders(segment_bytes_max=4096)
    lines = [helpers.line(f"message number {number}") for number in range(200)]
    for line in lines:
        spool.write(line, 9)
    directory = the_directory(root)
    assert len(segment_paths(directory)) > 3
    expected, offset = [], 0
    for line in lines:
        expected.append((offset, line))
        offset += len(line)
    assert list(read_lines(directory)) == expected


def test_each_segment_names_its_process(open_orders: OpenOrders, root: Path, helpers: Any) -> None:
    """A segment can be read without the ones before it, which may be gone."""
    spool = open_orders(segment_bytes_max=4096)
    for number in range(200):
        spool.write(helpers.line(f"m{number}"), 9)
    directory = the_directory(root)
    lines_before = offset = 0
    for number, path in enumerate(segment_paths(directory)):
        header_line, _, data = path.read_bytes().partition(b"\n")
        header = SegmentHeader.decode(header_line + b"\n")
        assert (header.spool_id, header.segment) == (directory.name, number)
        assert (header.first_offset, header.first_line) == (offset, lines_before)
        assert header.resource == {
            "service.name": "orders",
            "host.name": "here",
            "process.pid": os.getpid(),
        }
        offset += len(data.rstrip(b"\0"))
        lines_before += data.count(b"\n")


def test_the_close_line_says_how_much_there_is(open_orders: OpenOrders, root: Path, helpers: Any) -> None:
    """Count and end offset are those before it, so that a reader knows whether it has everything."""
    spool = open_orders()
    lines = [helpers.line(f"m{number}") for number in range(7)]
    for line in lines:
        spool.write(line, 9)
    spool.close("exit")
    closes = helpers.special_lines(the_directory(root), "close")
    assert closes == [{"count": 7, "end_offset": sum(map(len, lines)), "ended": "exit"}]


def test_late_lines_follow_the_close_line(open_orders: OpenOrders, root: Path, helpers: Any) -> None:
    """What another exit handler logs after ours is kept, in the same spool."""
    spool = open_orders()
    spool.write(helpers.line("early"), 9)
    spool.close("exit")
    spool.write(helpers.line("late"), 9)
    assert helpers.messages(the_directory(root)) == ["early", "late"]


def test_a_spool_that_was_given_up_is_not_written_again(
    open_orders: OpenOrders, root: Path, helpers: Any
) -> None:
    """After any other ending than `exit`, others may adopt and delete it: a later line begins a new one."""
    spool = open_orders()
    spool.write(helpers.line("before"), 9)
    first = spool.spool_id
    spool.close("shutdown")
    spool.write(helpers.line("after"), 9)
    assert spool.spool_id != first
    assert helpers.messages(root / "orders" / first) == ["before"]
    assert helpers.messages(root / "orders" / spool.spool_id) == ["after"]


def test_a_thread_that_was_late_writes_to_the_next_one(
    open_orders: OpenOrders, root: Path, helpers: Any
) -> None:
    """Whoever holds on to an incarnation that was given up can no longer change its directory."""
    spool = open_orders()
    spool.write(helpers.line("before"), 9)
    late = spool.current()
    spool.close("shutdown")
    late.write(helpers.line("late"), 9)
    late.note_loss("refused", 1, 0, 0)
    late.look_again()
    late.close("exit")
    directory = root / "orders" / late.spool_id
    assert helpers.messages(directory) == ["before"]
    assert len(segment_paths(directory)) == 1
    assert helpers.special_lines(directory, "loss") == []
    assert [close["ended"] for close in helpers.special_lines(directory, "close")] == ["shutdown"]
    assert spool.current() is not late
    assert helpers.messages(root / "orders" / spool.spool_id) == ["late"]


def test_late_lines_need_no_lock(open_orders: OpenOrders, root: Path, helpers: Any) -> None:
    """While the interpreter ends, a thread that held it may have been stopped for good."""
    spool = open_orders()
    spool.write(helpers.line("early"), 9)
    spool.close("exit")
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        with spool.current().lock:
            held.set()
            release.wait()

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait()
    late = threading.Thread(target=spool.write, args=(helpers.line("late"), 9))
    late.start()
    late.join(30)
    release.set()
    holder.join()
    assert helpers.messages(the_directory(root)) == ["early", "late"]
    lines = list(read_lines(the_directory(root)))
    assert [offset for offset, _ in lines] == _running_sum(line for _, line in lines)


def test_after_the_end_nothing_is_decided_any_more(open_orders: OpenOrders, root: Path, helpers: Any) -> None:
    """A new segment would begin where a late line without the lock is just being written."""
    spool = open_orders(segment_bytes_max=4096, recheck_interval_s=0.0)
    spool.write(helpers.line("early"), 9)
    spool.close("exit")
    for number in range(200):
        spool.write(helpers.line(f"late {number}"), 9)
        spool.current().look_again()
    (segment,) = segment_paths(the_directory(root))
    assert len(helpers.messages(the_directory(root))) == 201
    assert segment.read_bytes().endswith(b"\n")


def test_a_process_that_speaks_only_after_its_end_has_ended_in_order(
    open_orders: OpenOrders, root: Path, helpers: Any
) -> None:
    """Nobody shall take it for killed."""
    spool = open_orders()
    spool.close("exit")
    spool.write(helpers.line("late"), 9)
    assert helpers.messages(the_directory(root)) == ["late"]
    assert [close["ended"] for close in helpers.special_lines(the_directory(root), "close")] == ["exit"]


def test_closing_twice_says_it_once(open_orders: OpenOrders, root: Path, helpers: Any) -> None:
    """A worker's finalizer and `atexit` may both call; lines in between deserve another word."""
    spool = open_orders()
    spool.write(helpers.line("m"), 9)
    for _ in range(2):
        spool.close("exit")
    assert len(helpers.special_lines(the_directory(root), "close")) == 1
    spool.write(helpers.line("late"), 9)
    spool.close("exit")
    assert [close["count"] for close in helpers.special_lines(the_directory(root), "close")] == [1, 3]


def test_threads_lose_and_repeat_nothing(open_orders: OpenOrders, root: Path, helpers: Any) -> None:
    """Eight threads, small segments: each line is there once, whole, in the order of its thread."""
    spool = open_orders(segment_bytes_max=8192)

    def work(name: int) -> None:
        for number in range(300):
            spool.write(helpers.line(f"{name}-{number}"), 9)

    threads = [threading.Thread(target=work, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = helpers.messages(the_directory(root))
    assert sorted(found) == sorted(f"{name}-{number}" for name in range(8) for number in range(300))
    for name in range(8):
        own = [message for message in found if message.startswith(f"{name}-")]
        assert own == [f"{name}-{number}" for number in range(300)]
    assert spool.stats()["lines"] == len(found)


def test_a_signal_handler_may_log_at_any_moment(open_orders: OpenOrders, root: Path, helpers: Any) -> None:
    """A handler that interrupts a write, or a rotation, neither deadlocks nor disturbs the offsets."""
    spool = open_orders(segment_bytes_max=4096)
    logged: list[str] = []
    numbers = itertools.count()  # drawn atomically: a handler may interrupt a handler

    def handler(*_: Any) -> None:
        message = f"handler {next(numbers)}"
        logged.append(message)
        spool.write(helpers.line(message), 9)

    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.0002, 0.0002)
    try:
        number = 0
        while len(logged) < 200:
            spool.write(helpers.line(f"main {number}"), 9)
            number += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    directory = the_directory(root)
    lines = list(read_lines(directory))
    assert sorted(helpers.messages(directory)) == sorted([f"main {n}" for n in range(number)] + logged)
    assert [offset for offset, _ in lines] == _running_sum(line for _, line in lines)
    assert (spool.stats()["lines"], spool.stats()["bytes"]) == (
        number + len(logged),
        sum(len(x) for _, x in lines),
    )


def test_a_line_logged_in_the_middle_of_a_rotation_waits_for_its_end(
    open_orders: OpenOrders, root: Path, helpers: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The moment a segment's first offset has been decided, no line may go into the one before."""
    spool = open_orders(segment_bytes_max=4096)
    spool.write(helpers.line("first"), 9)
    own = spool.current()
    real_header = own._header
    inside: list[str] = []

    def header_that_logs(first_offset: int, first_line: int) -> SegmentHeader:
        inside.append(f"inside {len(inside)}")
        spool.write(helpers.line(inside[-1]), 9)
        return real_header(first_offset, first_line)

    monkeypatch.setattr(own, "_header", header_that_logs)
    for number in range(100):
        spool.write(helpers.line(f"m{number}"), 9)
    directory = the_directory(root)
    assert inside
    assert sorted(helpers.messages(directory)) == sorted(["first", *inside, *(f"m{n}" for n in range(100))])
    lines = list(read_lines(directory))
    assert [offset for offset, _ in lines] == _running_sum(line for _, line in lines)


def test_a_fork_has_a_spool_of_its_own(open_orders: OpenOrders, root: Path, helpers: Any) -> None:
    """Told by the process id at the first line: no fork hook is needed; the parent is named."""
    spool = open_orders()
    spool.write(helpers.line("parent before"), 9)
    parent_id = spool.spool_id
    child = os.fork()
    if child == 0:
        spool.write(helpers.line("child"), 9)
        os._exit(0)
    os.waitpid(child, 0)
    spool.write(helpers.line("parent after"), 9)
    assert spool.spool_id == parent_id
    assert helpers.messages(root / "orders" / parent_id) == ["parent before", "parent after"]
    (child_directory,) = [path for path in (root / "orders").iterdir() if path.name != parent_id]
    assert helpers.messages(child_directory) == ["child"]
    (segment,) = segment_paths(child_directory)
    header = orjson.loads(segment.read_bytes().partition(b"\n")[0])
    assert header["parent"] == {"spool_id": parent_id, "pid": os.getpid()}
    assert header["resource"]["process.pid"] == child


def test_a_child_closes_what_it_inherited(open_orders: OpenOrders, root: Path, helpers: Any) -> None:
    """Else every generation of a forking server would hold the files of all before, deleted ones too."""
    spool = open_orders()
    spool.write(helpers.line("parent"), 9)
    parents = str(root / "orders" / spool.spool_id)
    assert any(name.startswith(parents) for name in open_files())
    child = os.fork()
    if child == 0:
        spool.write(helpers.line("child"), 9)
        os._exit(1 if any(name.startswith(parents) for name in open_files()) else 0)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0


def open_files() -> list[str]:
    """What the descriptors of this process are."""
    found = []
    for path in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # the descriptor of this very listing
            found.append(str(path.readlink()))
    return found


def test_a_fork_while_another_thread_writes_does_not_hang(
    open_orders: OpenOrders, root: Path, helpers: Any
) -> None:
    """The lock that a thread of the parent held at the fork is never asked for in the child."""
    spool = open_orders()
    spool.write(helpers.line("parent"), 9)
    own, held, release = spool.current(), threading.Event(), threading.Event()

    def hold() -> None:
        with own.lock:
            held.set()
            release.wait()

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait()
    child = os.fork()
    if child == 0:
        spool.write(helpers.line("child"), 9)
        os._exit(0)
    helpers.eventually(lambda: os.waitpid(child, os.WNOHANG)[0] == child, "the child ends")
    release.set()
    holder.join()


@pytest.mark.parametrize(
    "service", ["orders", "a/b", "..", ".hidden", "", "ü" * 200, "a b", "x" * 500, "%2E"]
)
def test_any_name_is_safe_as_a_directory(root: Path, service: str) -> None:
    """A service may be called anything; its directory is right under the root, and its own."""
    directory = service_directory(root, service)
    assert directory.parent == root
    assert not directory.name.startswith(".")
    assert len(os.fsencode(directory.name)) <= 255
    others = ["orders", "a/b", "..", ".hidden", "", "ü" * 200, "a b", "x" * 500, "%2E"]
    names = {service_directory(root, name).name for name in others}
    assert len(names) == len(others)


def test_what_nobody_foresaw_is_counted_and_not_raised(
    open_orders: OpenOrders, helpers: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A log call never fails because of us."""
    spool = open_orders()

    def fail(*_: Any) -> None:
        raise RuntimeError("nobody foresaw this")

    monkeypatch.setattr(incarnation_module.Incarnation, "_carefully", fail)
    spool.write(helpers.line("m"), 9)
    assert spool.stats()["lost_write_failed"] == 1
    assert "nobody foresaw this" in (spool.last_failure or "")


@pytest.mark.parametrize(
    "resource",
    [
        {f"key.{number}": "x" * 5000 for number in range(20)},
        {"huge": "x" * 1_000_000},
        {"surrogate": "\ud800", "number": 2**70, "object": object(), "deep": [[[{"a": {1, 2}}]]]},
    ],
)
def test_a_strange_resource_costs_attributes_and_no_lines(
    root: Path, helpers: Any, resource: dict[str, Any]
) -> None:
    """It comes from the environment; a header that no collector reads would lose every line behind it."""
    spool = open_spool(root, service="orders", resource={"service.name": "orders", **resource})
    spool.write(helpers.line("m"), 9)
    directory = root / "orders" / spool.spool_id
    assert helpers.messages(directory) == ["m"]
    (segment,) = segment_paths(directory)
    header_line = segment.read_bytes().partition(b"\n")[0]
    assert len(header_line) < 65_536
    assert SegmentHeader.decode(header_line + b"\n").resource["service.name"] == "orders"
    assert spool.stats()["lost_write_failed"] == 0
    spool.close("test over")


def _running_sum(lines: Any) -> list[int]:
    total, sums = 0, []
    for line in lines:
        sums.append(total)
        total += len(line)
    return sums
