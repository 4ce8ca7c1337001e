"""Servers and clients that are really there: the trace goes through, and nothing is doubled."""

from __future__ import annotations

import asyncio
import importlib
import logging
import threading
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import flask
import httpx
import pytest
import requests
import uvicorn
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route, WebSocketRoute
from werkzeug.serving import make_server

import tracing
from tracing import health
from tracing.testing import Captured, capturing

log = logging.getLogger("app")
DEADLINE_S = 30


@pytest.fixture
def captured() -> Iterator[Captured]:
    """Everything that is installed, instrumented, and taken off again."""
    with capturing(level="INFO") as lines:
        tracing.instrument()
        yield lines
        tracing.uninstrument()


def own(captured: Captured) -> list[dict[str, Any]]:
    """The lines of this file's logger."""
    return [line for line in captured.logs if line["logger"] == "app"]


@contextmanager
def serving(app: Any) -> Iterator[str]:
    """A real ASGI server on a port of its own."""
    server = uvicorn.Server(
        uvicorn.Config(app, port=0, log_config=None, lifespan="off", timeout_graceful_shutdown=1)
    )
    ready = threading.Event()
    started = server.startup

    async def startup(*args: Any, **kwargs: Any) -> None:
        await started(*args, **kwargs)
        ready.set()

    server.startup = startup  # type: ignore[method-assign]
    thread = threading.Thread(target=server.run)
    thread.start()
    assert ready.wait(DEADLINE_S)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(DEADLINE_S)


@contextmanager
def serving_wsgi(app: Any) -> Iterator[str]:
    """A real WSGI server on a port of its own."""
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.port}"
    finally:
        server.shutdown()
        thread.join(DEADLINE_S)
        server.server_close()


async def order(request: Request) -> Response:
    """Logs, and says the trace."""
    log.info("order %s", request.path_params["order"])
    return PlainTextResponse(tracing.current_trace_id() or "none")


async def broken(request: Request) -> Response:
    """Fails."""
    raise KeyError("no such order")


async def stream(request: Request) -> Response:
    """Answers in parts, and works on afterwards."""

    async def parts() -> AsyncIterator[bytes]:
        for number in range(3):
            log.info("part %d", number)
            yield b"x"

    return StreamingResponse(parts(), background=BackgroundTask(log.info, "in the background"))


async def socket(websocket: Any) -> None:
    """Says hello."""
    await websocket.accept()
    log.info("connected")
    await websocket.close()


class Passing(BaseHTTPMiddleware):
    """Runs the application in a task of its own."""

    async def dispatch(self, request: Request, call_next: Callable[..., Any]) -> Response:
        response: Response = await call_next(request)
        log.info("in the middleware")
        return response


def shop() -> Starlette:
    """A small application."""
    routes = [
        Route("/orders/{order}", order),
        Route("/broken", broken),
        Route("/stream", stream),
        WebSocketRoute("/socket", socket),
        Mount("/v1", routes=[Route("/orders/{order}", order)]),
        Mount("/inner", app=Starlette(routes=[Route("/orders/{order}", order)])),
    ]
    return Starlette(routes=routes, middleware=[Middleware(Passing)])


def check_chain(captured: Captured, server_name: str) -> None:
    """Client, server and log line are one chain, and the server's span is announced with its route."""
    [client] = [span for span in captured.spans if span["span_kind"] == "CLIENT"]
    server = captured.span(server_name)
    assert server["span_kind"] == "SERVER" and server["parent_span_id"] == client["span_id"]
    assert [start["name"] for start in captured.starts if start["span_kind"] == "SERVER"] == [server_name]
    [line] = [line for line in own(captured) if line["message"].startswith("order")]
    assert line["span_id"] == server["span_id"]
    # When the server's span ends says nothing: a client may have its answer before that.
    assert client["timestamp"] <= server["timestamp"] <= client["timestamp"] + client["duration_ns"]


# ---------------------------------------------------------------- ASGI


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/orders/7", "GET /orders/{order}"),
        ("/v1/orders/7", "GET /v1/orders/{order}"),
        ("/inner/orders/7", "GET /inner/orders/{order}"),
    ],
)
def test_starlette(captured: Captured, path: str, name: str) -> None:
    """One span a request, named by its route, mounted or not; the answer says the trace."""
    with serving(shop()) as url:
        captured.clear()
        answer = requests.get(url + path + "?page=2&token=hush", timeout=DEADLINE_S)
    check_chain(captured, name)
    server = captured.span(name)
    assert answer.headers["X-Trace-ID"] == answer.text == server["trace_id"]
    assert server["attributes"]["http.request.method"] == "GET"
    assert server["attributes"]["http.route"] == name.removeprefix("GET ")
    assert server["attributes"]["http.response.status_code"] == 200
    assert server["attributes"]["url.query"] == "page=2&token=[redacted]"
    assert {line["trace_id"] for line in own(captured)} == {server["trace_id"]}


def test_an_application_made_before_instrument_is_traced(captured: Captured) -> None:
    """The class is patched, not the objects."""
    tracing.uninstrument()
    app = shop()
    tracing.instrument()
    with serving(app) as url:
        captured.clear()
        requests.get(url + "/orders/7", timeout=DEADLINE_S)
    check_chain(captured, "GET /orders/{order}")


def test_a_request_that_fails(captured: Captured) -> None:
    """The exception is on the span although the framework makes an answer of it."""
    with serving(shop()) as url:
        captured.clear()
        assert requests.get(url + "/broken", timeout=DEADLINE_S).status_code == 500
    server = captured.span("GET /broken")
    assert server["level"] == "ERROR" and server["attributes"]["http.response.status_code"] == 500


def test_a_request_that_nobody_answers(captured: Captured) -> None:
    """Without a route the name stays general; a 404 is no error of the server's."""
    with serving(shop()) as url:
        captured.clear()
        assert requests.get(url + "/nothing/here", timeout=DEADLINE_S).status_code == 404
    [server] = [span for span in captured.spans if span["span_kind"] == "SERVER"]
    assert server["name"] == "GET" and server["level"] == "INFO"
    assert server["attributes"]["url.path"] == "/nothing/here"


def test_excluded_paths_get_no_span() -> None:
    """Health checks would drown everything else."""
    with capturing(level="INFO", excluded_paths=("^/orders/0$",)) as captured:
        tracing.instrument("starlette", "flask")
        try:
            with serving(shop()) as url, serving_wsgi(flask_shop()) as other_url:
                for base in (url, other_url):
                    for number in (0, 1):
                        assert requests.get(f"{base}/orders/{number}", timeout=DEADLINE_S).status_code == 200
        finally:
            tracing.uninstrument()
        assert [span["attributes"]["url.path"] for span in captured.spans] == ["/orders/1"] * 2


def test_an_answer_in_parts(captured: Captured) -> None:
    """The span lasts until the last part, not until what is done afterwards; that is still in the trace."""
    with serving(shop()) as url:
        captured.clear()
        assert requests.get(url + "/stream", timeout=DEADLINE_S).content == b"xxx"
    server = captured.span("GET /stream")
    kinds = [
        line.get("name") or line["message"] for line in captured.lines if line.get("kind") != "span_start"
    ]
    assert kinds.index("part 2") < kinds.index("GET /stream")
    lines = {line["message"]: line for line in own(captured)}
    for message in ("part 0", "part 2", "in the background"):
        assert lines[message]["trace_id"] == server["trace_id"]


def test_web_sockets_and_lifespan(captured: Captured) -> None:
    """A connection is one span; what is no request is left alone."""

    async def main() -> list[dict[str, Any]]:
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            return {"type": "websocket.connect"}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        scope = {"type": "websocket", "path": "/socket", "headers": [], "query_string": b""}
        await shop()(scope, receive, send)  # type: ignore[arg-type]
        return sent

    assert [message["type"] for message in asyncio.run(main())] == ["websocket.accept", "websocket.close"]
    assert captured.span("WEBSOCKET /socket")["span_id"] == own(captured)[0]["span_id"]


def test_any_asgi_application_can_be_wrapped(captured: Captured) -> None:
    """By hand, for frameworks that we do not know; headers may be an iterator."""

    async def bare(scope: Any, receive: Any, send: Any) -> None:
        log.info("order by hand")
        headers = iter([(b"x-trace-id", b"mine")])
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"ok"})

    with serving(tracing.asgi(bare)) as url:
        captured.clear()
        answer = httpx.get(url)
    assert answer.headers["X-Trace-ID"] == "mine", "what the application says is left as it is"
    [server] = [span for span in captured.spans if span["span_kind"] == "SERVER"]
    assert own(captured)[0]["span_id"] == server["span_id"]


def test_a_thousand_requests_at_once_never_mix(captured: Captured) -> None:
    """Each answer has the trace of its own caller."""

    async def main(url: str) -> None:
        async with httpx.AsyncClient(base_url=url, timeout=DEADLINE_S) as client:

            async def ask(number: int) -> None:
                trace_id = f"{number + 1:032x}"
                with tracing.extracted({"traceparent": f"00-{trace_id}-{1:016x}-01"}):
                    answer = await client.get(f"/orders/{number}")
                assert answer.text == trace_id == answer.headers["x-trace-id"]

            await asyncio.gather(*(ask(number) for number in range(200)))

    with serving(shop()) as url:
        captured.clear()
        asyncio.run(main(url))
    for line in own(captured):
        if line["message"].startswith("order"):
            assert int(line["message"].split()[1]) + 1 == int(line["trace_id"], 16)


# ---------------------------------------------------------------- WSGI


def flask_shop() -> flask.Flask:
    """The same with Flask."""
    app = flask.Flask("shop")

    @app.get("/orders/<int:number>")
    def orders(number: int) -> str:
        log.info("order %d", number)
        return tracing.current_trace_id() or "none"

    @app.get("/broken")
    def broken() -> str:
        raise KeyError("no such order")

    @app.get("/stream")
    def stream() -> flask.Response:
        def parts() -> Iterator[bytes]:
            for number in range(3):
                log.info("part %d", number)
                yield b"x"

        return flask.Response(parts())

    return app


def test_flask(captured: Captured) -> None:
    """One span a request, named by its rule; an exception that becomes an answer is on it."""
    with serving_wsgi(flask_shop()) as url:
        answer = httpx.get(url + "/orders/7")
        check_chain(captured, "GET /orders/<int:number>")
        server = captured.span("GET /orders/<int:number>")
        assert answer.headers["X-Trace-ID"] == answer.text == server["trace_id"]
        assert httpx.get(url + "/broken").status_code == 500
        assert httpx.get(url + "/stream").content == b"xxx"
        assert httpx.get(url + "/nothing").status_code == 404
    failed = captured.span("GET /broken")
    assert failed["level"] == "ERROR" and failed["attributes"]["error.type"] == "KeyError"
    assert failed["events"][0]["attributes"]["exception.type"] == "KeyError"
    streamed = captured.span("GET /stream")
    assert {line["span_id"] for line in own(captured) if line["message"].startswith("part")} == {
        streamed["span_id"]
    }


@pytest.mark.parametrize("body", [[b"ok"], (b"o", b"k"), iter([b"ok"]), "failing"])
def test_any_wsgi_application_can_be_wrapped(captured: Captured, body: Any) -> None:
    """Whatever it answers with; the server may ask for its length."""

    def failing() -> Iterator[bytes]:
        yield b"o"
        raise OSError("disk")

    def bare(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return failing() if body == "failing" else body

    answers: list[Any] = []
    parts = tracing.wsgi(bare)(
        {"REQUEST_METHOD": "GET", "PATH_INFO": "/"}, lambda *args: answers.append(args)
    )
    if body == "failing":
        with pytest.raises(OSError, match="disk"):
            list(parts)
        parts.close()  # type: ignore[attr-defined]
        assert captured.spans[-1]["level"] == "ERROR"
    else:
        assert b"".join(parts) == b"ok"
        getattr(parts, "close", lambda: None)()
    [server] = [span for span in captured.spans if span["span_kind"] == "SERVER"]
    assert dict(answers[0][1])["X-Trace-ID"] == server["trace_id"]
    assert tracing.current_span_id() is None


# ---------------------------------------------------------------- clients


async def _ask_with_httpx(url: str) -> None:
    async with httpx.AsyncClient() as client:
        await client.get(url)


@pytest.mark.parametrize("client", ["requests", "httpx", "httpx async", "urllib", "urllib3"])
def test_clients(captured: Captured, client: str) -> None:
    """One client span, whatever lies under the library, and the server's is its child."""
    import urllib3

    asking: dict[str, Callable[[str], Any]] = {
        "requests": lambda url: requests.get(url, timeout=DEADLINE_S),
        "httpx": httpx.get,
        "httpx async": lambda url: asyncio.run(_ask_with_httpx(url)),
        "urllib": lambda url: urllib.request.urlopen(url, timeout=DEADLINE_S).read(),
        "urllib3": lambda url: urllib3.PoolManager().request("GET", url),
    }
    with serving(shop()) as url:
        captured.clear()
        asking[client](url + "/orders/7")
    check_chain(captured, "GET /orders/{order}")


# ---------------------------------------------------------------- turning on and off


def test_off_while_nothing_is_configured() -> None:
    """The patches stay and do nothing."""
    tracing.uninstall()
    tracing.instrument("starlette")
    try:
        with serving(shop()) as url:
            answer = requests.get(url + "/orders/7", timeout=DEADLINE_S)
        assert answer.text == "none" and "X-Trace-ID" not in answer.headers
    finally:
        tracing.uninstrument()


@pytest.mark.parametrize("framework", ["fastapi", "starlette", "flask"])
def test_an_application_that_the_program_instrumented_itself(framework: str) -> None:
    """`instrument_app(app)`, as OpenTelemetry's manual has it: one span a request, and it is theirs."""
    instrumentor_module = importlib.import_module(f"opentelemetry.instrumentation.{framework}")
    (instrumentor,) = (
        getattr(instrumentor_module, name)
        for name in ("FastAPIInstrumentor", "StarletteInstrumentor", "FlaskInstrumentor")
        if hasattr(instrumentor_module, name)
    )
    with capturing() as captured:
        tracing.instrument("starlette", "flask")
        try:
            if framework == "flask":
                app: Any = flask_shop()
                instrumentor.instrument_app(app)
                app.test_client().get("/orders/7")
            else:
                app = importlib.import_module("fastapi").FastAPI() if framework == "fastapi" else Starlette()
                app.add_route("/orders/{order}", order)
                instrumentor.instrument_app(app)
                with serving(app) as url:
                    requests.get(url + "/orders/7", timeout=DEADLINE_S)
        finally:
            tracing.uninstrument()
    [server] = [span for span in captured.spans if span["span_kind"] == "SERVER"]
    assert server["logger"].startswith("opentelemetry.instrumentation")


def test_a_request_that_we_cannot_read_is_answered(captured: Captured) -> None:
    """Our failure is counted, and the application does not notice."""

    async def bare(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 204})
        await send({"type": "http.response.body"})

    async def main() -> list[Any]:
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        await tracing.asgi(bare)({"type": "http", "headers": [("no bytes", 7)]}, send, send)  # type: ignore[arg-type]
        return sent

    before = health.counts["hook_failed"]
    assert [message["type"] for message in asyncio.run(main())] == [
        "http.response.start",
        "http.response.body",
    ]
    assert health.counts["hook_failed"] == before + 1
