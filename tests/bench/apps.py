"""`python -m tests.bench.apps [--rounds N] [--seconds N]`: programs under load, with each way of telemetry.

An ASGI service (Starlette on uvicorn, ten log lines a request) under `wrk`, and a Celery worker (ten log
lines a task) with a full queue in a real RabbitMQ. Each run is a new process; the ways take turns. Requests
and tasks are counted by whoever orders them, not by the telemetry that is measured.
"""

from __future__ import annotations

import argparse
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

from tests.bench.harness import REPOSITORY, Contender, Row, save, show, tabulate

sys.path.insert(0, str(REPOSITORY / "deploy" / "dev"))

from devservers import ServerUnavailable, free_port
from devservers.rabbitmq import RabbitMQ

WAYS: Final = {
    "silent": Contender(name="no telemetry, lines go nowhere"),
    "file": Contender(name="FileHandler, plain text"),
    "otel": Contender(name="OpenTelemetry", package="opentelemetry-sdk"),
    "ours": Contender(name="ours"),
}
PEER: Final = WAYS["file"].name
CONNECTIONS: Final = 16
TASKS: Final = 3_000
PATIENCE_S: Final = 60.0
BOUND: Final = round(
    1 / 0.9, 2
)  # at least 90 % of the requests a second are at most 1.11 of the time for one
NOTE: Final = "The bound is 90 % of the FileHandler program's rate, told as a ratio of times."


def rows() -> dict[str, Row]:
    """The rows, by what is measured."""
    ways = tuple(WAYS.values())
    bounds = {WAYS["ours"].name: BOUND}
    return {
        "requests": Row(
            name="ASGI service under load, ten log lines a request: requests",
            unit="/s",
            contenders=ways,
            peer=PEER,
            bounds=bounds,
            note=f"wrk, {CONNECTIONS} connections, on the same two cores. {NOTE}",
        ),
        "p99": Row(
            name="ASGI service under load: the slowest of a hundred requests",
            unit="µs",
            contenders=ways,
            peer=PEER,
        ),
        "tasks": Row(
            name="Celery worker with a full queue, ten log lines a task: tasks",
            unit="/s",
            contenders=ways,
            peer=PEER,
            bounds=bounds,
            note=f"One process of a prefork worker, RabbitMQ, {TASKS} tasks. {NOTE}",
        ),
    }


# ------------------------------------------------------------------ the ASGI service


def requests_under_load(way: str, directory: Path, seconds: int) -> tuple[float, float]:
    """Put the service under load.

    Returns:
        Seconds for one request (of all connections together), and what the slowest of a hundred took.
    """
    port = free_port()
    with _program("tests.bench.app_asgi", way, str(directory), str(port)):
        _until(lambda: _answers(port), "the service does not come up")
        url = f"http://127.0.0.1:{port}/orders/4711"
        command = ["wrk", "-t", "1", "-c", str(CONNECTIONS), "--latency"]
        subprocess.run([*command, "-d", "1", url], capture_output=True, check=True)  # warm
        done = subprocess.run([*command, "-d", str(seconds), url], capture_output=True, check=True, text=True)
    if "Non-2xx" in done.stdout or "Socket errors" in done.stdout:
        raise RuntimeError(f"{way}: not every request was answered:\n{done.stdout}")
    return 1 / _figure(done.stdout, r"Requests/sec:\s+([\d.]+)"), _duration_s(
        done.stdout, r"99%\s+([\d.]+)(\w+)"
    )


def _figure(text: str, pattern: str) -> float:
    found = re.search(pattern, text)
    if found is None:
        raise RuntimeError(f"wrk said nothing that looks like {pattern!r}:\n{text}")
    return float(found[1])


def _duration_s(text: str, pattern: str) -> float:
    found = re.search(pattern, text)
    scale = {"us": 1e-6, "ms": 1e-3, "s": 1.0}
    return _figure(text, pattern) * scale[found[2] if found else ""]


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False


# ------------------------------------------------------------------ the Celery worker


def tasks_from_a_full_queue(way: str, directory: Path, broker: str) -> float:
    """Seconds for one task of a worker that always finds another one."""
    from tests.bench.app_celery import DONE, make_app

    queue = uuid4().hex
    app, order = make_app(directory, broker, queue)
    for number in range(TASKS):
        order.delay(number)
    app.close()

    def done() -> int:
        return (directory / DONE).stat().st_size

    with _program("tests.bench.app_celery", way, str(directory), broker, queue):
        _until(lambda: done() >= TASKS // 10, "the worker does not begin")
        first, started_s = done(), time.perf_counter()
        _until(lambda: done() >= TASKS, "the worker does not come to an end")
        return (time.perf_counter() - started_s) / (TASKS - first)


# ------------------------------------------------------------------ both


@contextmanager
def _program(module: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    program = subprocess.Popen([sys.executable, "-m", module, *arguments], cwd=REPOSITORY)
    try:
        yield program
    finally:
        program.terminate()
        try:
            program.wait(10)
        except subprocess.TimeoutExpired:
            program.kill()
            program.wait()


def _until(condition: Callable[[], bool], complaint: str) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > deadline_s:
            raise RuntimeError(complaint)
        time.sleep(0.005)


def measure(rounds: int, seconds: int) -> list[dict[str, Any]]:
    """Every row that can be measured here; what cannot is said on stderr."""
    taken: dict[str, dict[str, list[float]]] = {key: {} for key in rows()}

    def keep(key: str, way: str, value: float) -> None:
        taken[key].setdefault(WAYS[way].name, []).append(value)

    def each() -> Iterator[tuple[str, Path]]:
        for number in range(rounds):
            for way in WAYS:
                print(f"\r{way} ({number + 1}/{rounds})   ", end="", file=sys.stderr)
                with tempfile.TemporaryDirectory(prefix="backtrail-bench-") as directory:
                    yield way, Path(directory)

    if shutil.which("wrk"):
        for way, directory in each():
            second_s, slow_s = requests_under_load(way, directory, seconds)
            keep("requests", way, second_s)
            keep("p99", way, slow_s)
    else:
        print("NOT MEASURED: the ASGI service, because wrk is not installed (Debian: wrk)", file=sys.stderr)
    try:
        broker = RabbitMQ()
        broker.start()
    except ServerUnavailable as error:
        print(f"NOT MEASURED: the Celery worker, because {error}", file=sys.stderr)
    else:
        try:
            for way, directory in each():
                keep("tasks", way, tasks_from_a_full_queue(way, directory, broker.url))
        finally:
            broker.stop()
    print("\r" + " " * 40 + "\r", end="", file=sys.stderr)
    return [tabulate(row, taken[key]) for key, row in rows().items() if taken[key]]


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.apps", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="runs of each way, in turn")
    parser.add_argument(
        "--seconds", type=int, default=4, help="how long the service is under load in each run"
    )
    options = parser.parse_args()
    results = measure(options.rounds, options.seconds)
    for result in results:
        print(show(result), flush=True)
    print(f"\nsaved: {save(results, 'apps')}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
