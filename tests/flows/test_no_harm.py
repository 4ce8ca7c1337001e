"""No harm: whatever the collector and the disk do, a program's output is byte-equal with and without us.

Not in the program: a `__repr__` that logs. Each handler that formats a record calls it, and so do we.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import textwrap
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from tracing.spool.adoption import spools
from tracing.spool.reader import read_lines

THREADS = 1000

PROGRAM = """
    import logging, os, shutil, subprocess, sys, threading, time

    is_traced, spool_dir, url, trouble = sys.argv[1] == "with", sys.argv[2], sys.argv[3], sys.argv[4]
    network = []  # what threads of the program did on the network; it has none of its own

    def watch(event, arguments):
        if event.startswith("socket.") and threading.current_thread().name != "backtrail-shipper":
            network.append(event)

    logging.basicConfig(format="%(levelname)s %(name)s %(funcName)s %(lineno)d %(message)s", level="INFO")
    log = logging.getLogger("shop")

    class span:  # the program's own stand-in where we are not there
        def __init__(self, name): pass
        def __enter__(self): return self
        def __exit__(self, *_): return False

    if is_traced:
        import tracing
        tracing.configure(service="shop", spool_dir=spool_dir, collector_url=url)
        span = tracing.span
        sys.addaudithook(watch)

    def usual():
        with span("usual"):
            log.info("an order of %d", 7, extra={"customer": "c-1"})
            try:
                1 / 0
            except ZeroDivisionError:
                log.exception("failed")

    def wrong_arguments():
        log.info("%d and %d", 1)  # logging prints its own complaint on stderr

    def large():
        log.info("x" * 10_000_000)

    class Rude:
        def __repr__(self): raise RuntimeError("no repr")

    def odd_values():
        log.info("kept", extra={"rude": Rude(), "deep": [[[[[[[[]]]]]]]]})
        circle = []
        circle.append(circle)
        log.info("circle", extra={"circle": circle})
        with span("odd"):
            log.info("inside")

    def recursion(depth=0):
        try:
            recursion(depth + 1)
        except RecursionError:
            if depth % 200 == 0:
                log.info("level %d", depth % 200)
            raise

    def deep():
        try:
            recursion()
        except RecursionError as error:
            log.info("%s", type(error).__name__)

    def clock_set_back():
        real_time, real_ns = time.time, time.time_ns
        steps = iter(range(10_000))
        time.time = lambda: 2e9 - 3600 * next(steps)
        time.time_ns = lambda: int(time.time() * 1e9)
        try:
            for number in range(5):
                with span("back"):
                    log.info("earlier %d", number)
        finally:
            time.time, time.time_ns = real_time, real_ns

    def many_threads():
        said = []

        class Kept(logging.Handler):
            def emit(self, record): said.append(record.getMessage())

        inner = logging.getLogger("threads")
        inner.propagate = False
        inner.addHandler(Kept())
        together = threading.Barrier({threads})

        def work(number):
            together.wait()
            with span("work"):
                inner.info("thread %d", number)

        threading.stack_size(262_144)
        workers = [threading.Thread(target=work, args=(n,)) for n in range({threads})]
        for worker in workers: worker.start()
        for worker in workers: worker.join()
        print(sorted(said))

    usual()
    wrong_arguments()
    if trouble == "deleted" and is_traced:
        shutil.rmtree(spool_dir)
    if trouble == "replaced" and is_traced:
        shutil.rmtree(spool_dir)
        open(spool_dir, "w").close()  # it cannot be made again
    if trouble == "readonly" and is_traced:  # root may write anywhere, but not what is immutable
        command = ["chmod", "-R", "a-w"] if os.getuid() else ["chattr", "-R", "+i"]
        subprocess.run([*command, spool_dir], check=True)
    if trouble == "full":
        import resource
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))  # every further write fails
    for step in (large, odd_values, deep, clock_set_back, many_threads, usual):
        step()
        print(step.__name__, flush=True)
    assert not network, network
    sys.exit(7)
"""

TROUBLES = ["dead", "frozen", "errors", "garbage", "deleted", "replaced", "readonly", "full", "nowhere"]
RUINED = {
    "deleted",
    "replaced",
    "readonly",
    "full",
    "nowhere",
}  # the disk cannot keep the lines, so there are none to be counted


@contextlib.contextmanager
def collector(trouble: str) -> Iterator[str]:
    """The URL of a collector that is of no use."""
    answers = {
        "errors": b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        "garbage": b"\x00\xff so it goes \r\n\r\n" * 100,
    }
    answer = answers.get(trouble)
    if answer is None and trouble != "frozen":
        yield "http://127.0.0.1:9"
        return
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return  # the test is over
                with connection, contextlib.suppress(OSError):
                    connection.recv(65536)
                    connection.sendall(answer or b"")

        if answer is not None:  # a frozen one takes connections, as the system does for it, and says nothing
            threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)


def run(how: str, root: Path, url: str, trouble: str) -> tuple[int, bytes, bytes]:
    """What a program's caller sees of it."""
    outer = {name: value for name, value in os.environ.items() if not name.startswith(("TRACING_", "OTEL_"))}
    program = textwrap.dedent(PROGRAM).replace("{threads}", str(THREADS))
    done = subprocess.run(
        [sys.executable, "-c", program, how, str(root), url, trouble],
        env=outer,
        timeout=120,
        capture_output=True,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def root(trouble: str, tmp_path: Path) -> Iterator[Path]:
    """A spool directory, which can be deleted after the test whatever was done to it."""
    root = tmp_path / "spool"
    if trouble != "readonly":
        yield root
        return
    root.mkdir()
    is_root = os.getuid() == 0
    if is_root and subprocess.run(["chattr", "+i", str(root)], check=False, capture_output=True).returncode:
        pytest.skip("root, on a file system without immutable files: nothing can be made read-only")
    undo = ["chattr", "-R", "-i"] if is_root else ["chmod", "-R", "u+w"]
    subprocess.run([*undo, str(root)], check=True)
    yield root
    subprocess.run([*undo, str(root)], check=True)


@pytest.mark.flow
@pytest.mark.parametrize("trouble", TROUBLES)
def test_output_is_byte_equal(trouble: str, root: Path, tmp_path: Path) -> None:
    """Status, standard output and standard error; and no thread of the program touches the network."""
    if trouble == "nowhere":
        (tmp_path / "file").touch()
        root = tmp_path / "file" / "spool"
    with collector(trouble) as url:
        without = run("without", root, url, trouble)
        assert without[0] == 7, without[2][-2000:]
        assert run("with", root, url, trouble) == without
    if trouble in RUINED:
        return
    lines = [orjson.loads(line) for path in spools(root / "shop") for _, line in read_lines(path)]
    spans = Counter(line["name"] for line in lines if line.get("kind") == "span")
    assert spans == {"usual": 2, "odd": 1, "back": 5, "work": THREADS}
    said = Counter(
        line["message"] for line in lines if line.get("logger") == "threads" and "kind" not in line
    )
    assert said == Counter(f"thread {number}" for number in range(THREADS))
    assert all(line.get("duration_ns", 0) >= 0 for line in lines)
