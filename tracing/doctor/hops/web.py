"""The other web frameworks: a real server a row, asked over pooled connections."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

from tracing.doctor.hop import Failure, Hop
from tracing.doctor.web import ASKING, CONTEXTS, Desk, on_a_loop, served, uvicorn_server, werkzeug_server

Made = AbstractContextManager[str]


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
        settings.ROOT_URLCONF = Urls  # one server after the other
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


def _hop(name: str, make: Callable[[Desk], Made], by: str, *needs: str) -> Hop:
    return Hop(name, served(make), asyncio.run, CONTEXTS, (*needs, *ASKING), (by, "httpx"))


HOPS = [
    _hop("Flask", _flask(_view), "flask", "flask"),
    _hop("Flask, streaming answer", _flask(_streaming_view), "flask", "flask"),
    _hop("Django, WSGI", _django(_django_view, werkzeug_server, "wsgi"), "django", "django", "werkzeug"),
    _hop(
        "Django, ASGI, async view",
        _django(_django_async_view, uvicorn_server, "asgi"),
        "django",
        "django",
        "uvicorn",
    ),
    _hop(
        "Django, ASGI, sync view",
        _django(_django_view, uvicorn_server, "asgi"),
        "django",
        "django",
        "uvicorn",
    ),
    _hop("aiohttp server", _aiohttp, "aiohttp-server", "aiohttp"),
    _hop("Tornado", _tornado, "tornado", "tornado"),
]
