"""Web frameworks: a real server a row, asked over pooled connections."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

from context_hop import Failure, Hop
from context_web import CONTEXTS, Desk, on_a_loop, served, uvicorn_server, werkzeug_server

Made = AbstractContextManager[str]


# ---------------------------------------------------------------- Starlette and FastAPI


def _starlette(endpoint: Callable[[Desk], Any], **options: Any) -> Callable[[Desk], Made]:
    def make(desk: Desk) -> Made:
        from starlette.applications import Starlette
        from starlette.routing import Route

        made = {name: value(desk) for name, value in options.items()}
        return uvicorn_server(Starlette(routes=[Route("/work/{number}", endpoint(desk))], **made))

    return make


def _endpoint(desk: Desk) -> Any:
    from starlette.responses import PlainTextResponse

    async def work(request: Any) -> Any:
        desk.do(request.path_params["number"])
        return PlainTextResponse("done")

    return work


def _sync_endpoint(desk: Desk) -> Any:
    from starlette.responses import PlainTextResponse

    def work(request: Any) -> Any:
        desk.do(request.path_params["number"])
        return PlainTextResponse("done")

    return work


def _background(desk: Desk) -> Any:
    from starlette.background import BackgroundTask
    from starlette.responses import PlainTextResponse

    async def work(request: Any) -> Any:
        return PlainTextResponse("soon", background=BackgroundTask(desk.do, request.path_params["number"]))

    return work


def _streaming(desk: Desk) -> Any:
    from starlette.responses import StreamingResponse

    async def work(request: Any) -> Any:
        async def parts() -> AsyncIterator[bytes]:
            yield b"first"
            desk.do(request.path_params["number"])
            yield b"last"

        return StreamingResponse(parts())

    return work


def _failing(desk: Desk) -> Any:
    async def work(request: Any) -> Any:
        raise LookupError(request.path_params["number"])

    return work


def _handlers(desk: Desk) -> Any:
    from starlette.responses import PlainTextResponse

    async def on_error(request: Any, error: Exception) -> Any:
        desk.do(str(error))
        return PlainTextResponse("handled", status_code=404)

    return {LookupError: on_error}


def _middleware(before: bool) -> Callable[[Desk], Any]:
    def made(desk: Desk) -> Any:
        from starlette.middleware import Middleware
        from starlette.middleware.base import BaseHTTPMiddleware

        class Working(BaseHTTPMiddleware):
            async def dispatch(self, request: Any, call_next: Any) -> Any:
                number = request.url.path.rpartition("/")[2]
                if before:
                    desk.do(number)
                answer = await call_next(request)
                if not before:
                    desk.do(number)
                return answer

        return [Middleware(Working)]

    return made


def _idle(desk: Desk) -> Any:
    from starlette.responses import PlainTextResponse

    async def work(request: Any) -> Any:
        return PlainTextResponse("done")

    return work


def _fastapi(desk: Desk, add: Callable[[Any], None]) -> Made:
    from fastapi import FastAPI

    app = FastAPI()
    add(app)
    return uvicorn_server(app)


def _fastapi_async(desk: Desk) -> Made:
    def add(app: Any) -> None:
        @app.get("/work/{number}")
        async def work(number: int) -> str:
            desk.do(number)
            return "done"

    return _fastapi(desk, add)


def _fastapi_sync(desk: Desk) -> Made:
    def add(app: Any) -> None:
        @app.get("/work/{number}")
        def work(number: int) -> str:
            desk.do(number)
            return "done"

    return _fastapi(desk, add)


def _fastapi_dependency(desk: Desk) -> Made:
    def add(app: Any) -> None:
        from fastapi import Depends

        def dependency(number: int) -> Iterator[int]:
            desk.do(number)
            yield number

        async def work(found: int = Depends(dependency)) -> int:  # how FastAPI has it
            return found

        # Its annotations are looked up among this module's names, where FastAPI is not imported.
        app.add_api_route("/work/{number}", work)

    return _fastapi(desk, add)


# ---------------------------------------------------------------- Flask


def _flask(view: Callable[[Desk], Any]) -> Callable[[Desk], Made]:
    def make(desk: Desk) -> Made:
        import flask

        app = flask.Flask("shop")
        app.add_url_rule("/work/<int:number>", "work", view(desk))
        app.logger.disabled = True
        return werkzeug_server(app)

    return make


def _view(desk: Desk) -> Any:
    def work(number: int) -> str:
        desk.do(number)
        return "done"

    return work


def _streaming_view(desk: Desk) -> Any:
    def work(number: int) -> Any:
        def parts() -> Iterator[bytes]:
            yield b"first"
            desk.do(number)
            yield b"last"

        import flask

        return flask.Response(parts())

    return work


# ---------------------------------------------------------------- Django


def _django(view: Callable[[Desk], Any], server: Callable[[Any], Made], kind: str) -> Callable[[Desk], Made]:
    def make(desk: Desk) -> Made:
        from django.conf import settings

        class Urls:  # what stands for a module of them
            urlpatterns: list[Any]

        if not settings.configured:  # an instrumentation may have done it
            settings.configure()
        settings.SECRET_KEY, settings.ALLOWED_HOSTS, settings.LOGGING_CONFIG = "matrix", ["*"], None
        settings.ROOT_URLCONF = Urls  # type: ignore[misc]  # one server after the other
        import django
        from django.urls import clear_url_caches, path

        Urls.urlpatterns = [path("work/<int:number>", view(desk))]
        clear_url_caches()
        django.setup()
        if kind == "wsgi":
            from django.core.wsgi import get_wsgi_application

            return server(get_wsgi_application())
        from django.core.asgi import get_asgi_application

        return server(get_asgi_application())

    return make


def _django_view(desk: Desk) -> Any:
    from django.http import HttpResponse

    def work(request: Any, number: int) -> Any:
        desk.do(number)
        return HttpResponse("done")

    return work


def _django_async_view(desk: Desk) -> Any:
    from django.http import HttpResponse

    async def work(request: Any, number: int) -> Any:
        desk.do(number)
        return HttpResponse("done")

    return work


# ---------------------------------------------------------------- aiohttp, Tornado


def _aiohttp(desk: Desk) -> Made:
    async def start() -> Any:
        from aiohttp import web

        async def work(request: Any) -> Any:
            desk.do(request.match_info["number"])
            return web.Response(text="done")

        app = web.Application()
        app.router.add_get("/work/{number}", work)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        return runner.addresses[0][1], runner.cleanup

    return on_a_loop(start)


def _tornado(desk: Desk) -> Made:
    async def start() -> Any:
        from tornado.httpserver import HTTPServer
        from tornado.testing import bind_unused_port
        from tornado.web import Application, RequestHandler

        class Worker(RequestHandler):
            async def get(self, number: str) -> None:
                await asyncio.sleep(0)
                desk.do(number)
                self.write("done")

            def log_exception(self, kind: Any, error: Any, traceback: Any) -> None:
                if not isinstance(error, Failure):
                    super().log_exception(kind, error, traceback)

        server = HTTPServer(Application([(r"/work/(\d+)", Worker)]))
        socket, port = bind_unused_port()
        server.add_socket(socket)

        async def stop() -> None:
            server.stop()
            await server.close_all_connections()

        return port, stop

    return on_a_loop(start)


ROWS: dict[str, Callable[[Desk], Made]] = {
    "Starlette": _starlette(_endpoint),
    "Starlette, sync endpoint": _starlette(_sync_endpoint),
    "Starlette, background task": _starlette(_background),
    "Starlette, streaming answer": _starlette(_streaming),
    "Starlette, exception handler": _starlette(_failing, exception_handlers=_handlers),
    "Starlette, BaseHTTPMiddleware before": _starlette(_idle, middleware=_middleware(True)),
    "Starlette, BaseHTTPMiddleware after": _starlette(_idle, middleware=_middleware(False)),
    "FastAPI": _fastapi_async,
    "FastAPI, sync endpoint": _fastapi_sync,
    "FastAPI, sync dependency": _fastapi_dependency,
    "Flask": _flask(_view),
    "Flask, streaming answer": _flask(_streaming_view),
    "Django, WSGI": _django(_django_view, werkzeug_server, "wsgi"),
    "Django, ASGI, async view": _django(_django_async_view, uvicorn_server, "asgi"),
    "Django, ASGI, sync view": _django(_django_view, uvicorn_server, "asgi"),
    "aiohttp server": _aiohttp,
    "Tornado": _tornado,
}

HOPS = [Hop(name, served(make), asyncio.run, CONTEXTS) for name, make in ROWS.items()]
