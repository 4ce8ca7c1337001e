"""What the hops over HTTP, gRPC and WebSockets share: real servers, and the work that requests order."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

from tracing.doctor.hop import Failure, Wait, Way, Work

CONTEXTS = 1000  # at once: requests, over pooled connections
CONNECTIONS = 200  # at once, where each is one of its own
CLIENT_THREADS = 16
DEADLINE_S = 20
PATIENCE_S = 120  # of a request among many that go at once
ASKING = ("httpx", "opentelemetry.instrumentation.httpx")  # what servers are asked by, carrying the context


class Errand:
    """Work that a request is sent for: the handler does it, the asking side waits for its end."""

    def __init__(self, work: Work, tag: str, on_done: Callable[[], Any]) -> None:
        self.work = work
        self.tag = tag
        self.on_done = on_done


class Desk:
    """Where a handler finds the work of its request, by the number in the path."""

    def __init__(self) -> None:
        self._numbers = itertools.count()
        self._errands: dict[int, Errand] = {}

    def take(self, work: Work, tag: str, on_done: Callable[[], Any]) -> int:
        """Accept work; return its number. `on_done` is called where it ends."""
        number = next(self._numbers)
        self._errands[number] = Errand(work, tag, on_done)
        return number

    def __contains__(self, number: int) -> bool:
        """Whether work waits."""
        return number in self._errands

    def do(self, number: int | str) -> None:
        """Do the work, in a handler; what it raises leaves the handler, as the program's errors do."""
        errand = self._errands.pop(int(number))
        try:
            errand.work(errand.tag)
        finally:
            errand.on_done()


class Held:
    """Work that is under way until it is let go."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.let_go = threading.Event()

    def __call__(self, tag: str) -> None:
        self.begun.set()
        assert self.let_go.wait(DEADLINE_S)


def through_tasks(desk: Desk, ask: Callable[[int], Awaitable[Any]]) -> Way:
    """A way whose requests are tasks; `ask` sends one, and what it raises is the answer's business."""

    loop = asyncio.get_running_loop()

    async def asked(work: Work, tag: str) -> None:
        done = asyncio.Event()
        number = desk.take(work, tag, lambda: loop.call_soon_threadsafe(done.set))
        with contextlib.suppress(Exception):  # the work failed: the answer says so
            await ask(number)
        await done.wait()  # it may be done after the answer, in the background

    def go(work: Work, tag: str) -> Wait:
        task = asyncio.create_task(asked(work, tag))

        async def waited() -> None:
            await asyncio.wait_for(task, PATIENCE_S)

        return waited

    def cancel(tag: str) -> Wait:
        held = Held()
        task = asyncio.create_task(asked(held, tag))

        async def waited() -> None:
            await asyncio.to_thread(held.begun.wait, DEADLINE_S)
            task.cancel()
            held.let_go.set()
            await asyncio.gather(task, return_exceptions=True)

        return waited

    return Way(go, cancel)


@asynccontextmanager
async def through_threads(desk: Desk, ask: Callable[[int], Any]) -> AsyncIterator[Way]:
    """A way whose requests are made by a pool of threads."""
    with ThreadPoolExecutor(CLIENT_THREADS) as executor:

        def asked(work: Work, tag: str) -> None:
            done = threading.Event()
            number = desk.take(work, tag, done.set)
            with contextlib.suppress(Exception):
                ask(number)
            assert done.wait(PATIENCE_S)

        def go(work: Work, tag: str) -> Wait:
            found = executor.submit(asked, work, tag)

            async def waited() -> None:
                await asyncio.wrap_future(found)

            return waited

        yield Way(go)


# ---------------------------------------------------------------- servers, each in a thread of its own


@contextmanager
def uvicorn_server(app: Any, *, lifespan: Literal["on", "off"] = "off") -> Iterator[str]:
    """An ASGI application, served by uvicorn; gives the URL.

    Args:
        lifespan: whether the application is told of the start, as some need it.
    """
    import uvicorn

    server = uvicorn.Server(
        uvicorn.Config(app, port=0, log_level="critical", lifespan=lifespan, timeout_graceful_shutdown=1)
    )
    ready = threading.Event()
    startup = server.startup

    async def started(*args: Any, **kwargs: Any) -> None:
        await startup(*args, **kwargs)
        ready.set()

    server.startup = started  # type: ignore[method-assign]
    thread = threading.Thread(target=server.run)
    thread.start()
    assert ready.wait(DEADLINE_S)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(DEADLINE_S)


@contextmanager
def plain_server(desk: Desk) -> Iterator[str]:
    """A server of Python's own, whose handler takes the caller's headers over by hand; gives the URL."""
    import tracing

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            try:
                with tracing.extracted(self.headers):
                    desk.do(self.path.rpartition("/")[2])
                self.send_response(200)
            except Failure:
                self.send_response(500)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join(DEADLINE_S)


@contextmanager
def werkzeug_server(app: Any) -> Iterator[str]:
    """A WSGI application, served by a thread a request."""
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Quiet(WSGIRequestHandler):
        def log(self, *args: Any) -> None:
            pass

    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=Quiet)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.port}"
    finally:
        server.shutdown()
        thread.join(DEADLINE_S)
        server.server_close()


@contextmanager
def on_a_loop(start: Callable[[], Awaitable[tuple[int, Callable[[], Awaitable[Any]]]]]) -> Iterator[str]:
    """A server that lives on an event loop; `start` gives its port and what stops it."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        port, stop = asyncio.run_coroutine_threadsafe(_awaited(start), loop).result(DEADLINE_S)
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            asyncio.run_coroutine_threadsafe(_awaited(stop), loop).result(DEADLINE_S)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(DEADLINE_S)
        loop.close()


async def _awaited(function: Callable[[], Awaitable[Any]]) -> Any:
    return await function()


def served(make: Callable[[Desk], AbstractContextManager[str]]) -> Callable[[], Any]:
    """`open` of a hop whose server is asked by httpx on an event loop, over pooled connections."""

    @asynccontextmanager
    async def opened() -> AsyncIterator[Way]:
        import httpx

        desk = Desk()
        limits = httpx.Limits(max_connections=50)
        with make(desk) as url:
            timeout = httpx.Timeout(PATIENCE_S)
            async with httpx.AsyncClient(base_url=url, timeout=timeout, limits=limits) as client:

                async def ask(number: int) -> None:
                    try:
                        await client.get(f"/work/{number}")
                    except httpx.TransportError:
                        # After an error a server may close the connection, maybe just now.
                        if number in desk:
                            await client.get(f"/work/{number}")

                yield through_tasks(desk, ask)

    return opened
