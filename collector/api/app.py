"""The ASGI application: routes to questions, deliveries and pages; every error becomes a problem.

Nothing that touches the store or the write-ahead log runs on the event loop: questions and deliveries have
threads of their own, so that a heavy question never holds up what comes in.
"""

from __future__ import annotations

import gzip
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qsl

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from collector.api import problems, streams
from collector.api.access import Access, Right
from collector.api.answers import Answers
from collector.api.bodies import Bodies, BodyTooLarge, Disconnected, NoRoom
from collector.api.metrics import RequestCounts
from collector.api.openapi import document
from collector.api.operations import DELIVERIES, PAGES, QUESTIONS, STREAMS, Question, Stream
from collector.api.parameters import Parameter, read_query
from collector.api.problems import Problem, problem_of
from collector.api.tail import Tail
from collector.api.workers import Workers
from collector.errors import Overloaded

logger = logging.getLogger(__name__)

Handler = Callable[[Request], Awaitable[Response]]
Deliver = Callable[[Mapping[str, str], bytes], Response]

# Below this a packed answer saves less time on the wire than packing costs.
GZIP_BYTES_MIN: Final = 16_384
JSON: Final = "application/json"


@dataclass(slots=True, kw_only=True)
class Backend:
    """What the routes stand on. The service builds it; `access` and `stopping` may change while it runs."""

    answers: Answers
    deliver: Mapping[str, Deliver]  # by the name of the delivery
    pages: Mapping[str, Callable[[], Response]]  # by the name of the page
    access: Access
    bodies: Bodies
    tail: Tail
    query_workers: Workers
    ingest_workers: Workers
    counts: RequestCounts
    version: str
    stopping: bool = False


def application(backend: Backend) -> Starlette:
    """The collector's HTTP interface."""
    openapi = Response(orjson.dumps(document(backend.version)), media_type=JSON)
    pages = {**backend.pages, "openapi": lambda: openapi}
    routes = [
        *(
            Route(
                _pattern(question.path),
                _guarded(backend, question.name, question.right, _asking(backend, question)),
            )
            for question in QUESTIONS
        ),
        *(
            Route(stream.path, _guarded(backend, stream.name, stream.right, _streaming(backend, stream)))
            for stream in STREAMS
        ),
        *(
            Route(
                delivery.path,
                _guarded(backend, delivery.name, "ingest", _taking(backend, delivery.name)),
                methods=["POST"],
            )
            for delivery in DELIVERIES
        ),
        *(
            Route(page.path, _guarded(backend, page.name, page.right, _showing(backend, pages[page.name])))
            for page in PAGES
        ),
    ]

    async def unrouted(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        headers = {**(error.headers or {})}
        if "Allow" in headers:
            headers["Allow"] = ", ".join(sorted(headers["Allow"].split(", ")))
        detail = _unrouted_detail(request, error, headers.get("Allow", ""))
        problem = problems.problem_of_status(error.status_code, detail)
        backend.counts.add("none", problem.status, 0.0)
        return problem_response(problem, request, headers=headers)

    app = Starlette(routes=routes, exception_handlers={HTTPException: unrouted})
    app.router.redirect_slashes = False  # a redirect would be an answer that no document promises
    return app


def problem_response(
    problem: Problem, request: Request, headers: Mapping[str, str] | None = None
) -> Response:
    """A problem as the answer to a request."""
    return Response(
        problem.body(request.url.path),
        status_code=problem.status,
        media_type=problems.CONTENT_TYPE,
        headers={**(headers or {}), **problem.headers},
    )


def _guarded(backend: Backend, name: str, right: Right, handler: Handler) -> Handler:
    """The handler behind the check of tokens, its errors as problems, its calls counted."""

    async def guarded(request: Request) -> Response:
        started = time.perf_counter()
        problem = backend.access.refusal(right, request.headers.raw)
        if problem is not None:
            response = problem_response(problem, request)
        else:
            try:
                response = await handler(request)
            except Exception as error:
                problem = problem_of(error)
                if problem.status == 500:
                    logger.exception("%s %s failed", request.method, request.url.path)
                response = problem_response(problem, request)
        backend.counts.add(name, response.status_code, time.perf_counter() - started)
        return response

    return guarded


def _asking(backend: Backend, question: Question) -> Handler:
    async def ask(request: Request) -> Response:
        values = _values(question.parameters, request)
        may_pack = "gzip" in request.headers.get("accept-encoding", "")

        def answer() -> Response:
            body = orjson.dumps(question.ask(backend.answers, values))
            if may_pack and len(body) >= GZIP_BYTES_MIN:
                packed = gzip.compress(body, compresslevel=1, mtime=0)
                return Response(packed, media_type=JSON, headers=_PACKED)
            return Response(body, media_type=JSON)

        return await backend.query_workers.run(answer)

    return ask


def _streaming(backend: Backend, stream: Stream) -> Handler:
    begin = {"tailLogs": streams.tail, "exportLogs": streams.export_logs, "exportTrace": streams.export_trace}

    async def answer(request: Request) -> Response:
        return await begin[stream.name](backend, request, _values(stream.parameters, request))

    return answer


def _values(parameters: Sequence[Parameter], request: Request) -> dict[str, Any]:
    given = parse_qsl(request.url.query, keep_blank_values=True)
    return {**request.path_params, **read_query(parameters, given)}


def _taking(backend: Backend, name: str) -> Handler:
    deliver = backend.deliver[name]

    async def take(request: Request) -> Response:
        if backend.stopping:
            return problem_response(_STOPPING, request)
        try:
            body = await backend.bodies.read(request.receive)
        except BodyTooLarge:
            limit = backend.bodies.body_bytes_max
            detail = f"at most {limit} bytes are taken in one request; send less at once (body_bytes_max)"
            problem = Problem(kind="too-large", detail=detail)
            return problem_response(problem, request, headers={"Connection": "close"})
        except NoRoom:
            raise Overloaded("too many bodies are under way at once", retry_after_s=1.0) from None
        except Disconnected:
            return Response(status_code=400)  # nobody reads it
        try:
            return await backend.ingest_workers.run(lambda: deliver(request.headers, body))
        finally:
            backend.bodies.release(body)

    return take


def _showing(backend: Backend, page: Callable[[], Response]) -> Handler:
    async def show(request: Request) -> Response:
        return page()

    return show


def _pattern(path: str) -> str:
    """The path for the router: a service's name may hold slashes."""
    return path.replace("{service}", "{service:path}")


def _unrouted_detail(request: Request, error: HTTPException, allowed: str) -> str:
    if error.status_code == 404:
        return f"{request.url.path[:200]}: no such path; /api/v1/openapi.json lists what there is"
    if error.status_code == 405:
        return f"{request.method} is not known here; {allowed} is"
    return str(error.detail)


_PACKED: Final = {"Content-Encoding": "gzip", "Vary": "Accept-Encoding"}
_STOPPING: Final = problems.Problem(
    kind="stopping",
    detail="the collector is stopping; keep the records and send them again",
    headers={"Retry-After": "2"},
)
