"""A collector that is away, frozen, full or mad: each line arrives once all the same, and nobody waits."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from email.utils import formatdate
from http.client import HTTPMessage
from pathlib import Path
from typing import Any

import pytest

from tracing.errors import RetryableExportError
from tracing.spool import ShipperLimits, Spool
from tracing.spool import shipper as shipper_module
from tracing.spool.courier import Courier
from tracing.spool.http import Response
from tracing.spool.locks import try_lock
from tracing.spool.own import OwnSource
from tracing.spool.transport import Transport

OpenOrders = Callable[..., Spool]
PROBLEM = {"Content-Type": "application/problem+json"}


@pytest.mark.parametrize(
    "answers",
    [
        pytest.param([(500, {}, b"oops")] * 3, id="errors"),
        pytest.param([(503, {"Retry-After": "0"}, b"")] * 3, id="no room"),
        pytest.param([(200, {}, b"garbage")], id="garbage"),
        pytest.param([(200, {}, b"[]"), (200, {}, b"null"), (200, {}, b'"x"')], id="other JSON"),
        pytest.param([(200, {}, b'{"acknowledged_offset":"7"}')], id="text for a number"),
        pytest.param([(200, {}, b'{"acknowledged_offset":-1}')], id="before the batch"),
        pytest.param([(200, {}, b'{"acknowledged_offset":0}')], id="no progress"),
        pytest.param([(200, {}, b'{"acknowledged_offset":7}')], id="in the middle of a line"),
        pytest.param([(200, {}, b'{"acknowledged_offset":true}')], id="true for a number"),
        pytest.param([(302, {"Location": "http://127.0.0.1:1/"}, b"")], id="somewhere else"),
        pytest.param([(400, {"Content-Type": "text/html"}, b"Bad Request")], id="no collector"),
        pytest.param([(401, {}, b"who are you"), (403, {}, b""), (404, {}, b"")], id="rights and places"),
        pytest.param([(415, PROBLEM, b"{}")], id="unknown media"),
        pytest.param([(200, {}, b"x" * 5_000_000)], id="an endless answer"),
    ],
)
def test_nothing_is_lost_while_the_collector_talks_nonsense(
    open_orders: OpenOrders, ship: Any, ingest: Any, helpers: Any, answers: list[Any]
) -> None:
    """Only an answer that fits the request is an acknowledgement; anything else is tried again."""
    spool = open_orders()
    ingest.answer_first(*answers)
    shipper = ship(spool)
    for number in range(20):
        spool.write(helpers.line(f"m{number}"), 9)
    assert shipper.flush(30.0)
    assert ingest.messages() == [f"m{number}" for number in range(20)]
    stats = shipper.stats()
    assert stats["ship_failures"] == len(answers)
    assert (stats["given_up_batches"], stats["ship_errors"]) == (0, 0)
    assert shipper.last_failure is None


def test_a_partial_acknowledgement_is_gone_on_from(
    open_orders: OpenOrders, ship: Any, ingest: Any, helpers: Any
) -> None:
    """What the collector does not have yet begins the next request."""
    spool = open_orders()
    lines = [helpers.line(f"m{number}") for number in range(3)]
    for line in lines:
        spool.write(line, 9)
    ingest.answer_first((200, {}, b'{"acknowledged_offset":%d}' % len(lines[0])))
    shipper = ship(spool)
    assert shipper.flush(30.0)
    assert list(ingest.lines[spool.spool_id].values()) == [line[:-1] for line in lines[1:]]


def test_a_collector_that_knows_more_is_not_believed_about_what_we_did_not_send(
    open_orders: OpenOrders, ship: Any, ingest: Any, helpers: Any
) -> None:
    """It may have had the whole spool before; what was never sent is sent."""
    spool = open_orders()
    first = helpers.line("first")
    spool.write(first, 9)
    ingest.answer_first((200, {}, b'{"acknowledged_offset":1000000}'))
    shipper = ship(spool)
    assert shipper.flush(30.0)
    spool.write(helpers.line("second"), 9)
    assert shipper.flush(30.0)
    assert list(ingest.lines[spool.spool_id]) == [len(first)]


def test_retry_after_is_honoured(open_orders: OpenOrders, root: Path, ingest: Any, helpers: Any) -> None:
    """Not even a flush asks earlier than the collector wished."""
    spool = open_orders()
    spool.write(helpers.line("m"), 9)
    limits = ShipperLimits()
    times = ingest.answer_first((429, {"Retry-After": "250"}, b""))
    courier = Courier(Transport(ingest.url, None, limits), limits)
    source = OwnSource(spool.current())
    for _ in range(3):
        with pytest.raises(RetryableExportError) as caught:
            courier.ship(source)
        assert caught.value.retry_after_s == pytest.approx(250.0, abs=20.0)
    assert len(times) == 1
    source.close()
    courier.close()


def retry_after_s(wish: str) -> float | None:
    """What is understood of one header."""
    headers = HTTPMessage()
    headers["Retry-After"] = wish
    return Response(503, headers, b"").retry_after_s(300.0)


def test_retry_after_may_be_seconds_or_a_date() -> None:
    """RFC 9110, 10.2.3; longer than is believable is cut."""
    assert retry_after_s("7") == 7.0
    assert retry_after_s("100000") == 300.0
    assert retry_after_s(formatdate(time.time() + 100, usegmt=True)) == pytest.approx(100.0, abs=30.0)
    assert retry_after_s(formatdate(time.time() - 100, usegmt=True)) == 0.0
    assert [retry_after_s(nonsense) for nonsense in ("soon", "nan", "inf", "")] == [None] * 4


@pytest.mark.parametrize("wish", ["soon", "-5", "nan", "inf", ""])
def test_nonsense_in_retry_after_is_passed_over(
    open_orders: OpenOrders, ship: Any, ingest: Any, helpers: Any, wish: str
) -> None:
    """The back-off decides then."""
    spool = open_orders()
    spool.write(helpers.line("m"), 9)
    ingest.answer_first((503, {"Retry-After": wish}, b""))
    assert ship(spool).flush(30.0)


def test_back_off_grows_and_is_drawn_at_random(
    open_orders: OpenOrders, ship: Any, helpers: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fleet that lost its collector at the same moment does not come back at the same moment."""
    waits: list[float] = []

    class Wake(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            waits.append(timeout or 0.0)
            return super().wait(0.001)

    class Run(shipper_module._Run):
        def __init__(self) -> None:
            super().__init__()
            self.wake = Wake()

    monkeypatch.setattr(shipper_module, "_Run", Run)
    spool = open_orders()
    spool.write(helpers.line("m"), 9)
    ship(spool, url="http://127.0.0.1:9", backoff_first_s=1.0, backoff_max_s=8.0)
    helpers.eventually(lambda: len(waits) > 20, "twenty attempts")
    for wait_s, full_s in zip(waits, [1.0, 2.0, 4.0] + [8.0] * 17, strict=False):
        assert full_s / 2 <= wait_s <= full_s
    assert len(set(waits[3:20])) > 10


def test_a_batch_that_the_collector_refuses_is_lost_alone_and_told(
    open_orders: OpenOrders, ship: Any, ingest: Any, helpers: Any
) -> None:
    """Stalling for ever behind it would lose everything after it."""
    spool = open_orders(loss_interval_s=0.0)
    spool.write(helpers.line("refused one"), 9)
    spool.write(helpers.line("refused two"), 9)
    end = spool.stats()["bytes"]
    ingest.answer_first((400, PROBLEM, b'{"title":"no"}'))
    shipper = ship(spool)
    helpers.eventually(lambda: shipper.stats()["given_up_batches"] == 1, "the batch is given up")
    spool.write(helpers.line("after"), 9)
    assert shipper.flush(30.0)
    helpers.eventually(lambda: ingest.records("loss"), "the loss line arrives")
    (loss,) = ingest.records("loss")
    assert loss["loss"] == {"reason": "refused", "count": 2, "from": 0, "to": end}
    assert ingest.messages() == ["after"]
    assert spool.stats()["lost_refused"] == 2


def test_a_collector_that_refuses_everything_is_not_told_for_ever(
    open_orders: OpenOrders, ship: Any, ingest: Any, helpers: Any
) -> None:
    """A refused loss line makes no other loss line."""
    spool = open_orders(loss_interval_s=0.0)
    ingest.answer = lambda _headers, _body: (400, PROBLEM, b"{}")
    spool.write(helpers.line("m"), 9)
    shipper = ship(spool)
    helpers.eventually(lambda: spool.stats()["lines"] == 2, "the loss line is written")
    assert shipper.flush(30.0)
    for _ in range(3):
        spool.current().look_again()
        assert shipper.flush(30.0)
    assert spool.stats()["lines"] == 2
    assert spool.stats()["lost_refused"] == 1


def test_a_collector_that_takes_small_requests_gets_small_ones(
    open_orders: OpenOrders, ship: Any, ingest: Any, helpers: Any
) -> None:
    """413 is about the request, not about its lines."""
    spool = open_orders()
    for number in range(500):
        spool.write(helpers.line(f"m{number}"), 9)
    ingest.answer = lambda _headers, body: (413, {}, b"") if len(body) > 10_000 else None
    shipper = ship(spool)
    assert shipper.flush(30.0)
    assert ingest.messages() == [f"m{number}" for number in range(500)]
    assert spool.stats()["lost_refused"] == 0


def test_a_line_that_is_too_large_for_the_collector_is_lost_alone(
    open_orders: OpenOrders, ship: Any, ingest: Any, helpers: Any
) -> None:
    """Its neighbours arrive."""
    spool = open_orders(loss_interval_s=0.0)
    for message in ("before", "x" * 15_000, "after"):
        spool.write(helpers.line(message), 9)
    ingest.answer = lambda _headers, body: (413, {}, b"") if len(body) > 10_000 else None
    shipper = ship(spool)
    assert shipper.flush(30.0)
    assert ingest.messages() == ["before", "after"]
    assert spool.stats()["lost_refused"] == 1


def test_a_collector_that_comes_back_gets_everything(
    open_orders: OpenOrders, ship: Any, helpers: Any, ingest: Any, free_port: Callable[[], int]
) -> None:
    """Away at the start: the program notices nothing, and no line is missing afterwards."""
    spool = open_orders()
    shipper = ship(spool, url=f"http://127.0.0.1:{free_port()}")
    spool.write(helpers.line("early"), 9)
    assert not shipper.flush(0.05)
    shipper.stop(5.0)
    later = ship(spool)
    spool.write(helpers.line("late"), 9)
    assert later.flush(30.0)
    assert ingest.messages() == ["early", "late"]


def test_a_connection_that_the_collector_closed_is_opened_again_at_once(
    open_orders: OpenOrders, ship: Any, helpers: Any
) -> None:
    """An idle connection may be closed at any time: that is no failure."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        answers = []

        def serve() -> None:
            for _ in range(3):
                peer, _address = listener.accept()
                with peer:
                    data = b""
                    while b"\r\n\r\n" not in data:
                        data += peer.recv(65_536)
                    head, _, body = data.partition(b"\r\n\r\n")
                    length = int(head.lower().partition(b"content-length:")[2].split()[0])
                    while len(body) < length:
                        body += peer.recv(65_536)
                    offset = int(head.lower().partition(b"backtrail-offset:")[2].split()[0])
                    end = offset + len(body.partition(b"\n")[2])
                    answer = b'{"acknowledged_offset":%d}' % end
                    answers.append(end)
                    peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(answer) + answer)

        server = threading.Thread(target=serve, daemon=True)
        server.start()
        spool = open_orders()
        shipper = ship(spool, url=f"http://127.0.0.1:{listener.getsockname()[1]}", backoff_first_s=0.05)
        for number in range(3):
            spool.write(helpers.line(f"m{number}"), 9)
            assert shipper.flush(30.0)
        server.join(30.0)
        assert shipper.stats()["ship_failures"] == 0
        assert answers[-1] == spool.stats()["bytes"]


def test_a_frozen_collector_holds_up_nobody(
    open_orders: OpenOrders, ship: Any, helpers: Any, root: Path
) -> None:
    """It accepts and never answers: lines go on being written; the thread gives up after its time."""
    with socket.create_server(("127.0.0.1", 0), backlog=10) as frozen:
        spool = open_orders()
        url = f"http://127.0.0.1:{frozen.getsockname()[1]}"
        shipper = ship(spool, url=url, request_timeout_s=0.2)
        for number in range(1000):
            spool.write(helpers.line(f"m{number}"), 9)
        helpers.eventually(lambda: shipper.stats()["ship_failures"] >= 2, "the request times out")
        assert len(helpers.messages(root / "orders" / spool.spool_id)) == 1000
        assert "timed out" in (shipper.last_failure or "")


def test_a_deleted_directory_does_not_stop_the_shipping(
    open_orders: OpenOrders, ship: Any, ingest: Any, root: Path, helpers: Any
) -> None:
    """The thread finds the files that were made again."""
    import shutil

    spool = open_orders()
    shipper = ship(spool)
    spool.write(helpers.line("before"), 9)
    assert shipper.flush(30.0)
    shutil.rmtree(root)
    spool.write(helpers.line("after"), 9)
    assert shipper.flush(30.0)
    lock = root / "orders" / spool.spool_id / "shipper"
    helpers.eventually(lock.exists, "the files are made again")
    spool.write(helpers.line("later"), 9)
    assert shipper.flush(30.0)
    assert ingest.messages() == ["before", "after", "later"]
    assert ingest.conflicts == []
    child = os.fork()
    if child == 0:
        os._exit(0 if try_lock(lock) is None else 1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0, "somebody else could ship the new files too"


@pytest.mark.parametrize(
    ("mode", "trouble"),
    # Not mapped and immutable: the kernel ends a process that would dirty a page (`tracing.spool.mapped`).
    [("write", "replaced"), ("mapped", "replaced"), ("write", "immutable")],
)
def test_a_directory_that_is_taken_away_loses_nothing_while_the_collector_is_there(
    open_orders: OpenOrders, root: Path, ship: Any, ingest: Any, helpers: Any, trouble: str
) -> None:
    """What no disk can take goes to the collector from memory; what had been sent is not sent again."""
    spool = open_orders(recheck_interval_s=0.0)
    shipper = ship(spool)
    for number in range(100):
        spool.write(helpers.line(f"m{number}"), 9)
    assert shipper.flush(30.0)
    immutable = ["chattr", "-R", "+i", str(root)]
    if trouble == "replaced":
        shutil.rmtree(root)
        root.touch()
    elif subprocess.run(immutable, check=False, capture_output=True).returncode:
        pytest.skip("needs the right to make files immutable (root, ext4 or xfs)")
    try:
        for number in range(100, 2000):
            spool.write(helpers.line(f"m{number}"), 9)
        assert shipper.flush(30.0)
    finally:
        if trouble == "immutable":
            subprocess.run(["chattr", "-R", "-i", str(root)], check=True)
    assert ingest.messages() == [f"m{number}" for number in range(2000)]
    assert ingest.conflicts == []
    assert sum(count for name, count in spool.stats().items() if name.startswith("lost_")) == 0
