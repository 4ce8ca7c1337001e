"""Sanic: its own server and under ASGI, asked over pooled connections."""

from __future__ import annotations

import asyncio
import itertools
import socket
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from context_hop import Failure, Hop
from context_web import CONTEXTS, Desk, on_a_loop, served, uvicorn_server

Made = AbstractContextManager[str]

_names = (f"shop{number}" for number in itertools.count())  # it wants another one for each application


def _application(desk: Desk, view: Callable[[Desk], Any]) -> Any:
    import sanic
    from sanic.handlers import ErrorHandler

    class Quiet(ErrorHandler):
        @staticmethod
        def log(request: Any, exception: Exception) -> None:
            if not isinstance(exception, Failure):
                ErrorHandler.log(request, exception)

    sanic.Sanic.test_mode = True  # several of them in one process
    app = sanic.Sanic(next(_names), error_handler=Quiet(), configure_logging=False)
    app.config.MOTD = False
    app.add_route(view(desk), "/work/<number>")
    return app


def _view(desk: Desk) -> Any:
    import sanic

    async def work(request: Any, number: str) -> Any:
        await asyncio.sleep(0)
        desk.do(number)
        return sanic.text("done")

    return work


def _streaming(desk: Desk) -> Any:
    async def work(request: Any, number: str) -> None:
        answer = await request.respond()
        await answer.send(b"first")
        desk.do(number)
        await answer.send(b"last")
        await answer.eof()

    return work


def _background(desk: Desk) -> Any:
    import sanic

    async def later(number: str) -> None:
        desk.do(number)

    async def work(request: Any, number: str) -> Any:
        request.app.add_task(later(number))
        return sanic.text("soon")

    return work


def _own_server(view: Callable[[Desk], Any]) -> Callable[[Desk], Made]:
    def make(desk: Desk) -> Made:
        async def start() -> Any:
            app = _application(desk, view)
            listening = socket.create_server(("127.0.0.1", 0))
            server = await app.create_server(sock=listening, return_asyncio_server=True)
            await server.startup()

            async def stop() -> None:
                for connection in list(server.connections):
                    connection.close_if_idle()
                server.close()
                await server.wait_closed()

            return listening.getsockname()[1], stop

        return on_a_loop(start)

    return make


def _under_asgi(view: Callable[[Desk], Any]) -> Callable[[Desk], Made]:
    return lambda desk: uvicorn_server(_application(desk, view), lifespan="on")


ROWS: dict[str, Callable[[Desk], Made]] = {
    "Sanic": _own_server(_view),
    "Sanic, streaming answer": _own_server(_streaming),
    "Sanic, ASGI": _under_asgi(_view),
    "Sanic, ASGI, background task": _under_asgi(_background),
}

HOPS = [Hop(name, served(make), asyncio.run, CONTEXTS) for name, make in ROWS.items()]
