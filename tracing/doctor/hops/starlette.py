"""Starlette and FastAPI: a real server a row, asked over pooled connections."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

from tracing.doctor.hop import Hop
from tracing.doctor.web import ASKING, CONTEXTS, Desk, served, uvicorn_server

Made = AbstractContextManager[str]


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
        async def work(number: int) -> str:
            desk.do(number)
            return "done"

        app.add_api_route("/work/{number}", work)

    return _fastapi(desk, add)


def _fastapi_sync(desk: Desk) -> Made:
    def add(app: Any) -> None:
        def work(number: int) -> str:
            desk.do(number)
            return "done"

        app.add_api_route("/work/{number}", work)

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
}

HOPS = [
    Hop(
        name,
        served(make),
        asyncio.run,
        CONTEXTS,
        (name.partition(",")[0].lower(), "uvicorn", *ASKING),
        ("starlette", "httpx"),
    )
    for name, make in ROWS.items()
]
