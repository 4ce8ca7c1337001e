"""Syslog over UDP and TCP: a thin shell around `Intake.messages`.

Syslog knows no acknowledgement. Over TCP a sender is slowed down while there is no room; over UDP what
comes then is dropped, here or in the kernel, and counted in both places.

Source: RFC 5426 (UDP), RFC 6587 (TCP), socket(7) on `SO_RXQ_OVFL`.
"""

from __future__ import annotations

import logging
import selectors
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, tzinfo
from typing import Final

from collector.errors import ConfigurationError, Overloaded, Refused
from collector.intake import Intake
from collector.receive.foreign import Foreign
from collector.receive.syslog import Deframer, decode_message

logger = logging.getLogger(__name__)

_SO_RXQ_OVFL: Final = 40  # Linux: hands over how many datagrams the kernel has dropped
_DATAGRAM_BYTES_MAX: Final = 65_535
_READ_BYTES: Final = 65_536


@dataclass(frozen=True, slots=True, kw_only=True)
class SyslogLimits:
    """Bounds of the syslog listener."""

    message_bytes_max: int = 65_536  # RFC 5424 asks for 2 048, stack traces for more
    connections_max: int = 1_000
    batch_messages_max: int = 2_000  # appended at once
    flush_interval_s: float = 0.1  # longest wait for a batch to grow
    pending_messages_max: int = 20_000  # held while there is no room


class SyslogServer:
    """Takes syslog messages on one port, UDP and TCP."""

    def __init__(
        self,
        intake: Intake,
        *,
        host: str,
        port: int,
        limits: SyslogLimits | None = None,
        zone: tzinfo = UTC,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        """Take the address; `start` begins to listen.

        Args:
            intake: is given the messages in batches.
            host: name or address to listen on.
            port: of both; 0 picks a free one, see `port`.
            limits: bounds; the defaults if `None`.
            zone: of times that do not name one.
            clock_ns: now, epoch nanoseconds.
        Raises:
            ConfigurationError: the address cannot be listened on.
        """
        self._intake = intake
        self._limits = limits or SyslogLimits()
        self._zone = zone
        self._clock_ns = clock_ns
        self._counts: Counter[str] = Counter()
        self._pending: list[Foreign] = []
        self._pending_bytes = 0
        self._pending_since_s = self._retry_at_s = 0.0
        self._deframers: dict[socket.socket, Deframer] = {}
        self._kernel_dropped = 0
        self._stopping = threading.Event()
        self._tcp, self._udp = _bind(host, port)
        self.port: int = self._tcp.getsockname()[1]
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._tcp, selectors.EVENT_READ)
        self._selector.register(self._udp, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._run, name="backtrail-syslog", daemon=True)

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()

    def stop(self, timeout_s: float = 10.0) -> None:
        """Take nothing more; hand over what is pending."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        for connection in [*self._deframers, self._tcp, self._udp]:
            connection.close()
        self._selector.close()

    def stats(self) -> dict[str, int]:
        """Counts since the start: messages, what was dropped and where, connections."""
        return {**self._counts, "pending": len(self._pending), "connections": len(self._deframers)}

    # ---------------------------------------------------------------- the thread

    def _run(self) -> None:
        while not self._stopping.is_set():
            for key, _ in self._selector.select(self._limits.flush_interval_s):
                source = key.fileobj
                assert isinstance(source, socket.socket)
                try:
                    self._read(source)
                except OSError as error:
                    logger.warning("syslog: %s", error)
                    self._forget(source)
            self._flush_if_due()
            if self._is_full:  # streams wait unread, and would wake `select` at once
                self._stopping.wait(self._limits.flush_interval_s)
        for connection, deframer in list(self._deframers.items()):
            self._take(deframer.end())
            self._forget(connection)
        self._retry_at_s = 0.0
        self._flush()

    def _read(self, source: socket.socket) -> None:
        if source is self._udp:
            self._read_datagrams()
        elif source is self._tcp:
            self._accept()
        elif not self._is_full:
            self._read_stream(source)

    @property
    def _is_full(self) -> bool:
        return len(self._pending) >= self._limits.pending_messages_max

    def _accept(self) -> None:
        connection, _ = self._tcp.accept()
        if len(self._deframers) >= self._limits.connections_max:
            self._counts["connections_refused"] += 1
            connection.close()
            return
        connection.setblocking(False)
        self._deframers[connection] = Deframer(self._limits.message_bytes_max)
        self._selector.register(connection, selectors.EVENT_READ)

    def _read_stream(self, connection: socket.socket) -> None:
        deframer = self._deframers[connection]
        data = connection.recv(_READ_BYTES)
        try:
            self._take(deframer.feed(data) if data else deframer.end())
        except Refused as error:
            logger.warning("syslog: connection closed: %s", error)
            self._counts["messages_too_long"] += 1
            data = b""
        if not data:
            self._forget(connection)

    def _read_datagrams(self) -> None:
        """Everything that is there, so that a burst finds an empty buffer again."""
        for _ in range(self._limits.batch_messages_max):
            try:
                data, ancillary, _, _ = self._udp.recvmsg(_DATAGRAM_BYTES_MAX, 64)
            except BlockingIOError:
                return
            for level, kind, value in ancillary:
                if (level, kind) == (socket.SOL_SOCKET, _SO_RXQ_OVFL):
                    (dropped,) = struct.unpack("=I", value[:4])
                    self._counts["kernel_dropped"] += (dropped - self._kernel_dropped) & 0xFFFFFFFF
                    self._kernel_dropped = dropped
            if self._is_full:
                self._counts["dropped"] += 1
            elif data.strip(b"\r\n\0 "):
                self._take([data])

    def _forget(self, connection: socket.socket) -> None:
        if self._deframers.pop(connection, None) is not None:
            self._selector.unregister(connection)
            connection.close()

    def _take(self, messages: list[bytes]) -> None:
        if messages and not self._pending:
            self._pending_since_s = time.monotonic()
        for message in messages:
            self._pending.append(decode_message(message, received_ns=self._clock_ns(), zone=self._zone))
            self._pending_bytes += len(message)

    def _flush_if_due(self) -> None:
        now_s = time.monotonic()
        old = now_s - self._pending_since_s >= self._limits.flush_interval_s
        if now_s >= self._retry_at_s and (old or len(self._pending) >= self._limits.batch_messages_max):
            self._flush()

    def _flush(self) -> None:
        size = self._limits.batch_messages_max
        while self._pending:
            batch = self._pending[:size]
            wire_bytes = self._pending_bytes * len(batch) // len(self._pending)
            try:
                self._intake.messages("syslog", wire_bytes, batch)
            except Refused:
                if len(batch) == 1:
                    raise
                size = max(1, len(batch) // 2)  # too much at once for a small log
                continue
            except Overloaded as error:
                self._counts["overloaded"] += 1
                self._retry_at_s = time.monotonic() + min(error.retry_after_s, 1.0)
                if self._stopping.is_set():
                    self._counts["dropped"] += len(self._pending)
                return
            self._counts["messages"] += len(batch)
            self._pending_bytes -= wire_bytes
            del self._pending[:size]


def _bind(host: str, port: int) -> tuple[socket.socket, socket.socket]:
    """A TCP and a UDP socket on the same port."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    tcp, udp = socket.socket(family, socket.SOCK_STREAM), socket.socket(family, socket.SOCK_DGRAM)
    try:
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        tcp.bind((host, port))
        udp.bind((host, tcp.getsockname()[1]))
        tcp.listen(128)
    except OSError as error:
        tcp.close()
        udp.close()
        raise ConfigurationError(f"syslog_port {port}: cannot listen on {host}: {error}") from None
    try:
        udp.setsockopt(socket.SOL_SOCKET, _SO_RXQ_OVFL, 1)
    except OSError:
        pass  # not Linux: then the kernel keeps its losses to itself
    tcp.setblocking(False)
    udp.setblocking(False)
    return tcp, udp
