"""The syslog port with real senders: the library's handler, logger(1), plain sockets."""

from __future__ import annotations

import json
import logging
import logging.handlers
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from collector.errors import ConfigurationError
from collector.intake import Intake, open_log
from collector.listen.syslog import SyslogLimits, SyslogServer
from collector.wal import WalLimits


class Running:
    """A server on a log of its own."""

    def __init__(self, directory: Path, *, wal: WalLimits | None = None, **limits: Any) -> None:
        self.wal, self.ledger = open_log(
            directory, durable_seq=0, wal_limits=wal or WalLimits(disk_free_bytes_min=0)
        )
        self.intake = Intake(self.wal, self.ledger)
        self.server = SyslogServer(self.intake, host="127.0.0.1", port=0, limits=SyslogLimits(**limits))
        self.server.start()

    def lines(self) -> list[dict[str, Any]]:
        found, after = [], 0
        while frames := self.wal.read(after, 10_000):
            after = frames[-1].last_seq
            found += [json.loads(text) for frame in frames for text in frame.split()]
        return found

    def messages(self) -> list[str]:
        return [one["message"] for one in self.lines()]

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.server.port), timeout=30)

    def close(self) -> None:
        self.server.stop()
        self.wal.close()
        self.ledger.close()


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    one = Running(tmp_path)
    yield one
    one.close()


def wait_for(condition: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(3000):
        if condition():
            return
        pause.wait(0.01)
    raise AssertionError("it did not happen in time")


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_STREAM])
def test_the_standard_library_s_handler(running: Running, kind: int) -> None:
    """Over both transports; over TCP it ends each message with a NUL and nothing else."""
    handler = logging.handlers.SysLogHandler(("127.0.0.1", running.server.port), socktype=kind)
    handler.append_nul = False
    handler.setFormatter(logging.Formatter("orders: %(message)s\n"))
    logger = logging.Logger("test.syslog")
    logger.addHandler(handler)
    for number in range(20):
        logger.error("trace_id=%032x line %d", 7, number)
    handler.close()
    wait_for(lambda: len(running.lines()) == 20)
    assert [one["message"].partition(" line ")[2] for one in running.lines()] == [str(n) for n in range(20)]
    assert {(one["level"], one["trace_id"]) for one in running.lines()} == {("ERROR", f"{7:032x}")}


@pytest.mark.parametrize("transport", ["--udp", "--tcp"])
def test_logger_of_util_linux(running: Running, need: Callable[[bool, str], None], transport: str) -> None:
    """RFC 5424 with structured data, from a program that everybody has."""
    program = shutil.which("logger")
    need(program is not None, "logger(1)")
    assert program is not None
    command = [program, "--server", "127.0.0.1", "--port", str(running.server.port), transport, "--rfc5424"]
    data = ["--sd-id", "shop@32473", "--sd-param", 'order="7"']
    subprocess.run([*command, *data, "-t", "orders", "-p", "local0.err", "declined"], check=True)
    wait_for(lambda: len(running.lines()) == 1)
    (one,) = running.lines()
    assert (one["service"], one["level"], one["message"]) == ("orders", "ERROR", "declined")
    assert one["attributes"]["shop@32473.order"] == "7"
    assert one["attributes"]["syslog.facility"] == "local0"


def test_a_stream_in_pieces(running: Running) -> None:
    """Counted and uncounted messages of several connections, one of them cut off at its end."""
    with running.connect() as first, running.connect() as second:
        first.sendall(b"<13>1 - - app - - - one\n25 <13>1 - - app - - - co")
        second.sendall(b"<13>1 - - app - - - two\n<13>1 - - app - - - three")
        first.sendall(b"unt\n<13>1 - - app - - - four\n")
    wait_for(lambda: len(running.lines()) == 5)
    assert sorted(running.messages()) == ["count", "four", "one", "three", "two"]


def test_nothing_is_dropped_of_a_stream_when_the_server_stops(running: Running) -> None:
    """What was read is in the log before the stop returns."""
    with running.connect() as connection:
        connection.sendall(b"".join(b"<13>1 - - app - - - %d\n" % n for n in range(5000)))
        wait_for(
            lambda: running.server.stats().get("messages", 0) + running.server.stats()["pending"] == 5000
        )
        running.server.stop()
    assert running.messages() == [str(n) for n in range(5000)]


def test_a_message_that_is_too_long_ends_its_connection_only(tmp_path: Path) -> None:
    """The others go on; it is counted."""
    running = Running(tmp_path, message_bytes_max=100)
    with running.connect() as bad, running.connect() as good:
        bad.sendall(b"x" * 1000)
        assert bad.recv(1) == b""
        good.sendall(b"<13>fine\n")
        wait_for(lambda: running.messages() == ["fine"])
    assert running.server.stats()["messages_too_long"] == 1
    running.close()


def test_too_many_connections_are_closed(tmp_path: Path) -> None:
    """And counted."""
    running = Running(tmp_path, connections_max=1)
    with running.connect() as first:
        first.sendall(b"<13>a\n")
        wait_for(lambda: running.messages() == ["a"])
        with running.connect() as second:
            assert second.recv(1) == b""
    assert running.server.stats()["connections_refused"] == 1
    running.close()


def test_without_room_streams_wait_and_datagrams_are_counted(tmp_path: Path) -> None:
    """TCP slows its senders down; UDP cannot, and says what it lost."""
    limits = WalLimits(disk_free_bytes_min=2**60, retry_after_s=0.01)
    running = Running(tmp_path, wal=limits, pending_messages_max=50, flush_interval_s=0.01)
    with running.connect() as stream, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        stream.sendall(b"".join(b"<13>1 - - app - - - %d\n" % n for n in range(60)))
        wait_for(lambda: running.server.stats()["pending"] >= 50)
        stream.sendall(b"<13>1 - - app - - - last\n")
        for _ in range(10):
            datagrams.sendto(b"<13>1 - - app - - - lost", ("127.0.0.1", running.server.port))
        wait_for(lambda: running.server.stats().get("dropped", 0) == 10)
        wait_for(lambda: running.server.stats().get("overloaded", 0) > 0)
        assert running.lines() == []
        object.__setattr__(limits, "disk_free_bytes_min", 0)
        wait_for(lambda: running.messages() == [*(str(n) for n in range(60)), "last"])
    running.close()


def test_an_address_that_is_taken_stops_the_start(tmp_path: Path, running: Running) -> None:
    """With the setting's name."""
    with pytest.raises(ConfigurationError, match="syslog_port"):
        SyslogServer(running.intake, host="127.0.0.1", port=running.server.port)


def test_a_burst_that_is_too_much_for_a_small_log_is_cut(tmp_path: Path) -> None:
    """Each message is taken, as long as it fits alone."""
    wal = WalLimits(bytes_max=131_072, segment_bytes_max=8192, frame_bytes_max=1024, disk_free_bytes_min=0)
    running = Running(tmp_path, wal=wal, flush_interval_s=60.0, batch_messages_max=400)
    try:
        with running.connect() as connection:
            connection.sendall(b"".join(b"<14>1 - - orders - - - message %d\n" % n for n in range(400)))
        wait_for(lambda: len(running.messages()) == 400)
        assert running.messages() == [f"message {n}" for n in range(400)]
    finally:
        running.close()
