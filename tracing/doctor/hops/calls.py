"""Clients of HTTP, and both ends of gRPC and WebSockets."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from importlib.util import find_spec
from typing import Any

from tracing.doctor.hop import Hop, Way
from tracing.doctor.web import (
    CLIENT_THREADS,
    CONNECTIONS,
    CONTEXTS,
    DEADLINE_S,
    PATIENCE_S,
    Desk,
    on_a_loop,
    plain_server,
    through_tasks,
    through_threads,
    uvicorn_server,
)

# ---------------------------------------------------------------- HTTP clients


def _shop(desk: Desk) -> Any:
    """What the clients ask: Starlette where it is installed, else a server of Python's own."""
    if find_spec("starlette") is None or find_spec("uvicorn") is None:
        return plain_server(desk)
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route

    async def work(request: Any) -> Any:
        desk.do(request.path_params["number"])
        return PlainTextResponse("done")

    return uvicorn_server(Starlette(routes=[Route("/work/{number}", work)]))


def _blocking(make: Callable[[], Callable[[str], Any]]) -> Callable[[], Any]:
    """`open` of a client that blocks: many threads share one of it."""

    @asynccontextmanager
    async def opened() -> AsyncIterator[Way]:
        desk, ask = Desk(), make()
        with _shop(desk) as url:

            def asked(number: int) -> None:
                while number in desk:  # after an error the server may close the connection, maybe just now
                    with contextlib.suppress(Exception):
                        ask(f"{url}/work/{number}")

            async with through_threads(desk, asked) as way:
                yield way

    return opened


def _requests() -> Callable[[str], Any]:
    import requests

    session = requests.Session()
    return lambda url: session.get(url, timeout=DEADLINE_S)


def _httpx() -> Callable[[str], Any]:
    import httpx

    client = httpx.Client(timeout=DEADLINE_S)
    return client.get


def _urllib() -> Callable[[str], Any]:
    from urllib.request import urlopen

    def ask(url: str) -> None:
        with urlopen(url, timeout=DEADLINE_S) as answer:
            answer.read()

    return ask


def _urllib3() -> Callable[[str], Any]:
    import urllib3

    pool = urllib3.PoolManager(maxsize=CLIENT_THREADS)
    return lambda url: pool.request("GET", url, timeout=DEADLINE_S)


@asynccontextmanager
async def _aiohttp() -> AsyncIterator[Way]:
    import aiohttp

    desk = Desk()
    with _shop(desk) as url:
        async with aiohttp.ClientSession() as session:

            async def ask(number: int) -> None:
                while number in desk:
                    with contextlib.suppress(aiohttp.ClientError):
                        async with session.get(f"{url}/work/{number}") as answer:
                            await answer.read()

            yield through_tasks(desk, ask)


# ---------------------------------------------------------------- gRPC


def _handlers(methods: dict[str, Any]) -> Any:
    import grpc

    return grpc.method_handlers_generic_handler("matrix.Desk", methods)


def _unary(desk: Desk) -> dict[str, Any]:
    import grpc

    def work(request: bytes, context: Any) -> bytes:
        desk.do(request.decode())
        return b"done"

    return {"Work": grpc.unary_unary_rpc_method_handler(work)}


def _stream(desk: Desk) -> dict[str, Any]:
    import grpc

    def work(requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
        for request in requests:
            yield b"first"
            desk.do(request.decode())
            yield b"last"

    return {"Work": grpc.stream_stream_rpc_method_handler(work)}


def _aio_unary(desk: Desk) -> dict[str, Any]:
    import grpc

    async def work(request: bytes, context: Any) -> bytes:
        desk.do(request.decode())
        return b"done"

    return {"Work": grpc.unary_unary_rpc_method_handler(work)}


def _aio_stream(desk: Desk) -> dict[str, Any]:
    import grpc

    async def work(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        async for request in requests:
            yield b"first"
            desk.do(request.decode())
            yield b"last"

    return {"Work": grpc.stream_stream_rpc_method_handler(work)}


def _grpc(methods: Callable[[Desk], dict[str, Any]], is_streaming: bool) -> Callable[[], Any]:
    @asynccontextmanager
    async def opened() -> AsyncIterator[Way]:
        import grpc

        desk = Desk()
        server = grpc.server(ThreadPoolExecutor(8), handlers=[_handlers(methods(desk))])
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:

                def ask(number: int) -> None:
                    sent = str(number).encode()
                    if is_streaming:
                        list(channel.stream_stream("/matrix.Desk/Work")(iter([sent]), timeout=DEADLINE_S))
                    else:
                        channel.unary_unary("/matrix.Desk/Work")(sent, timeout=DEADLINE_S)

                async with through_threads(desk, ask) as way:
                    yield way
        finally:
            server.stop(None).wait(DEADLINE_S)

    return opened


def _grpc_aio(methods: Callable[[Desk], dict[str, Any]], is_streaming: bool) -> Callable[[], Any]:
    @asynccontextmanager
    async def opened() -> AsyncIterator[Way]:
        import grpc.aio

        # One loop for both ends: asyncio's gRPC shares one poller a process.
        desk = Desk()
        server = grpc.aio.server(handlers=[_handlers(methods(desk))])
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            channel: Any
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:

                async def ask(number: int) -> None:
                    sent = str(number).encode()
                    if is_streaming:
                        call = channel.stream_stream("/matrix.Desk/Work")(iter([sent]), timeout=PATIENCE_S)
                        async for _ in call:
                            pass
                    else:
                        await channel.unary_unary("/matrix.Desk/Work")(sent, timeout=PATIENCE_S)

                # A handler that is held would hold this loop, so nothing is cancelled here.
                yield Way(through_tasks(desk, ask).go)
        finally:
            await server.stop(None)

    return opened


# ---------------------------------------------------------------- WebSockets


@asynccontextmanager
async def _websockets() -> AsyncIterator[Way]:
    from websockets.asyncio.client import connect

    desk = Desk()

    async def start() -> Any:
        from websockets.asyncio.server import serve

        async def handler(connection: Any) -> None:
            async for message in connection:
                desk.do(message)
                await connection.send("done")

        server = await serve(handler, "127.0.0.1", 0)

        async def stop() -> None:
            server.close()
            await server.wait_closed()

        return server.sockets[0].getsockname()[1], stop

    with on_a_loop(start) as url:

        async def ask(number: int) -> None:
            async with connect(url.replace("http", "ws"), open_timeout=DEADLINE_S) as connection:
                await connection.send(str(number))
                await connection.recv()

        yield through_tasks(desk, ask)


@asynccontextmanager
async def _websockets_threads() -> AsyncIterator[Way]:
    import threading

    from websockets.sync.client import connect
    from websockets.sync.server import serve

    desk = Desk()

    def handler(connection: Any) -> None:
        for message in connection:
            desk.do(message)
            connection.send("done")

    with serve(handler, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        port = server.socket.getsockname()[1]

        def ask(number: int) -> None:
            with connect(f"ws://127.0.0.1:{port}", open_timeout=DEADLINE_S) as connection:
                connection.send(str(number))
                connection.recv()

        async with through_threads(desk, ask) as way:
            yield way
        server.shutdown()
        thread.join(DEADLINE_S)


def _hop(name: str, opened: Callable[[], Any], needs: str, *by: str, contexts: int = CONTEXTS) -> Hop:
    return Hop(name, opened, asyncio.run, contexts, (needs,), by)


HOPS = [
    _hop("requests", _blocking(_requests), "requests", "requests"),
    _hop("httpx", _blocking(_httpx), "httpx", "httpx"),
    _hop("urllib", _blocking(_urllib), "urllib.request", "urllib"),
    _hop("urllib3", _blocking(_urllib3), "urllib3", "urllib3"),
    _hop("aiohttp client", _aiohttp, "aiohttp", "aiohttp-client"),
    _hop("gRPC", _grpc(_unary, False), "grpc", "grpc"),
    _hop("gRPC, streams", _grpc(_stream, True), "grpc", "grpc"),
    _hop("gRPC asyncio", _grpc_aio(_aio_unary, False), "grpc", "grpc-aio"),
    _hop("gRPC asyncio, streams", _grpc_aio(_aio_stream, True), "grpc", "grpc-aio"),
    _hop("websockets", _websockets, "websockets", "websockets", contexts=CONNECTIONS),
    _hop("websockets, threads", _websockets_threads, "websockets", "websockets", contexts=CONNECTIONS),
]
