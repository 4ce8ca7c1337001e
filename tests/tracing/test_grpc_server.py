"""What becomes of a gRPC call is on the server's span, and what the server logs of it is in the trace."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import grpc.aio
import pytest

import tracing
from tracing.testing import Captured, capturing

DEADLINE_S = 30


@pytest.fixture
def captured() -> Iterator[Captured]:
    """gRPC alone."""
    with capturing(level="INFO") as lines:
        tracing.instrument("grpc", "grpc-aio")
        yield lines
        tracing.uninstrument()


def fail(request: bytes, context: Any) -> bytes:
    """An error of the program's."""
    raise LookupError("no stock")


def refuse(request: bytes, context: Any) -> bytes:
    """An answer in the form of an exception."""
    context.abort(grpc.StatusCode.NOT_FOUND, "no such order")
    return b""


def give_up(request: bytes, context: Any) -> bytes:
    """The same, and the server is to blame."""
    context.abort(grpc.StatusCode.UNAVAILABLE, "bank is away")
    return b""


def say(request: bytes, context: Any) -> bytes:
    """A status without an exception."""
    context.set_code(grpc.StatusCode.INTERNAL)
    return b""


def stream_fails(request: bytes, context: Any) -> Iterator[bytes]:
    """In the middle."""
    yield b"first"
    raise LookupError("no stock")


async def aio_fail(request: bytes, context: Any) -> bytes:
    """As `fail`."""
    raise LookupError("no stock")


async def aio_refuse(request: bytes, context: Any) -> bytes:
    """As `refuse`."""
    await context.abort(grpc.StatusCode.NOT_FOUND, "no such order")
    return b""


async def aio_give_up(request: bytes, context: Any) -> bytes:
    """As `give_up`."""
    await context.abort(grpc.StatusCode.UNAVAILABLE, "bank is away")
    return b""


async def aio_stream_fails(request: bytes, context: Any) -> AsyncIterator[bytes]:
    """As `stream_fails`."""
    yield b"first"
    raise LookupError("no stock")


async def aio_writes(request: bytes, context: Any) -> None:
    """A stream that is written instead of yielded."""
    logging.getLogger("shop").info("writing")
    await context.write(b"one")


def handlers(behavior: Callable[..., Any], streaming: bool) -> list[Any]:
    """A server's one method."""
    make = grpc.unary_stream_rpc_method_handler if streaming else grpc.unary_unary_rpc_method_handler
    return [grpc.method_handlers_generic_handler("shop.Orders", {"Place": make(behavior)})]


def ask(channel: Any, streaming: bool) -> None:
    """Call it; what it answers is for the test to read from the spans."""
    try:
        if streaming:
            list(channel.unary_stream("/shop.Orders/Place")(b"x", timeout=DEADLINE_S))
        else:
            channel.unary_unary("/shop.Orders/Place")(b"x", timeout=DEADLINE_S)
    except grpc.RpcError:
        pass


CASES = [
    # behavior, streaming, status code, whether the span is an error, exception on it
    (fail, False, 2, True, "LookupError"),
    (refuse, False, 5, False, None),
    (give_up, False, 14, True, None),
    (say, False, 13, True, None),
    (stream_fails, True, 2, True, "LookupError"),
]
AIO_CASES = [
    (aio_fail, False, 2, True, "LookupError"),
    (aio_refuse, False, 5, False, None),
    (aio_give_up, False, 14, True, None),
    (aio_stream_fails, True, 2, True, "LookupError"),
    (aio_writes, True, 0, False, None),
]


def check(captured: Captured, code: int, is_error: bool, exception: str | None) -> None:
    """Status and exception on the span; the server's own log of an exception is in it."""
    [server] = [span for span in captured.spans if span["span_kind"] == "SERVER"]
    assert server["name"] == "shop.Orders/Place"
    assert server["attributes"]["rpc.grpc.status_code"] == code
    assert (server["level"] == "ERROR") is is_error
    assert [event["attributes"]["exception.type"] for event in server.get("events", [])] == (
        [exception] if exception else []
    )
    with_errors = [line for line in captured.logs if "exception" in line]
    assert {line.get("span_id") for line in with_errors} == ({server["span_id"]} if exception else set())
    assert tracing.current_span_id() is None


@pytest.mark.parametrize(
    ("behavior", "streaming", "code", "is_error", "exception"),
    CASES,
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_threads(
    captured: Captured, behavior: Any, streaming: bool, code: int, is_error: bool, exception: str | None
) -> None:
    """A server of `grpc.server()`."""
    server = grpc.server(ThreadPoolExecutor(1), handlers=handlers(behavior, streaming))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        ask(channel, streaming)
    server.stop(None).wait(DEADLINE_S)
    check(captured, code, is_error, exception)


@pytest.mark.parametrize(
    ("behavior", "streaming", "code", "is_error", "exception"),
    AIO_CASES,
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_asyncio(
    captured: Captured, behavior: Any, streaming: bool, code: int, is_error: bool, exception: str | None
) -> None:
    """A server of `grpc.aio.server()`."""

    async def main() -> None:
        server = grpc.aio.server(handlers=handlers(behavior, streaming))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            try:
                if streaming:
                    async for _ in channel.unary_stream("/shop.Orders/Place")(b"x", timeout=DEADLINE_S):
                        pass
                else:
                    await channel.unary_unary("/shop.Orders/Place")(b"x", timeout=DEADLINE_S)
            except grpc.RpcError:
                pass
        await server.stop(None)

    asyncio.run(main())
    check(captured, code, is_error, exception)


def test_a_method_that_is_not_there(captured: Captured) -> None:
    """Nobody answers it, so nobody's span says so."""
    server = grpc.server(ThreadPoolExecutor(1), handlers=handlers(fail, False))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel, pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary("/shop.Orders/Cancel")(b"x", timeout=DEADLINE_S)
    server.stop(None).wait(DEADLINE_S)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert [span["span_kind"] for span in captured.spans] == ["CLIENT"]


def test_interceptors_of_the_program_s_own_are_inside(captured: Captured) -> None:
    """They run after ours, in the trace of the caller."""
    seen: list[str | None] = []

    class Own(grpc.ServerInterceptor):
        def intercept_service(self, continuation: Any, details: Any) -> Any:
            seen.append(details.method)
            return continuation(details)

    server = grpc.server(ThreadPoolExecutor(1), handlers=handlers(say, False), interceptors=[Own()])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        ask(channel, False)
    server.stop(None).wait(DEADLINE_S)
    assert seen == ["/shop.Orders/Place"]
