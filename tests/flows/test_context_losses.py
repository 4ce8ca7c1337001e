"""Where a running system loses the context: the demo shop and a small program, with one hop broken."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from collector.client import AsyncCollectorClient, CollectorClient
from collector.demo.episode import warm_up
from collector.demo.shop import Shop, start_shop
from collector.demo.traffic import orders, place

ORDERS = 24
ROUNDS = 30
TIMEOUT_S = 60.0

# Hands something to a thread now and then, and has a heartbeat that belongs to nobody.
PROGRAM = f"""\
import logging, threading, time
import tracing

tracing.configure(service="mailer", level="INFO")
tracing.instrument()
log = logging.getLogger("mailer")
log.info("starts")


def send_mail(number):
    log.info("mail %d is on its way", number)
    with tracing.span("smtp"):
        time.sleep(0.001)


def beat():
    while not ended.wait(0.037):
        log.info("still here")


ended = threading.Event()
heart = threading.Thread(target=beat)
heart.start()
for number in range({ROUNDS}):
    with tracing.span("order"):
        log.info("order %d", number)
        thread = threading.Thread(target=send_mail, args=(number,))
        thread.start()
        time.sleep(0.005)
    thread.join()
    time.sleep(0.03)
ended.set()
heart.join()
tracing.flush(30)
"""


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """The shop, after healthy orders."""
    with start_shop(tmp_path_factory.mktemp("shop")) as running:
        warm_up(running, seed=1, count=ORDERS)
        yield running


@pytest.fixture
def lose(shop: Shop) -> Iterator[Callable[[str, str], list[dict[str, Any]]]]:
    """Restarts a service with something left out, lets customers order, and waits until a loss is told."""
    restarted = set()

    def lost(service: str, left_out: str) -> list[dict[str, Any]]:
        restarted.add(service)
        _restart(shop, service, TRACING_INSTRUMENT_EXCLUDE=left_out)
        begin_ns = time.time_ns()
        place(shop.gateway_url, orders(ORDERS, seed=2, first=5_001))
        return _told(shop, begin_ns)

    yield lost
    for service in restarted:
        _restart(shop, service)


def _restart(shop: Shop, service: str, **variables: str) -> None:
    shop.end(service)
    (shop.directory / f"{service}.address").unlink()
    shop.launch(service, f"collector.demo.{service}", **variables)
    shop.wait_for(service)


def _told(shop: Shop, begin_ns: int) -> list[dict[str, Any]]:
    """What is told once all orders of the lost hop have come in."""
    deadline = time.monotonic() + TIMEOUT_S
    while True:
        losses: list[dict[str, Any]] = shop.client.context_losses(start=begin_ns)["losses"]
        of_traces = [loss["count"] for loss in losses if loss["kind"] == "new_trace"]
        if (of_traces and min(of_traces) >= ORDERS) or time.monotonic() > deadline:
            return losses
        time.sleep(0.2)


def test_a_healthy_shop_loses_nothing(shop: Shop) -> None:
    """Start-up lines, roots of customers' requests and a worker's own lines are no losses."""
    answer = shop.client.context_losses(start="1h")
    assert answer["losses"] == []
    assert answer["traces"] >= ORDERS
    assert answer["loose_lines"] > 0


@pytest.mark.parametrize(
    ("service", "left_out", "lost", "hop"),
    [("gateway", "httpx", "orders", "http"), ("orders", "grpc", "inventory", "rpc")],
)
def test_a_caller_that_does_not_say_where_it_belongs(
    shop: Shop,
    lose: Callable[[str, str], list[dict[str, Any]]],
    service: str,
    left_out: str,
    lost: str,
    hop: str,
) -> None:
    """The called service begins traces of its own; the caller is named, and that it is inferred."""
    [loss] = [one for one in lose(service, left_out) if one["hop"] == hop]
    assert (loss["kind"], loss["service"], loss["parent"]["service"]) == ("new_trace", lost, service)
    assert loss["inferred"] is True
    assert loss["confidence"] >= 0.9
    assert service in loss["advice"]
    assert shop.client.trace(loss["examples"][0]["trace_id"])["nodes"][0]["service"] == lost


def test_a_worker_that_does_not_take_what_the_message_says(
    lose: Callable[[str, str], list[dict[str, Any]]],
) -> None:
    """Spans of the task begin traces, or its lines have no ids; both are told, and where."""
    losses = lose("payments", "celery,kombu")
    assert {loss["service"] for loss in losses} == {"payments"}
    [receipt] = [loss for loss in losses if loss["operation"] == "write receipt"]
    assert (receipt["kind"], receipt["hop"], receipt["parent"]["service"]) == (
        "new_trace",
        "message",
        "payments",
    )
    assert "no spans any more" in receipt["advice"]
    [charged] = [loss for loss in losses if "in charge" in (loss["source"] or "")]
    assert (charged["kind"], charged["count"], charged["logger"]) == ("no_ids", ORDERS, "shop.payments")


def run_mailer(directory: Path, url: str, **variables: str) -> None:
    """Run the small program to its end; its lines are in the collector then."""
    path = directory / "mailer.py"
    path.write_text(PROGRAM)
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("TRACING_", "OTEL_"))}
    settings = {"TRACING_SPOOL_DIR": str(directory / "spool"), "TRACING_COLLECTOR_URL": url}
    subprocess.run(
        [sys.executable, str(path)], env={**ours, **settings, **variables}, check=True, timeout=TIMEOUT_S
    )


def _wait_for_mails(client: CollectorClient) -> None:
    """Until all that the small program wrote can be asked for."""
    deadline = time.monotonic() + TIMEOUT_S
    while (
        len(client.logs("service:mailer order", limit=100)["records"]) < ROUNDS
        and time.monotonic() < deadline
    ):
        time.sleep(0.1)


def test_a_thread_that_begins_with_nothing(tmp_path: Path, shared_collector: Any) -> None:
    """Nothing is known from before; the span that was going on each time is found, and the line of code."""
    run_mailer(tmp_path, shared_collector.url, TRACING_INSTRUMENT_EXCLUDE="threads")
    with CollectorClient(shared_collector.url) as client:
        _wait_for_mails(client)
        losses = client.context_losses(start="10m", service="mailer")["losses"]
    assert {(loss["kind"], loss["operation"] or loss["source"].split(" in ")[1]) for loss in losses} == {
        ("new_trace", "smtp"),
        ("no_ids", "send_mail"),
    }
    for loss in losses:
        assert (loss["parent"]["service"], loss["parent"]["operation"]) == ("mailer", "order")
        assert (loss["hop"], loss["count"], loss["inferred"]) == ("process", ROUNDS, True)
    [lines] = [loss for loss in losses if loss["kind"] == "no_ids"]
    assert f"mailer.py:{PROGRAM[: PROGRAM.index('is on its way')].count(chr(10)) + 1}" in lines["source"]


def test_the_same_program_loses_nothing_when_threads_are_instrumented(
    tmp_path: Path, collector_process: Callable[..., Any]
) -> None:
    """A heartbeat's lines and a start-up line have no ids, and belong to nobody: no loss."""
    collector = collector_process()
    collector.start()
    run_mailer(tmp_path, collector.url)

    with CollectorClient(collector.url) as client:
        _wait_for_mails(client)

    async def ask() -> dict[str, Any]:
        async with AsyncCollectorClient(collector.url) as client:
            return await client.context_losses(start="10m")

    answer = asyncio.run(ask())
    assert answer["losses"] == []
    assert answer["loose_lines"] > 10
    assert answer["traces"] == ROUNDS
    told = subprocess.run(
        [sys.executable, "-m", "collector", "context-losses", "--url", collector.url, "--json"],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )
    assert (told.returncode, json.loads(told.stdout)["losses"]) == (0, [])
