"""Servers and clients that are really there: the trace goes through, and nothing is doubled."""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
import subprocess
import sys
import threading
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import flask
import grpc
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
from tracing.errors import ConfigurationError
from tracing.instrumentation.imports import after_import, forget
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


def test_grpc(captured: Captured) -> None:
    """Client and server, unary and streaming."""

    def say(request: bytes, context: grpc.ServicerContext) -> bytes:
        log.info("order by grpc")
        return request

    def count(request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        for number in range(2):
            log.info("part %d", number)
            yield bytes([number])

    class Handlers(grpc.GenericRpcHandler):
        def service(self, details: grpc.HandlerCallDetails) -> Any:
            if details.method == "/shop/Say":
                return grpc.unary_unary_rpc_method_handler(say)
            return grpc.unary_stream_rpc_method_handler(count)

    server = grpc.server(ThreadPoolExecutor(2), handlers=[Handlers()])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with tracing.span("caller"), grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            assert channel.unary_unary("/shop/Say")(b"x", timeout=DEADLINE_S) == b"x"
            assert list(channel.unary_stream("/shop/Count")(b"x", timeout=DEADLINE_S)) == [b"\x00", b"\x01"]
    finally:
        server.stop(None).wait(DEADLINE_S)
    kinds: dict[str, list[dict[str, Any]]] = {}
    for span in captured.spans:
        kinds.setdefault(span["span_kind"], []).append(span)
    assert {span["trace_id"] for span in captured.spans} == {f"{1:032x}"}
    clients = {span["span_id"] for span in kinds["CLIENT"]}
    assert {span["parent_span_id"] for span in kinds["SERVER"]} == clients and len(clients) == 2
    servers = {span["span_id"] for span in kinds["SERVER"]}
    assert {line["span_id"] for line in own(captured)} == servers


CELERY = """
import logging, os, sys, tracing
tracing.configure(service="worker", level="INFO", ship=False)
tracing.instrument()
from celery import Celery
app = Celery("tasks", broker="filesystem://")
folder = os.environ["QUEUE"]
app.conf.update(
    broker_transport_options={
        "data_folder_in": folder,
        "data_folder_out": folder,
        "control_folder": folder + "-control",
        "polling_interval": 0.05,
    },
    worker_hijack_root_logger=True, task_ignore_result=True,
)
@app.task(name="charge")
def charge(order):
    logging.getLogger("app").info("charging %d", order)
"""


def test_celery_prefork(captured: Captured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Children of the pool go on tracing after the fork: consumer span under the producer's, own spool."""
    (tmp_path / "tasks.py").write_text(CELERY)
    (tmp_path / "queue").mkdir()
    env = {
        **os.environ,
        "QUEUE": str(tmp_path / "queue"),
        "TRACING_SPOOL_DIR": str(tmp_path / "spool"),
        "PYTHONPATH": os.pathsep.join([str(tmp_path), str(Path(tracing.__file__).parent.parent)]),
    }
    worker = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "celery",
            "-A",
            "tasks",
            "worker",
            "-c",
            "2",
            "-l",
            "INFO",
            "-E",
            "--without-mingle",
        ],
        env=env,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        sender = (
            "import tasks, tracing\n"
            "with tracing.span('sender'):\n"
            "    for order in range(4): tasks.charge.delay(order)\n"
        )
        subprocess.run([sys.executable, "-c", sender], env=env, cwd=tmp_path, timeout=60, check=True)
        assert worker.stdout is not None
        done = 0
        for line in worker.stdout:
            done += b"succeeded" in line
            if done == 4:
                break
    finally:
        worker.terminate()
        worker.wait(DEADLINE_S)
    from tracing.line import decode

    lines = [
        decode(raw)
        for segment in (tmp_path / "spool" / "worker").glob("*/*.ndjson")
        for raw in segment.read_bytes().splitlines()[1:]
    ]
    spans = {line["span_id"]: line for line in lines if line.get("kind") == "span"}
    consumers = [span for span in spans.values() if span["span_kind"] == "CONSUMER"]
    assert len(consumers) == 4
    for consumer in consumers:
        producer = spans[consumer["parent_span_id"]]
        assert producer["span_kind"] == "PRODUCER" and spans[producer["parent_span_id"]]["name"] == "sender"
        assert any(line.get("span_id") == consumer["span_id"] and "kind" not in line for line in lines)


# ---------------------------------------------------------------- turning on and off


def test_everything_is_taken_off_again() -> None:
    """Classes and modules are as they were."""
    before = [
        Starlette.__call__,
        Route.handle,
        flask.Flask.__call__,
        grpc.insecure_channel,
        list(sys.meta_path),
    ]
    with capturing():
        for _ in range(2):
            tracing.instrument()
            assert Starlette.__call__ is not before[0]
            tracing.uninstrument()
    after = [
        Starlette.__call__,
        Route.handle,
        flask.Flask.__call__,
        grpc.insecure_channel,
        list(sys.meta_path),
    ]
    assert after == before


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


def test_somebody_else_s_instrumentation_is_not_doubled() -> None:
    """`opentelemetry-instrument` has its own for the same library."""
    from opentelemetry.instrumentation.flask import FlaskInstrumentor

    with capturing() as captured:
        FlaskInstrumentor().instrument()
        try:
            app = flask.Flask("theirs")
            app.add_url_rule("/x", view_func=lambda: "ok")
            tracing.instrument("flask")
            app.test_client().get("/x")
            assert [span["span_kind"] for span in captured.spans] == ["SERVER"]
        finally:
            tracing.uninstrument()
            FlaskInstrumentor().uninstrument()


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


def test_names() -> None:
    """Some, all but some; one that nobody knows is an error."""
    with capturing():
        try:
            assert tracing.instrument("threads", "flask") == ["threads", "flask"]
            assert "flask" not in tracing.instrument(exclude=["flask"])
            with pytest.raises(ConfigurationError, match="pigeons unknown; known are threads"):
                tracing.instrument("pigeons")
        finally:
            tracing.uninstrument()


def test_a_library_is_instrumented_when_it_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not before: a program pays for what it uses. Its loader, its spec and its errors are its own."""
    (tmp_path / "late_library.py").write_text("value = 7")
    (tmp_path / "late_broken.py").write_text("raise ImportError('its own')")
    monkeypatch.syspath_prepend(str(tmp_path))
    called: list[Any] = []
    after_import("late_library", lambda: called.append(sys.modules["late_library"].value))
    after_import("late_broken", lambda: called.append("broken"))
    after_import("late_missing", lambda: called.append("missing"))
    try:
        assert called == []
        module = importlib.import_module("late_library")
        assert called == [7]
        assert type(module.__loader__).__name__ == "SourceFileLoader" and module.__spec__ is not None
        assert module.__spec__.loader is module.__loader__
        with pytest.raises(ImportError, match="its own"):
            importlib.import_module("late_broken")
        with pytest.raises(ModuleNotFoundError):
            importlib.import_module("late_missing")
        after_import("late_library", lambda: called.append("again"))
        assert called == [7, "again"]
    finally:
        forget()


def test_instrument_imports_no_library_of_the_program_s() -> None:
    """Flask, Celery and the others are found without being imported."""
    program = """
import sys, tracing
tracing.configure(service="x", exporter="none")
tracing.instrument()
print(sorted({"flask", "celery", "grpc", "starlette", "httpx", "requests", "urllib3"} & sys.modules.keys()))
import flask
print("traced" if flask.Flask.__call__.__wrapped__ else "")
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, timeout=60, check=False, text=True
    )
    assert done.stdout.splitlines() == ["[]", "traced"], done.stderr


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
