"""The way to the collector: each line arrives once, whatever it does; the program waits for none of it."""

from __future__ import annotations

import contextvars
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from email.utils import formatdate
from http.client import HTTPMessage
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import context as otel_context

from tracing.errors import ConfigurationError, RetryableExportError
from tracing.spool import Shipper, ShipperLimits, Spool, start_shipper
from tracing.spool import shipper as shipper_module
from tracing.spool.courier import Courier
from tracing.spool.http import Response
from tracing.spool.locks import try_lock
from tracing.spool.own import OwnSource
from tracing.spool.reader import segment_paths
from tracing.spool.transport import Transport
from tracing.spool.usage import service_bytes

OpenOrders = Callable[..., Spool]
PROBLEM = {"Content-Type": "application/problem+json"}


@pytest.fixture
def ship(root: Path, ingest: Any, quick: ShipperLimits) -> Iterator[Callable[..., Shipper]]:
    """Start a shipper for a spool of `orders`; it is stopped after the test."""
    started: list[Shipper] = []

    def start(spool: Spool, *, url: str | None = None, token: str | None = None, **limits: Any) -> Shipper:
        chosen = ShipperLimits(**{**{name: getattr(quick, name) for name in quick.__slots__}, **limits})
        shipper = start_shipper(
            root, service="orders", url=url or ingest.url, token=token, spool=spool, limits=chosen
        )
        started.append(shipper)
        return shipper

    yield start
    for shipper in started:
        shipper.stop(5.0)


def sent(ingest: Any) -> list[str]:
    """Messages that the collector has."""
    return [record["message"] for record in ingest.records()]


def test_what_is_logged_arrives(open_orders: OpenOrders, ship: Any, ingest: Any, helpers: Any) -> None:
    """In order, under the spool's identity and offsets, with the process's resource."""
    spool = open_orders(segment_bytes_max=4096)
    shipper = ship(spool)
    for number in range(300):
        spool.write(helpers.line(f"m{number}"), 9)
    assert shipper.flush(30.0)
    assert sent(ingest) == [f"m{number}" for number in range(300)]
    assert list(ingest.lines) == [spool.spool_id]
    assert ingest.resources[spool.spool_id]["process.pid"] == os.getpid()
    offsets = list(ingest.lines[spool.spool_id])
    assert offsets[0] == 0
    assert offsets == sorted(offsets)
    assert ingest.resent_lines == 0
    assert shipper.stats()["sent_lines"] == 300


def test_requests_are_what_the_protocol_says(
    open_orders: OpenOrders, ship: Any, ingest: Any, helpers: Any
) -> None:
    """Format, spool, offset and token are headers; one connection carries all."""
    spool = open_orders()
    shipper = ship(spool, token="secret", batch_bytes_max=4096)
    for number in range(200):
        spool.write(helpers.line(f"m{number}"), 9)
    assert shipper.flush(30.0)
    assert len(ingest.requests) > 3
    for request in ingest.requests:
        assert request["backtrail-format"] == "1"
        assert request["backtrail-spool"] == spool.spool_id
        assert request["authorization"] == "Bearer secret"
        assert int(request["content-length"]) < 4096 + 1024


def test_sent_segments_are_deleted_while_the_process_lives(
    open_orders: OpenOrders, ship: Any, root: Path, helpers: Any
) -> None:
    """Only the open one stays, so a healthy service takes a few megabytes."""
    spool = open_orders(segment_bytes_max=4096)
    shipper = ship(spool)
    for number in range(500):
        spool.write(helpers.line(f"m{number}"), 9)
    assert shipper.flush(30.0)
    directory = root / "orders" / spool.spool_id
    helpers.eventually(lambda: len(segment_paths(directory)) == 1, "sent segments are deleted")


def test_a_segment_that_is_sent_whole_is_ended_early(
    open_orders: OpenOrders, ship: Any, root: Path, helpers: Any
) -> None:
    """A hundred idle workers must not hold four megabytes each, up to the service's bound."""
    spool = open_orders()
    shipper = ship(spool)
    for _ in range(20):
        spool.write(helpers.line("x" * 16_000), 9)
    assert shipper.flush(30.0)
    directory = root / "orders" / spool.spool_id
    helpers.eventually(lambda: not (directory / "00000000.ndjson").exists(), "the first segment is deleted")
    helpers.eventually(lambda: service_bytes(root / "orders", besides="") < 10_000, "little is left")
    spool.write(helpers.line("later"), 9)
    assert shipper.flush(30.0)
    assert spool.stats()["lines"] == 21


def test_stopping_sends_the_close_line_and_leaves_nothing(
    open_orders: OpenOrders, ship: Any, ingest: Any, root: Path, helpers: Any
) -> None:
    """After `close` and `stop`, a reachable collector has everything and the disk nothing."""
    spool = open_orders()
    shipper = ship(spool)
    spool.write(helpers.line("m"), 9)
    spool.close("shutdown")
    shipper.stop(30.0)
    (close,) = ingest.records("close")
    assert close["close"]["ended"] == "shutdown"
    assert list((root / "orders").iterdir()) == []


def test_a_dead_neighbours_lines_arrive_too(
    open_orders: OpenOrders, ship: Any, ingest: Any, root: Path, helpers: Any
) -> None:
    """A process of the same service that was killed is adopted by one that lives."""
    spool = open_orders()
    child = os.fork()
    if child == 0:
        spool.write(helpers.line("from the dead"), 9)
        os._exit(0)
    os.waitpid(child, 0)
    ship(spool)
    helpers.eventually(lambda: ingest.records("close"), "the dead one's close line arrives")
    assert sent(ingest) == ["from the dead"]
    (close,) = ingest.records("close")
    assert close["close"]["ended"] == "killed"
    helpers.eventually(lambda: not list((root / "orders").iterdir()), "its spool is deleted")


def test_a_forked_child_ships_for_itself(
    open_orders: OpenOrders, ship: Any, ingest: Any, helpers: Any
) -> None:
    """The thread is not inherited: the first line that a child logs starts one of its own."""
    spool = open_orders()
    shipper = ship(spool)
    spool.write(helpers.line("parent"), 9)
    assert shipper.flush(30.0)
    child = os.fork()
    if child == 0:
        spool.write(helpers.line("child"), 9)
        os._exit(0 if shipper.flush(30.0) else 1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert sorted(sent(ingest)) == ["child", "parent"]
    assert len(ingest.lines) == 2


def test_many_shippers_send_nothing_twice(
    open_orders: OpenOrders, ingest: Any, root: Path, quick: ShipperLimits, helpers: Any
) -> None:
    """Five processes adopt the same twenty dead spools at once."""
    spool = open_orders()
    for number in range(20):
        child = os.fork()
        if child == 0:
            spool.write(helpers.line(f"dead {number}"), 9)
            os._exit(0)
        os.waitpid(child, 0)
    adopters = []
    for _ in range(5):
        child = os.fork()
        if child == 0:
            start_shipper(root, service="orders", url=ingest.url, token=None, spool=spool, limits=quick)
            helpers.eventually(lambda: not list((root / "orders").iterdir()), "all is shipped")
            os._exit(0)
        adopters.append(child)
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in adopters] == [0] * 5
    assert sorted(sent(ingest)) == sorted(f"dead {number}" for number in range(20))
    assert (ingest.resent_lines, ingest.conflicts) == (0, [])
    assert len(ingest.records("close")) == 20


# ---- a collector in trouble ----


def answering(ingest: Any, *answers: Any) -> list[float]:
    """Let the collector give these answers first, then work; return the times of the requests."""
    left, times = list(answers), []

    def answer(_headers: dict[str, str], _body: bytes) -> Any:
        times.append(time.monotonic())
        return left.pop(0) if left else None

    ingest.answer = answer
    return times


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
    answering(ingest, *answers)
    shipper = ship(spool)
    for number in range(20):
        spool.write(helpers.line(f"m{number}"), 9)
    assert shipper.flush(30.0)
    assert sent(ingest) == [f"m{number}" for number in range(20)]
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
    answering(ingest, (200, {}, b'{"acknowledged_offset":%d}' % len(lines[0])))
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
    answering(ingest, (200, {}, b'{"acknowledged_offset":1000000}'))
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
    times = answering(ingest, (429, {"Retry-After": "250"}, b""))
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
    answering(ingest, (503, {"Retry-After": wish}, b""))
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
    answering(ingest, (400, PROBLEM, b'{"title":"no"}'))
    shipper = ship(spool)
    helpers.eventually(lambda: shipper.stats()["given_up_batches"] == 1, "the batch is given up")
    spool.write(helpers.line("after"), 9)
    assert shipper.flush(30.0)
    helpers.eventually(lambda: ingest.records("loss"), "the loss line arrives")
    (loss,) = ingest.records("loss")
    assert loss["loss"] == {"reason": "refused", "count": 2, "from": 0, "to": end}
    assert sent(ingest) == ["after"]
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
    assert sent(ingest) == [f"m{number}" for number in range(500)]
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
    assert sent(ingest) == ["before", "after"]
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
    assert sent(ingest) == ["early", "late"]


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


def test_lines_in_memory_are_shipped_with_their_offsets(
    tmp_path: Path, ingest: Any, quick: ShipperLimits, helpers: Any
) -> None:
    """Without any directory to write to, the collector still gets everything, once."""
    from tracing.spool import SpoolLimits, open_spool

    (tmp_path / "file").touch()
    limits = SpoolLimits(recheck_interval_s=0.0, disk_free_bytes_min=0)
    spool = open_spool(tmp_path / "file" / "spool", service="orders", resource={"a": 1}, limits=limits)
    shipper = start_shipper(
        spool.root, service="orders", url=ingest.url, token=None, spool=spool, limits=quick
    )
    for number in range(50):
        spool.write(helpers.line(f"m{number}"), 9)
        if number == 25:
            assert shipper.flush(30.0)
    assert shipper.flush(30.0)
    assert sent(ingest) == [f"m{number}" for number in range(50)]
    assert ingest.resources[spool.spool_id]["a"] == 1
    assert spool.stats()["memory_bytes"] == 0
    (tmp_path / "file").unlink()
    spool.write(helpers.line("on disk"), 9)
    assert shipper.flush(30.0)
    assert sent(ingest)[-1] == "on disk"
    assert (ingest.resent_lines, ingest.conflicts) == (0, [])
    shipper.stop(5.0)


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
    assert sent(ingest) == ["before", "after", "later"]
    assert ingest.conflicts == []
    child = os.fork()
    if child == 0:
        os._exit(0 if try_lock(lock) is None else 1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0, "somebody else could ship the new files too"


def test_the_thread_is_a_daemon_and_is_never_traced(
    open_orders: OpenOrders, ship: Any, ingest: Any, helpers: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every instrumentation that asks is told not to trace what this thread sends."""
    from opentelemetry.instrumentation.utils import is_http_instrumentation_enabled

    seen: list[tuple[bool, bool, dict[str, Any]]] = []
    real_send = shipper_module.Courier._send

    def send(self: Any, *args: Any) -> None:
        context = {key: value for key, value in otel_context.get_current().items() if "suppress" not in key}
        seen.append((threading.current_thread().daemon, is_http_instrumentation_enabled(), context))
        real_send(self, *args)

    real_start = threading.Thread.start

    def start(self: threading.Thread) -> None:
        # What hands contexts over to threads takes the one in which the thread is started.
        if self.name == shipper_module.THREAD_NAME:
            assert list(contextvars.copy_context()) == []
        real_start(self)

    monkeypatch.setattr(threading.Thread, "start", start)
    monkeypatch.setattr(shipper_module.Courier, "_send", send)
    spool = open_orders()
    spool.write(helpers.line("m"), 9)
    token = otel_context.attach(otel_context.set_value("callers", "secret"))
    try:
        shipper = ship(spool)
    finally:
        otel_context.detach(token)
    assert shipper.flush(30.0)
    assert set(map(str, seen)) == {str((True, False, {}))}


def test_signals_are_left_to_the_program(open_orders: OpenOrders, ship: Any, helpers: Any) -> None:
    """A program may block SIGTERM and wait for it: were our thread to take it, the default would be death."""
    spool = open_orders()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    shipper = ship(spool)
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before
    spool.write(helpers.line("m"), 9)
    assert shipper.flush(30.0)
    (thread,) = [item for item in threading.enumerate() if item.name == shipper_module.THREAD_NAME]
    status = Path(f"/proc/self/task/{thread.native_id}/status").read_text()
    blocked = int(status.partition("SigBlk:")[2].split()[0], 16)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, signal.SIGUSR1):
        assert blocked & 1 << (number - 1)


def test_flush_says_no_when_the_time_has_passed(open_orders: OpenOrders, ship: Any, helpers: Any) -> None:
    """It waits for the given time at most, and the lines stay where they are."""
    spool = open_orders()
    shipper = ship(spool, url="http://127.0.0.1:9")
    assert shipper.flush(0.01), "nothing was logged, so nothing is missing"
    spool.write(helpers.line("m"), 9)
    assert not shipper.flush(0.05)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "collector",
        "ftp://x",
        "http://",
        "http://x:port",
        "http://user:pw@x",
        "http://x:0",
        "http://x?a=1",
    ],
)
def test_a_url_that_cannot_be_used_stops_the_start(open_orders: OpenOrders, root: Path, url: str) -> None:
    """With an error that names it, and no password in it."""
    with pytest.raises(ConfigurationError, match="collector URL") as caught:
        start_shipper(root, service="orders", url=url, token=None, spool=open_orders())
    assert "pw" not in str(caught.value)


def test_limits_say_what_they_would_accept() -> None:
    """A limit that cannot work stops the start."""
    wrong: list[dict[str, Any]] = [
        {"batch_bytes_max": 10},
        {"poll_interval_s": 0.0},
        {"backoff_max_s": 0.1},
        {"turn_batches_max": 0},
    ]
    for limits in wrong:
        with pytest.raises(ConfigurationError, match=next(iter(limits))):
            ShipperLimits(**limits)


def test_bodies_are_compressed_for_the_network(open_orders: OpenOrders, helpers: Any) -> None:
    """By zstd where it is installed, else gzip; on loopback not at all, where bytes cost less than CPU."""
    import zstandard

    from tracing.spool.http import Poster, best_encoding

    name, compress = best_encoding()
    assert name == "zstd"
    data = helpers.line("m") * 1000
    assert zstandard.ZstdDecompressor().decompressobj().decompress(compress(data)) == data
    assert len(compress(data)) < len(data) / 10
    limits = ShipperLimits()
    assert not Poster("http://127.0.0.1:4318", None, limits).compress_no_more()
    assert Poster("http://collector.example:4318", None, limits).compress_no_more()


def test_a_compressed_body_is_what_the_collector_reads(
    open_orders: OpenOrders, ship: Any, ingest: Any, helpers: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it would be over the network; a collector that does not know it gets it plain."""
    from tracing.spool import http

    monkeypatch.setattr(http, "LOOPBACK_HOSTS", frozenset())
    spool = open_orders()
    for number in range(100):
        spool.write(helpers.line(f"m{number}"), 9)
    ingest.answer = lambda headers, _body: (
        None if "content-encoding" in headers else (500, {}, b"not compressed")
    )
    shipper = ship(spool)
    assert shipper.flush(30.0)
    assert {request["content-encoding"] for request in ingest.requests} == {"zstd"}
    ingest.answer = lambda headers, _body: (415, PROBLEM, b"{}") if "content-encoding" in headers else None
    for number in range(100, 200):
        spool.write(helpers.line(f"m{number}"), 9)
    assert shipper.flush(30.0)
    assert sent(ingest) == [f"m{number}" for number in range(200)]
