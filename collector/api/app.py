"""The ASGI application: routes to questions, streams, deliveries and pages; every error is a problem.

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
from starlette.convertors import Convertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import Scope

from collector.access.audit import AuditEvent, AuditTrail
from collector.access.keyring import Caller
from collector.access.rates import SenderRates
from collector.api import problems, streams
from collector.api.access import Access, Right
from collector.api.answers import Answers
from collector.api.bodies import Bodies, Disconnected
from collector.api.catalogue import ORDERS, PAGES, QUESTIONS, REMOVALS, STREAMS
from collector.api.catalogue_deliveries import DELIVERIES
from collector.api.costs import QueryCosts
from collector.api.ingest import Receiver, Refuse
from collector.api.metrics import RequestCounts
from collector.api.openapi import document
from collector.api.operations import Order, Question, Removal, Stream
from collector.api.parameters import Parameter, read_body, read_path, read_query
from collector.api.problems import Problem, Stopping, come_back, problem_of
from collector.api.tail import Tail
from collector.api.workers import Workers
from collector.listen.dialects import DialectRoute, HttpCall
from collector.store.conditions import Condition

logger = logging.getLogger(__name__)

Handler = Callable[[Request], Awaitable[Response]]

# Below this a packed answer saves less time on the wire than packing costs.
GZIP_BYTES_MIN: Final = 16_384
JSON: Final = "application/json"
_PACKED: Final = {"Content-Encoding": "gzip", "Vary": "Accept-Encoding"}
_STREAMS: Final = {
    "tailLogs": streams.tail,
    "exportLogs": streams.export_logs,
    "exportTrace": streams.export_trace,
}


class _AnyText(Convertor[str]):
    """A path parameter of any text; Starlette's own `path` stops at a line break."""

    regex = r"[\s\S]*"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("any", _AnyText())


class _OwnPath(Route):
    """A path that is nobody else's, whatever the method: not a name that another route's pattern takes."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        match, child = super().matches(scope)
        return Match.NONE if match is Match.NONE else Match.FULL, child


@dataclass(slots=True, kw_only=True)
class Backend:
    """What the routes stand on. The service builds it; `access` and `stopping` may change while it runs."""

    answers: Answers
    receivers: Mapping[str, Receiver]  # by the name of the delivery
    pages: Mapping[str, Callable[[], Response]]  # by the name of the page
    delete: Callable[[Condition], int]
    access: Access
    rates: SenderRates  # used on the event loop only
    costs: QueryCosts
    query_timeout_s: float
    audit: AuditTrail
    bodies: Bodies
    tail: Tail
    query_workers: Workers
    ingest_workers: Workers
    counts: RequestCounts
    version: str
    metrics_without_token: bool = False
    dialects: Sequence[DialectRoute] = ()
    stopping: bool = False


def application(backend: Backend) -> Starlette:
    """The collector's HTTP interface."""
    openapi = Response(orjson.dumps(document(backend.version)), media_type=JSON)
    pages = {**backend.pages, "openapi": lambda: openapi}
    routes: list[Route] = []

    def add(
        path: str,
        name: str,
        right: Right,
        handler: Handler,
        refuse: Refuse | None = None,
        *,
        method: str = "GET",
    ) -> None:
        guarded = _guarded(backend, name, right, handler, refuse)
        # services and records may have any name, with slashes and line breaks
        path = path.replace("{service}", "{service:any}").replace("{uid}", "{uid:any}")
        routes.append(Route(path, guarded, methods=[method]))

    for question in QUESTIONS:
        add(question.path, question.name, question.right, _asking(backend, question))
    for stream in STREAMS:
        add(stream.path, stream.name, stream.right, _streaming(backend, stream))
    for removal in REMOVALS:
        add(removal.path, removal.name, removal.right, _removing(backend, removal), method="DELETE")
    for order in ORDERS:
        add(order.path, order.name, order.right, _ordering(backend, order), method="POST")
    _put_own_paths_first(routes)
    for delivery in DELIVERIES:
        receiver = backend.receivers[delivery.name]
        take = _taking(backend, receiver)
        add(delivery.path, delivery.name, "ingest", take, receiver.refuse, method="POST")
    for page in PAGES:
        right = "open" if page.name == "metrics" and backend.metrics_without_token else page.right
        add(page.path, page.name, right, _showing(backend, pages[page.name], blocks=page.blocks))

    for dialect in backend.dialects:
        handler = _guarded(backend, dialect.name, "ingest", _speaking(backend, dialect), None)
        routes.append(Route(dialect.path, handler, methods=list(dialect.methods)))

    async def unrouted(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        problem = _problem_of_routing(request, error)
        backend.counts.problems[problem.kind] += 1
        backend.counts.add("none", problem.status, 0.0)
        return problem_response(problem, request)

    app = Starlette(routes=routes, exception_handlers={HTTPException: unrouted})
    app.router.redirect_slashes = False  # a redirect would be an answer that no document promises
    return app


def _put_own_paths_first(routes: list[Route]) -> None:
    """Let no pattern take for a name what is the path of another operation."""
    paths = [route.path for route in routes]
    own = [
        _OwnPath(route.path, route.endpoint, methods=route.methods)
        for route in routes
        if "{" not in route.path and paths.count(route.path) == 1
    ]
    routes[:] = [*own, *(route for route in routes if route.path not in {one.path for one in own})]


def problem_response(problem: Problem, request: Request, refuse: Refuse | None = None) -> Response:
    """A problem as the answer to a request, in the words of the protocol if it has some."""
    if refuse is None:
        content_type, body = problems.CONTENT_TYPE, problem.body(request.url.path)
    else:
        content_type, body = refuse(problem, request.headers.get("content-type", ""))
    return Response(body, status_code=problem.status, media_type=content_type, headers=dict(problem.headers))


def _guarded(backend: Backend, name: str, right: Right, handler: Handler, refuse: Refuse | None) -> Handler:
    """The handler behind the check of tokens, its errors as problems, its calls counted."""

    async def guarded(request: Request) -> Response:
        started = time.perf_counter()
        address = request.client.host if request.client is not None else ""
        caller = backend.access.admit(right, request.headers.raw, address=address)
        problem = caller if isinstance(caller, Problem) else _over_its_share(backend, right, caller)
        if problem is None:
            request.state.caller = caller
            try:
                response = await handler(request)
            except Exception as error:
                problem = problem_of(error)
                if problem.status == 500:
                    logger.exception("%s %s failed", request.method, request.url.path)
        if problem is not None:
            backend.counts.problems[problem.kind] += 1
            response = problem_response(problem, request, refuse)
        backend.counts.add(name, response.status_code, time.perf_counter() - started)
        return response

    return guarded


def _over_its_share(backend: Backend, right: Right, caller: Caller) -> Problem | None:
    wait_s = 0.0 if right == "open" else backend.rates.begin(caller.sender)
    if not wait_s:
        return None
    bounds = "sender_requests_per_s_max or sender_bytes_per_s_max"
    detail = f"{caller.sender} has used up its share; wait, or have {bounds} raised"
    return come_back("too-many-requests", detail, wait_s)


def _audited(
    backend: Backend, request: Request, name: str, target: str, act: Callable[[], tuple[Response, int | None]]
) -> Response:
    """Do what only an administrator may, and leave a line about it whatever becomes of it. Blocks."""
    caller: Caller = request.state.caller
    result, count = "internal", None
    try:
        response, count = act()
        result = "done"
        return response
    except Exception as error:
        result = problem_of(error).kind
        raise
    finally:
        actor = caller.name or "nobody"
        event = AuditEvent(
            action=name, actor=actor, target=target, result=result, address=caller.address, count=count
        )
        backend.audit.note(event)
        backend.audit.store()


def _asking(backend: Backend, question: Question) -> Handler:
    async def ask(request: Request) -> Response:
        values = _values(question.parameters, request)
        may_pack = "gzip" in request.headers.get("accept-encoding", "")

        def answer() -> Response:
            backend.costs.check(values)
            body = orjson.dumps(question.ask(backend.answers, values))
            if may_pack and len(body) >= GZIP_BYTES_MIN:
                packed = gzip.compress(body, compresslevel=1, mtime=0)
                return Response(packed, media_type=JSON, headers=_PACKED)
            return Response(body, media_type=JSON)

        return await backend.query_workers.run(answer, timeout_s=backend.query_timeout_s)

    return ask


def _streaming(backend: Backend, stream: Stream) -> Handler:
    begin = _STREAMS[stream.name]

    async def answer(request: Request) -> Response:
        if request.method == "HEAD":  # a stream without end would never get to the point
            _values(stream.parameters, request)
            return Response(media_type=stream.content_types[0])
        values = _values(stream.parameters, request)
        if stream.name != "tailLogs":  # which asks no store
            await backend.query_workers.run(lambda: backend.costs.check(values))
        return await begin(backend, request, values)

    return answer


def _removing(backend: Backend, removal: Removal) -> Handler:
    async def remove(request: Request) -> Response:
        values = _values(removal.parameters, request)

        def deleted() -> tuple[Response, int]:
            count = backend.delete(backend.answers.to_delete(**values))
            return Response(orjson.dumps({"deleted": count}), media_type=JSON), count

        target = " ".join(f"{key}={value}" for key, value in values.items() if value not in (None, ""))
        return await backend.query_workers.run(
            lambda: _audited(backend, request, removal.name, target, deleted)
        )

    return remove


def _ordering(backend: Backend, order: Order) -> Handler:
    def carried_out(body: bytes) -> tuple[Response, int | None]:
        answer = order.carry_out(backend.answers, read_body(order.body, body))
        return Response(orjson.dumps(answer), media_type=JSON), None

    def carry_out(request: Request, body: bytes) -> Response:
        if order.right != "admin":
            return carried_out(body)[0]
        target = body.decode(errors="replace")
        return _audited(backend, request, order.name, target, lambda: carried_out(body))

    return _receiving(backend, carry_out, workers=backend.query_workers)


def _taking(backend: Backend, receiver: Receiver) -> Handler:
    return _receiving(backend, lambda request, body: receiver.take(request.headers, body))


def _speaking(backend: Backend, dialect: DialectRoute) -> Handler:
    def speak(request: Request, body: bytes) -> Response:
        call = HttpCall(headers=request.headers, body=body, path_parameters=request.path_params)
        answer = dialect.answer(call)
        return Response(
            answer.body,
            status_code=answer.status,
            media_type=answer.content_type,
            headers=dict(answer.headers),
        )

    return _receiving(backend, speak)


def _receiving(
    backend: Backend, take: Callable[[Request, bytes], Response], *, workers: Workers | None = None
) -> Handler:
    """Read the body within the bounds, then do what blocks in a thread, one of those for what comes in."""
    workers = workers or backend.ingest_workers

    async def receive(request: Request) -> Response:
        if backend.stopping:
            raise Stopping
        try:
            body = await backend.bodies.read(request.receive)
        except Disconnected:
            return Response(status_code=400)  # nobody reads it
        backend.rates.charge(request.state.caller.sender, len(body))
        try:
            return await workers.run(lambda: take(request, body))
        finally:
            backend.bodies.release(body)

    return receive


def _showing(backend: Backend, page: Callable[[], Response], *, blocks: bool) -> Handler:
    async def show(request: Request) -> Response:
        return await backend.query_workers.run(page) if blocks else page()

    return show


def _values(parameters: Sequence[Parameter], request: Request) -> dict[str, Any]:
    given = parse_qsl(request.url.query, keep_blank_values=True)
    return {**read_path(parameters, request.path_params), **read_query(parameters, given)}


def _problem_of_routing(request: Request, error: HTTPException) -> Problem:
    """What Starlette's router says: no such path, or no such method."""
    headers = dict(error.headers or {})
    if error.status_code == 404:
        detail = f"{request.url.path[:200]}: no such path; /api/v1/openapi.json lists what there is"
    elif error.status_code == 405:
        headers["Allow"] = ", ".join(_methods(request))
        detail = f"{request.method} is not known here; {headers['Allow']} is"
    else:
        detail = str(error.detail)
    return problems.problem_of_status(error.status_code, detail, headers)


def _methods(request: Request) -> list[str]:
    """The methods that the request's path knows; Starlette names those of its first route only."""
    known: set[str] = set()
    for route in request.app.routes:
        if route.matches(request.scope)[0] is not Match.NONE:
            known |= route.methods
            if isinstance(route, _OwnPath):
                break
    return sorted(known)
