"""Request bodies: bounded one by one and all together, and given back whatever happens."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from collector.api.bodies import Bodies, BodyTimeout, BodyTooLarge, Disconnected
from collector.errors import Overloaded


def sender(*chunks: bytes | None) -> Callable[[], Awaitable[dict[str, Any]]]:
    """An ASGI `receive` that gives these chunks; `None`: the caller goes away."""
    rest = list(chunks)

    async def receive() -> dict[str, Any]:
        assert rest, "asked for more than there is: a real server would wait for ever"
        chunk = rest.pop(0)
        if chunk is None:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": chunk, "more_body": bool(rest)}

    return receive


def read(bodies: Bodies, *chunks: bytes | None) -> bytes:
    """Read one body to its end."""
    return asyncio.run(bodies.read(sender(*chunks)))


def test_a_body_is_put_together_and_given_back() -> None:
    """It counts as held from its first byte until `release`."""
    bodies = Bodies(body_bytes_max=10, in_flight_bytes_max=20)
    body = read(bodies, b"abc", b"", b"def")
    assert (body, bodies.in_flight_bytes) == (b"abcdef", 6)
    bodies.release(body)
    assert bodies.in_flight_bytes == 0
    assert read(bodies, b"") == b""


def test_a_body_may_be_as_long_as_the_limit() -> None:
    """The limit is included."""
    assert read(Bodies(body_bytes_max=4, in_flight_bytes_max=9), b"ab", b"cd") == b"abcd"


@pytest.mark.parametrize("chunks", [(b"abcde",), (b"abc", b"de"), (b"abc", b"de", b"f" * 100, b"g")])
def test_a_longer_body_is_read_to_its_end_and_thrown_away(chunks: tuple[bytes, ...]) -> None:
    """So that the sender hears the reason instead of a broken connection; nothing is held."""
    bodies = Bodies(body_bytes_max=4, in_flight_bytes_max=1000)
    with pytest.raises(BodyTooLarge):
        read(bodies, *chunks)
    assert bodies.in_flight_bytes == 0


def test_nobody_is_listened_to_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is thrown away is bounded, too: the chunk behind the bound is not asked for."""
    monkeypatch.setattr(Bodies, "DISCARD_BYTES_MAX", 8)
    with pytest.raises(BodyTooLarge):
        read(Bodies(body_bytes_max=4, in_flight_bytes_max=99), b"a" * 5, b"b" * 5, b"never", b"asked")


def test_a_body_that_trickles_in_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of it is held any longer."""
    monkeypatch.setattr(Bodies, "BODY_TIMEOUT_S", 0.01)
    bodies = Bodies(body_bytes_max=99, in_flight_bytes_max=99)
    first = sender(b"abc", b"never asked for")

    async def receive() -> dict[str, Any]:
        if bodies.in_flight_bytes:
            await asyncio.Event().wait()
        return await first()

    with pytest.raises(BodyTimeout):
        asyncio.run(bodies.read(receive))
    assert bodies.in_flight_bytes == 0


def test_all_bodies_together_are_bounded() -> None:
    """A second body has to wait until the first is released."""
    bodies = Bodies(body_bytes_max=6, in_flight_bytes_max=8)
    first = read(bodies, b"abcdef")
    with pytest.raises(Overloaded):
        read(bodies, b"abc")
    assert bodies.in_flight_bytes == 6
    bodies.release(first)
    assert read(bodies, b"abc") == b"abc"


def test_a_caller_that_goes_away_leaves_nothing() -> None:
    """Half a body is given back."""
    bodies = Bodies(body_bytes_max=6, in_flight_bytes_max=8)
    with pytest.raises(Disconnected):
        read(bodies, b"abc", None)
    assert bodies.in_flight_bytes == 0
