"""`backtrail agent` and `drain`: what lies on a machine reaches the collector, whoever left it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tracing.agent import Agent, main
from tracing.errors import ConfigurationError
from tracing.spool import ShipperLimits, Spool, SpoolLimits, drain, open_spool
from tracing.spool.transport import Transport

OpenOrders = Callable[..., Spool]


def leave(root: Path, service: str, lines: list[bytes]) -> None:
    """A process of a service logs and is killed."""
    child = os.fork()
    if child == 0:
        spool = open_spool(root, service=service, resource={}, limits=SpoolLimits(disk_free_bytes_min=0))
        for line in lines:
            spool.write(line, 9)
        os._exit(0)
    os.waitpid(child, 0)


def is_empty(root: Path) -> bool:
    """Whether no service has a spool."""
    return not [path for service in root.iterdir() for path in service.iterdir()]


def agent_process(root: Path, url: str, *more: str) -> subprocess.Popen[str]:
    """`backtrail agent`, running."""
    outer = {name: value for name, value in os.environ.items() if not name.startswith(("TRACING_", "OTEL_"))}
    return subprocess.Popen(
        [sys.executable, "-m", "tracing.launch", "agent", "--spool-dir", str(root), "--url", url, *more],
        env=outer | {"TRACING_TOKEN": "secret"},
        stderr=subprocess.PIPE,
        text=True,
    )


def test_the_agent_ships_all_services(root: Path, ingest: Any, helpers: Any) -> None:
    """Dead ones are ended and deleted; SIGTERM ends the agent in order."""
    for service in ("orders", "payments"):
        leave(root, service, [helpers.line(f"from {service}", service=service)])
    agent = agent_process(root, ingest.url)
    helpers.eventually(lambda: is_empty(root), "all is shipped")
    agent.send_signal(signal.SIGTERM)
    assert agent.wait(30) == 0
    assert agent.stderr is not None
    assert "shipping" in agent.stderr.read()
    assert sorted(record["message"] for record in ingest.records()) == ["from orders", "from payments"]
    assert {close["close"]["ended"] for close in ingest.records("close")} == {"killed"}
    assert {request["authorization"] for request in ingest.requests} == {"Bearer secret"}


def test_the_agent_ships_for_the_living(
    open_orders: OpenOrders, root: Path, ingest: Any, quick: ShipperLimits, helpers: Any
) -> None:
    """A process without a thread of its own is shipped while it runs, and is not ended."""
    spool = open_orders()
    spool.write(helpers.line("first"), 9)
    agent = agent_process(root, ingest.url)
    helpers.eventually(lambda: len(ingest.records()) == 1, "the first line")
    spool.write(helpers.line("second"), 9)
    helpers.eventually(lambda: len(ingest.records()) == 2, "the second line")
    assert ingest.records("close") == []
    assert (root / "orders" / spool.spool_id).exists()
    agent.send_signal(signal.SIGINT)
    assert agent.wait(30) == 0
    assert ingest.resent_lines == 0


def test_two_agents_and_the_owners_thread_send_nothing_twice(
    open_orders: OpenOrders, root: Path, ingest: Any, quick: ShipperLimits, helpers: Any
) -> None:
    """Whoever holds the lock ships; the next one goes on from where it stopped."""
    from tracing.spool import start_shipper

    spool = open_orders(segment_bytes_max=8192)
    stop = threading.Event()
    agents = []
    for _ in range(2):
        child = os.fork()
        if child == 0:
            agent = Agent(root, url=ingest.url, token=None, limits=quick)
            signal.signal(signal.SIGTERM, lambda *_: stop.set())
            agent.work(stop)
            os._exit(0)
        agents.append(child)
    shipper = start_shipper(root, service="orders", url=ingest.url, token=None, spool=spool, limits=quick)
    for number in range(3000):
        spool.write(helpers.line(f"m{number}"), 9)
    helpers.eventually(lambda: len(ingest.records()) == 3000, "all lines arrive")
    assert shipper.flush(30.0), "whoever has shipped them"
    for agent_pid in agents:
        os.kill(agent_pid, signal.SIGTERM)
        assert os.waitstatus_to_exitcode(os.waitpid(agent_pid, 0)[1]) == 0
    shipper.stop(5.0)
    assert [record["message"] for record in ingest.records()] == [f"m{number}" for number in range(3000)]
    assert (ingest.resent_lines, ingest.conflicts) == (0, [])


def test_once_ends_when_nothing_is_left(root: Path, ingest: Any, helpers: Any) -> None:
    """For cron, and for the last act of a container."""
    leave(root, "orders", [helpers.line("m")])
    agent = agent_process(root, ingest.url, "--once")
    assert agent.wait(30) == 0
    assert is_empty(root)
    assert len(ingest.records()) == 1


def test_once_says_when_something_is_left(root: Path, helpers: Any, free_port: Callable[[], int]) -> None:
    """Exit status 1, and why: the lines wait for another time."""
    leave(root, "orders", [helpers.line("m")])
    agent = agent_process(root, f"http://127.0.0.1:{free_port()}", "--once", "--timeout", "0.1")
    assert agent.wait(30) == 1
    assert not is_empty(root)
    assert agent.stderr is not None
    [last] = agent.stderr.read().splitlines()
    assert str(root) in last and "Connection refused" in last


def test_an_agent_says_once_that_the_collector_is_away(
    root: Path, ingest: Any, quick: ShipperLimits, helpers: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """And once that it is back."""
    leave(root, "orders", [helpers.line("m")])
    ingest.answer = lambda _headers, _body: (500, {}, b"")
    agent = Agent(root, url=ingest.url, token=None, limits=quick)
    with caplog.at_level("INFO", logger="backtrail.agent"):
        for _ in range(3):
            assert agent.round() > 0
        ingest.answer = None
        for _ in range(3):
            agent.round()
    levels = [record.levelname for record in caplog.records]
    assert levels == ["WARNING", "INFO"]


def test_a_malformed_url_stops_the_agent(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit status 2, before anything is shipped."""
    assert main(["--url", "collector"]) == 2
    assert "collector" in capsys.readouterr().err
    with pytest.raises(ConfigurationError):
        Agent(Path("/nowhere"), url="ftp://x", token=None)


def test_draining_gives_up_when_the_collector_is_away(
    root: Path, quick: ShipperLimits, helpers: Any, ingest: Any
) -> None:
    """After so many failures in a row, however much time there would be."""
    leave(root, "orders", [helpers.line("m")])
    ingest.answer = lambda _headers, _body: (500, {}, b"")
    carrier = Transport(ingest.url, None, quick)
    assert not drain(root, carrier, timeout_s=1000.0, failures_max=3, limits=quick)
    assert len(ingest.requests) == 3


def test_draining_nothing_asks_nobody(root: Path, quick: ShipperLimits, ingest: Any) -> None:
    """No request is made for an empty or absent directory."""
    assert drain(root, Transport(ingest.url, None, quick), timeout_s=0.0)
    assert ingest.requests == []


def test_run_ships_what_the_program_left(root: Path, ingest: Any) -> None:
    """Short jobs end before their thread has sent anything; `backtrail run` does it for them."""
    outer = {name: value for name, value in os.environ.items() if not name.startswith(("TRACING_", "OTEL_"))}
    program = "import logging; logging.getLogger('shop').error('m')"
    done = subprocess.run(
        [
            *[sys.executable, "-m", "tracing.launch", "run", "--service", "job", "--spool-dir", str(root)],
            *["--url", ingest.url, "--", sys.executable, "-c", program],
        ],
        env=outer,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stderr == "m\n"
    assert is_empty(root)
    assert [record["message"] for record in ingest.records()] == ["m"]
    assert [close["close"]["ended"] for close in ingest.records("close")] == ["exit"]


def test_run_says_when_something_is_left(root: Path, free_port: Callable[[], int]) -> None:
    """One line, with the reason, the place, and what will take it from there."""
    outer = {name: value for name, value in os.environ.items() if not name.startswith(("TRACING_", "OTEL_"))}
    program = "import logging; logging.getLogger('shop').error('m')"
    done = subprocess.run(
        [
            *[sys.executable, "-m", "tracing.launch", "run", "--spool-dir", str(root)],
            *["--url", f"http://127.0.0.1:{free_port()}", "--drain-timeout", "0.1"],
            *["--", sys.executable, "-c", program],
        ],
        env=outer,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    (last,) = done.stderr.removeprefix("m\n").splitlines()
    assert str(root) in last
    assert "backtrail agent" in last and "Connection refused" in last
