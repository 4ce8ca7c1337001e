"""Request bodies, read into memory within bounds."""

from __future__ import annotations

import asyncio
from typing import Final

from starlette.types import Receive

from collector.errors import CollectorError, Overloaded


class BodyTooLarge(CollectorError):
    """The body is longer than `bytes_max`."""

    def __init__(self, bytes_max: int) -> None:
        super().__init__(f"the body is longer than {bytes_max} bytes")
        self.bytes_max = bytes_max


class BodyTimeout(CollectorError):
    """The body did not come in time."""


class Disconnected(Exception):
    """The caller went away before its body was whole."""


class Bodies:
    """Reads request bodies, each and all together within bounds. Used on the event loop only.

    Args:
        body_bytes_max: longest single body.
        in_flight_bytes_max: all bodies that are held at once.
    """

    # A caller that sends its whole body before it looks at the answer would see a broken connection
    # instead of our 413; so much of what is too long is read and thrown away to let it finish.
    DISCARD_BYTES_MAX: Final = 64 * 1024 * 1024
    # A body that trickles in holds memory all the while; at 16 MiB this is a line of 2 Mbit/s.
    BODY_TIMEOUT_S: Final = 60.0

    def __init__(self, *, body_bytes_max: int, in_flight_bytes_max: int) -> None:
        self.body_bytes_max = body_bytes_max
        self.in_flight_bytes_max = in_flight_bytes_max
        self.in_flight_bytes = 0

    async def read(self, receive: Receive) -> bytes:
        """The whole body; give it back with `release` once it is done with.

        Raises:
            BodyTooLarge, BodyTimeout, Overloaded, Disconnected: nothing is held then.
        """
        try:
            async with asyncio.timeout(self.BODY_TIMEOUT_S):
                return await self._read(receive)
        except TimeoutError:
            raise BodyTimeout(f"the body did not come within {self.BODY_TIMEOUT_S:g} s") from None

    async def _read(self, receive: Receive) -> bytes:
        chunks: list[bytes] = []
        held = thrown_away = 0
        trouble: CollectorError | None = None
        while True:
            try:
                message = await receive()
            except asyncio.CancelledError:
                self.in_flight_bytes -= held
                raise
            if message["type"] == "http.disconnect":
                self.in_flight_bytes -= held
                raise Disconnected
            chunk = message.get("body", b"")
            if trouble is None:
                chunks.append(chunk)
                held += len(chunk)
                self.in_flight_bytes += len(chunk)
                if held > self.body_bytes_max:
                    trouble = BodyTooLarge(self.body_bytes_max)
                elif self.in_flight_bytes > self.in_flight_bytes_max:
                    trouble = Overloaded("too many bodies are under way at once", retry_after_s=1.0)
            if trouble is not None:
                chunks.clear()
                self.in_flight_bytes -= held
                held = 0
                thrown_away += len(chunk)
            if not message.get("more_body", False) or thrown_away > self.DISCARD_BYTES_MAX:
                break
        if trouble is not None:
            raise trouble
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def release(self, body: bytes) -> None:
        """Count a body as no longer held."""
        self.in_flight_bytes -= len(body)
