"""Django, aiohttp, Tornado, Sanic and WebSockets: one span a request, its route, its status, its exception.

Whether log lines, parents and baggage survive is told by the matrix in `tests/conformance/context`.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import socket
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, ClassVar

import aiohttp.test_utils
import aiohttp.web
import django
import httpx
import pytest
import sanic
import sanic.exceptions
import tornado.httpserver
import tornado.testing
import tornado.web
import uvicorn
import websockets.asyncio.client
import websockets.asyncio.server
import websockets.exceptions
from django.conf import settings as django_settings
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.http import Http404, HttpResponse
from django.urls import path, re_path

import tracing
from tracing.testing import Captured, capturing

TRACE_ID = "7" * 32
log = logging.getLogger("app")


@pytest.fixture
def captured() -> Iterator[Captured]:
    """The servers alone: what asks them is not traced."""
    with capturing(level="INFO") as lines:
        tracing.instrument("django", "aiohttp-server", "tornado", "sanic", "websockets")
        yield lines
        tracing.uninstrument()


def work(order: str) -> None:
    """What the handlers do."""
    log.info("order %s", order)
    if order == "0":
        raise LookupError("no stock")


# ---------------------------------------------------------------- the servers


def _view(request: Any, order: int) -> HttpResponse:
    work(str(order))
    if order == 404:
        raise Http404
    return HttpResponse("done")


async def _async_view(request: Any, order: int) -> HttpResponse:
    return _view(request, order)


class Urls:
    """What stands for a module of URLs."""

    urlpatterns: ClassVar[list[Any]] = [
        path("orders/<int:order>", _view),
        path("async/<int:order>", _async_view),
        re_path(r"^old/(?P<order>\d+)$", lambda request, order: _view(request, int(order))),
    ]


def _django() -> None:
    if not django_settings.configured:
        django_settings.configure(
            SECRET_KEY="test", ALLOWED_HOSTS=["*"], ROOT_URLCONF=Urls, LOGGING_CONFIG=None
        )
        django.setup()


async def _ask_django_wsgi(ask: Callable[[Any], Awaitable[None]]) -> None:
    _django()
    app = get_wsgi_application()

    def whole(environ: Any, start_response: Any) -> Any:
        parts = app(environ, start_response)
        try:
            return list(parts)
        finally:
            parts.close()

    class Transport(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            inner = httpx.WSGITransport(app=whole)
            answer = inner.handle_request(httpx.Request(request.method, request.url, headers=request.headers))
            return httpx.Response(answer.status_code, headers=answer.headers, content=answer.read())

    async with httpx.AsyncClient(transport=Transport(), base_url="http://shop") as client:
        await ask(client)


async def _ask_django_asgi(ask: Callable[[Any], Awaitable[None]]) -> None:
    _django()
    transport = httpx.ASGITransport(app=get_asgi_application(), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://shop") as client:
        await ask(client)


async def _ask_aiohttp(ask: Callable[[Any], Awaitable[None]]) -> None:
    async def handler(request: aiohttp.web.Request) -> aiohttp.web.StreamResponse:
        order = request.match_info["order"]
        work(order)
        if order == "404":
            raise aiohttp.web.HTTPNotFound
        return aiohttp.web.Response(text="done")

    inner = aiohttp.web.Application()
    inner.router.add_get("/orders/{order}", handler)
    app = aiohttp.web.Application()
    app.router.add_get("/orders/{order}", handler)
    app.add_subapp("/v1", inner)
    async with (
        aiohttp.test_utils.TestServer(app) as server,
        httpx.AsyncClient(base_url=str(server.make_url("/"))) as client,
    ):
        await ask(client)


async def _ask_tornado(ask: Callable[[Any], Awaitable[None]]) -> None:
    class Orders(tornado.web.RequestHandler):
        def get(self, order: str) -> None:
            work(order)
            if order == "404":
                raise tornado.web.HTTPError(404)
            self.write("done")

    server = tornado.httpserver.HTTPServer(tornado.web.Application([(r"/orders/(\d+)", Orders)]))
    listening, port = tornado.testing.bind_unused_port()
    server.add_socket(listening)
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            await ask(client)
    finally:
        server.stop()
        await server.close_all_connections()


sanic.Sanic.test_mode = True  # several applications in one process, one after the other
_names = (f"shop{number}" for number in itertools.count())  # it wants another one for each application


def _sanic() -> Any:
    async def orders(request: Any, order: str) -> Any:
        work(order)
        if order == "404":
            raise sanic.exceptions.NotFound
        return sanic.text("done")

    app = sanic.Sanic(next(_names))
    app.config.MOTD = False
    app.add_route(orders, "/orders/<order>")
    inner = sanic.Blueprint("inner", url_prefix="/v1")
    inner.add_route(orders, "/orders/<order:str>")
    app.blueprint(inner)
    return app


async def _ask_sanic(ask: Callable[[Any], Awaitable[None]]) -> None:
    listening = socket.create_server(("127.0.0.1", 0))
    server = await _sanic().create_server(sock=listening, return_asyncio_server=True)
    await server.startup()
    try:
        port = listening.getsockname()[1]
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            await ask(client)
    finally:
        server.close()
        await server.wait_closed()


async def _ask_sanic_asgi(ask: Callable[[Any], Awaitable[None]]) -> None:
    server = uvicorn.Server(uvicorn.Config(_sanic(), port=0, log_config=None, timeout_graceful_shutdown=1))
    serving = asyncio.create_task(server.serve())
    try:
        while not server.started:
            assert not serving.done()
            await asyncio.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            await ask(client)
    finally:
        server.should_exit = True
        await serving


# The server, the path of an order, and the name of its span.
ROWS = {
    "Django WSGI": (_ask_django_wsgi, "/orders/{}", "GET /orders/<int:order>"),
    "Django WSGI, re_path": (_ask_django_wsgi, "/old/{}", r"GET /old/(?P<order>\d+)$"),
    "Django ASGI": (_ask_django_asgi, "/orders/{}", "GET /orders/<int:order>"),
    "Django ASGI, async": (_ask_django_asgi, "/async/{}", "GET /async/<int:order>"),
    "aiohttp": (_ask_aiohttp, "/orders/{}", "GET /orders/{order}"),
    "aiohttp, mounted": (_ask_aiohttp, "/v1/orders/{}", "GET /v1/orders/{order}"),
    "Sanic": (_ask_sanic, "/orders/{}", "GET /orders/<order:str>"),
    "Sanic, blueprint": (_ask_sanic, "/v1/orders/{}", "GET /v1/orders/<order:str>"),
    "Sanic ASGI": (_ask_sanic_asgi, "/orders/{}", "GET /orders/<order:str>"),
    "Tornado": (_ask_tornado, "/orders/{}", "GET _ask_tornado.<locals>.Orders"),
}


@pytest.mark.filterwarnings("error")  # nor does it make a framework warn of anything
@pytest.mark.parametrize("row", list(ROWS))
def test_a_request(captured: Captured, row: str) -> None:
    """Its id comes in by X-Trace-ID and goes out again; an exception is on the span, a 404 is none."""
    serve, where, name = ROWS[row]
    answers: list[Any] = []

    async def ask(client: httpx.AsyncClient) -> None:
        for order in (7, 0, 404):
            headers = {"X-Trace-ID": TRACE_ID} if order == 7 else {}
            answers.append(await client.get(where.format(order) + "?page=2", headers=headers))
        answers.append(await client.get("/nothing"))

    asyncio.run(serve(ask))
    assert [answer.status_code for answer in answers] == [200, 500, 404, 404]
    placed, failed, missing, unknown = servers = [
        span for span in captured.spans if span["span_kind"] == "SERVER"
    ]
    assert [answer.headers["X-Trace-ID"] for answer in answers] == [span["trace_id"] for span in servers]
    assert [span["attributes"]["http.response.status_code"] for span in servers] == [200, 500, 404, 404]
    assert placed["trace_id"] == TRACE_ID and "parent_span_id" not in placed
    assert [span["name"] for span in (placed, failed, missing)] == [name] * 3
    if row != "Tornado":  # which has a handler for what nobody answers
        assert unknown["name"] == "GET"
    assert placed["attributes"]["url.query"] == "page=2"
    assert [span["level"] for span in servers] == ["INFO", "ERROR", "INFO", "INFO"]
    assert failed["attributes"]["error.type"] == "LookupError"
    [event] = failed["events"]
    assert event["attributes"]["exception.message"] == "no stock"
    assert "events" not in missing
    for line, span in zip([line for line in captured.logs if line["logger"] == "app"], servers, strict=False):
        assert line["span_id"] == span["span_id"]
    # What the framework logs of the exception is in the request as well.
    assert {line["span_id"] for line in captured.logs if "exception" in line} == {failed["span_id"]}


def test_excluded_paths() -> None:
    """They get no span from any of them."""
    with capturing(level="INFO", excluded_paths=("/7$",)) as captured:
        tracing.instrument("django", "aiohttp-server", "tornado", "sanic", "websockets")
        try:
            for serve, where, _ in ROWS.values():

                async def ask(client: httpx.AsyncClient, where: str = where) -> None:
                    answer = await client.get(where.format(7))
                    assert answer.status_code == 200 and "X-Trace-ID" not in answer.headers

                asyncio.run(serve(ask))
        finally:
            tracing.uninstrument()
    assert captured.spans == []


def test_channels() -> None:
    """A request through the router has one span, Django's inside it none; a connection has one as well."""
    from asgiref.testing import ApplicationCommunicator
    from channels.generic.websocket import AsyncWebsocketConsumer
    from channels.routing import ProtocolTypeRouter

    class Consumer(AsyncWebsocketConsumer):  # type: ignore[misc]
        async def receive(self, text_data: Any = None, bytes_data: Any = None) -> None:
            log.info("order %s", text_data)
            await self.send(text_data="done")

    _django()
    app = ProtocolTypeRouter({"http": get_asgi_application(), "websocket": Consumer.as_asgi()})

    async def main() -> None:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://shop") as client:
            assert (await client.get("/orders/7")).headers["X-Trace-ID"]
        headers = [(b"traceparent", f"00-{TRACE_ID}-{1:016x}-01".encode())]
        scope = {"type": "websocket", "path": "/socket", "headers": headers, "query_string": b""}
        connection = ApplicationCommunicator(app, scope)
        await connection.send_input({"type": "websocket.connect"})
        assert (await connection.receive_output())["type"] == "websocket.accept"
        await connection.send_input({"type": "websocket.receive", "text": "8"})
        assert (await connection.receive_output())["text"] == "done"
        await connection.send_input({"type": "websocket.disconnect", "code": 1000})
        await connection.wait()

    with capturing(level="INFO") as captured:
        tracing.instrument("django", "channels")
        try:
            asyncio.run(main())
        finally:
            tracing.uninstrument()
    request, connection = [span for span in captured.spans if span["span_kind"] == "SERVER"]
    assert request["name"] == "GET /orders/<int:order>"
    assert (connection["name"], connection["trace_id"]) == ("WEBSOCKET", TRACE_ID)
    assert [line["span_id"] for line in captured.logs if line["logger"] == "app"] == [
        request["span_id"],
        connection["span_id"],
    ]


# ---------------------------------------------------------------- WebSockets


def test_a_websocket(captured: Captured) -> None:
    """One span for the handshake, one for the connection; what the handler raises is on the latter."""

    async def handler(connection: Any) -> None:
        async for message in connection:
            work(message)
            await connection.send("done")

    async def main() -> None:
        async with websockets.asyncio.server.serve(handler, "127.0.0.1", 0) as server:
            url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/orders?page=2"
            with tracing.span("caller"):
                async with websockets.asyncio.client.connect(url) as connection:
                    assert connection.response is not None
                    assert connection.response.headers["X-Trace-ID"] == tracing.current_trace_id()
                    for order in ("7", "8", "0"):
                        await connection.send(order)
                        if order != "0":
                            await connection.recv()
                    with pytest.raises(websockets.exceptions.ConnectionClosedError):
                        await connection.recv()

    asyncio.run(main())
    [client] = [span for span in captured.spans if span["span_kind"] == "CLIENT"]
    [server] = [span for span in captured.spans if span["span_kind"] == "SERVER"]
    assert client["parent_span_id"] == captured.span("caller")["span_id"]
    assert server["parent_span_id"] == client["span_id"]
    assert (server["attributes"]["url.path"], server["attributes"]["url.query"]) == ("/orders", "page=2")
    assert server["level"] == "ERROR" and server["attributes"]["error.type"] == "LookupError"
    lines = [line for line in captured.logs if line["logger"] == "app" or "exception" in line]
    assert {line["span_id"] for line in lines} == {server["span_id"]} and len(lines) == 4


def test_a_websocket_that_is_refused(captured: Captured) -> None:
    """The span ends with the answer; the program's own `process_request` runs inside it."""

    def refuse(connection: Any, request: Any) -> Any:
        log.info("order refused")
        return connection.respond(403, "no")

    async def handler(connection: Any) -> None:
        raise AssertionError("nobody comes here")

    async def main() -> None:
        async with websockets.asyncio.server.serve(handler, "127.0.0.1", 0, process_request=refuse) as server:
            url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            with pytest.raises(websockets.exceptions.InvalidStatus):
                await websockets.asyncio.client.connect(url)

    asyncio.run(main())
    [server] = [span for span in captured.spans if span["span_kind"] == "SERVER"]
    assert server["attributes"]["http.response.status_code"] == 403
    [line] = [line for line in captured.logs if line["logger"] == "app"]
    assert line["span_id"] == server["span_id"]
