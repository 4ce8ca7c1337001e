"""A TCP proxy that treats what passes through it badly, as networks do. Loopback only."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
import threading
from collections.abc import Coroutine
from enum import Enum
from typing import Any, Final

CHUNK_BYTES: Final = 16_384
SLOW_BYTES_PER_S: Final = 20_000
RESET_AFTER_BYTES_MAX: Final = 40_000  # of a request: before, in the middle, and after a usual body
_RESET: Final = struct.pack("ii", 1, 0)  # SO_LINGER: closing sends RST


class Weather(Enum):
    """How the network is at present."""

    FINE = "fine"
    SLOW = "slow"  # both ways
    HALF_OPEN = "half-open"  # connections are taken, and nothing ever comes back
    RESETS = "resets"  # in the middle of a request
    LOST_ANSWERS = "lost answers"  # the request arrives, its answer does not
    UNREACHABLE = "unreachable"  # nobody listens


class Proxy:
    """Between senders and a port. Its loop runs in a thread of its own; any thread may change the weather."""

    def __init__(self, target_port: int, *, seed: int) -> None:
        """Listen at once.

        Args:
            seed: decides where connections are cut.
        """
        self.weather = Weather.FINE
        self.cuts = 0  # connections that were broken on purpose
        self._target_port = target_port
        self._random = random.Random(seed)
        self._loop = asyncio.new_event_loop()
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._call(self._listen())

    @property
    def url(self) -> str:
        """Where senders send to."""
        return f"http://127.0.0.1:{self.port}"

    def change(self, weather: Weather) -> None:
        """Have other weather, for the connections that are open as well."""
        self._call(self._change(weather))

    def close(self) -> None:
        """End; every connection is broken off."""
        self._call(self._change(Weather.UNREACHABLE))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _call(self, coroutine: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(30)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def _change(self, weather: Weather) -> None:
        before, self.weather = self.weather, weather
        if weather is Weather.UNREACHABLE and self._server is not None:
            self._server.close()
            self._server = None
        if weather is Weather.UNREACHABLE or before is Weather.HALF_OPEN:
            for writer in list(self._open):
                self._cut(writer)
        if weather is not Weather.UNREACHABLE and self._server is None:
            await self._listen()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            their_reader, their_writer = await asyncio.open_connection("127.0.0.1", self._target_port)
        except OSError:
            self._cut(writer)
            return
        self._open.add(their_writer)
        both = (
            self._pump(reader, their_writer, writer, is_request=True),
            self._pump(their_reader, writer, their_writer, is_request=False),
        )
        await asyncio.gather(*both, return_exceptions=True)
        for one in (writer, their_writer):
            self._open.discard(one)
            one.close()

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        other: asyncio.StreamWriter,
        *,
        is_request: bool,
    ) -> None:
        """Carry bytes one way until one side ends.

        Args:
            other: the connection that the bytes come from.
        """
        until_reset = self._random.randrange(RESET_AFTER_BYTES_MAX)
        with contextlib.suppress(OSError):
            while data := await reader.read(CHUNK_BYTES):
                if self.weather is Weather.HALF_OPEN:
                    continue  # swallowed; whoever waits for an answer waits
                if self.weather is Weather.LOST_ANSWERS and not is_request:
                    self._cut(writer)
                    self._cut(other)
                    return
                if self.weather is Weather.RESETS and is_request:
                    until_reset -= len(data)
                    if until_reset < 0:
                        writer.write(data[:until_reset])  # a part still arrives
                        await writer.drain()
                        self._cut(writer)
                        self._cut(other)
                        return
                writer.write(data)
                await writer.drain()
                if self.weather is Weather.SLOW:
                    await asyncio.sleep(len(data) / SLOW_BYTES_PER_S)
            writer.write_eof()

    def _cut(self, writer: asyncio.StreamWriter) -> None:
        self.cuts += 1
        self._open.discard(writer)
        with contextlib.suppress(OSError):
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        writer.transport.abort()
