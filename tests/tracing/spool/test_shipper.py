"""The way to the collector: each line arrives once, whatever it does; the program waits for none of it."""

from __future__ import annotations

import contextvars
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import context as otel_context

from tracing.errors import ConfigurationError
from tracing.spool import ShipperLimits, Spool, start_shipper
from tracing.spool import shipper as shipper_module
from tracing.spool.own import OwnSource
from tracing.spool.reader import segment_paths
from tracing.spool.usage import service_bytes

OpenOrders = Callable[..., Spool]
PROBLEM = {"Content-Type": "application/problem+json"}


def test_what_is_logged_arrives(open_orders: OpenOrders, ship: Any, ingest: Any, helpers: Any) -> None:
    """In order, under the spool's identity and offsets, with the process's resource."""
    spool = open_orders(segment_bytes_max=4096)
    shipper = ship(spool)
    for number in range(300):
        spool.write(helpers.line(f"m{number}"), 9)
    assert shipper.flush(30.0)
    assert ingest.messages() == [f"m{number}" for number in range(300)]
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
    assert ingest.messages() == ["from the dead"]
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
    assert sorted(ingest.messages()) == ["child", "parent"]
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
    assert sorted(ingest.messages()) == sorted(f"dead {number}" for number in range(20))
    assert (ingest.resent_lines, ingest.conflicts) == (0, [])
    assert len(ingest.records("close")) == 20


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
    assert ingest.messages() == [f"m{number}" for number in range(50)]
    assert ingest.resources[spool.spool_id]["a"] == 1
    assert spool.stats()["memory_bytes"] == 0
    (tmp_path / "file").unlink()
    spool.write(helpers.line("on disk"), 9)
    assert shipper.flush(30.0)
    assert ingest.messages()[-1] == "on disk"
    assert (ingest.resent_lines, ingest.conflicts) == (0, [])
    shipper.stop(5.0)


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


def test_an_error_of_ours_does_not_end_the_thread(
    open_orders: OpenOrders, ship: Any, ingest: Any, helpers: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever it comes from, it is counted, and the next round is tried."""
    failures = iter([RuntimeError("nobody foresaw this")] * 3)
    real_tidy = OwnSource.tidy

    def tidy(self: OwnSource) -> None:
        for error in failures:
            raise error
        real_tidy(self)

    monkeypatch.setattr(OwnSource, "tidy", tidy)
    ingest.answer_first((503, {}, b""), (503, {}, b""))
    spool = open_orders()
    shipper = ship(spool)
    helpers.eventually(lambda: shipper.stats()["ship_errors"] == 3, "three errors")
    spool.write(helpers.line("m"), 9)
    assert shipper.flush(30.0)
    assert ingest.messages() == ["m"]


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
    assert ingest.messages() == [f"m{number}" for number in range(200)]
