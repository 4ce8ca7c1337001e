"""Access logs have the ids of the request they are about, whichever server writes them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

import orjson
import pytest

REQUESTS = 6

ASGI = """
    import logging
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route

    async def order(request):
        logging.getLogger("shop").warning("order %s", request.path_params["number"])
        return PlainTextResponse("done")

    application = Starlette(routes=[Route("/orders/{number}", order)])
"""

WSGI = """
    import logging
    import flask

    application = flask.Flask("shop")

    @application.get("/orders/<int:number>")
    def order(number):
        logging.getLogger("shop").warning("order %d", number)
        return "done"
"""

AIOHTTP = """
    import logging, sys
    from aiohttp import web

    async def order(request):
        logging.getLogger("shop").warning("order %s", request.match_info["number"])
        return web.Response(text="done")

    logging.basicConfig(level=logging.INFO)
    application = web.Application()
    application.router.add_get("/orders/{number}", order)
    if __name__ == "__main__":
        web.run_app(application, host="127.0.0.1", port=int(sys.argv[1]), print=None)
"""

TORNADO = """
    import asyncio, logging, sys
    from tornado.web import Application, RequestHandler

    class Order(RequestHandler):
        def get(self, number):
            logging.getLogger("shop").warning("order %s", number)
            self.write("done")

    async def main():
        Application([(r"/orders/(.*)", Order)]).listen(int(sys.argv[1]), "127.0.0.1")
        await asyncio.Event().wait()

    logging.basicConfig(level=logging.INFO)
    asyncio.run(main())
"""

SANIC = """
    import logging, sys
    from sanic import Sanic, text

    app = Sanic("shop")

    @app.get("/orders/<number>")
    async def order(request, number):
        logging.getLogger("shop").warning("order %s", number)
        return text("done")

    if __name__ == "__main__":
        app.run("127.0.0.1", int(sys.argv[1]), access_log=True, motd=False, single_process=True)
"""

BIND = ["--bind", "127.0.0.1:{port}", "app:application"]
GUNICORN = ["-m", "gunicorn", "--access-logfile", "-", "--no-control-socket", "--graceful-timeout", "2"]
GRANIAN = ["-m", "granian", "--access-log", "--host", "127.0.0.1", "--port", "{port}", "--interface"]
# The program, its arguments, and the logger of its access log.
SERVERS: dict[str, tuple[str, list[str], str]] = {
    "gunicorn sync": (WSGI, [*GUNICORN, *BIND], "gunicorn.access"),
    "gunicorn gthread": (WSGI, [*GUNICORN, "--threads", "4", *BIND], "gunicorn.access"),
    "gunicorn asgi": (ASGI, [*GUNICORN, "--worker-class", "asgi", *BIND], "gunicorn.access"),
    "uvicorn": (ASGI, ["-m", "uvicorn", "--port", "{port}", "app:application"], "uvicorn.access"),
    "hypercorn": (
        ASGI,
        ["-m", "hypercorn", "--access-logfile", "-", *BIND],
        "hypercorn.access",
    ),
    "granian asgi": (ASGI, [*GRANIAN, "asgi", "app:application"], "granian.access"),
    "granian wsgi": (WSGI, [*GRANIAN, "wsgi", "app:application"], "granian.access"),
    "aiohttp": (AIOHTTP, ["app.py", "{port}"], "aiohttp.access"),
    "sanic": (SANIC, ["app.py", "{port}"], "sanic.access"),
    "tornado": (TORNADO, ["app.py", "{port}"], "tornado.access"),
}


def ask(url: str, trace_id: str) -> bool:
    """Send one request of a trace; whether it was answered, in that trace."""
    request = Request(url, headers={"traceparent": f"00-{trace_id}-{1:016x}-01"})
    try:
        with urlopen(request, timeout=30) as response:
            return response.headers["X-Trace-ID"] == trace_id
    except URLError:
        return False


def read(path: Path) -> list[dict[str, Any]]:
    """All lines so far that are whole."""
    data = path.read_bytes() if path.exists() else b""
    return [orjson.loads(line) for line in data[: data.rfind(b"\n") + 1].splitlines()]


def written(path: Path, logger: str) -> list[dict[str, Any]]:
    """The lines of one logger."""
    return [line for line in read(path) if line.get("logger") == logger and "kind" not in line]


@pytest.mark.flow
@pytest.mark.parametrize("server", list(SERVERS))
def test_each_line_is_in_its_request(server: str, tmp_path: Path, free_port: Callable[[], int]) -> None:
    """Without a change to the program, under `backtrail run`."""
    program, arguments, logger = SERVERS[server]
    port, lines_file = free_port(), tmp_path / "lines.ndjson"
    (tmp_path / "app.py").write_text(textwrap.dedent(program))
    outer = {name: value for name, value in os.environ.items() if not name.startswith(("TRACING_", "OTEL_"))}
    command = [sys.executable, *(part.format(port=port) for part in arguments)]
    output = (tmp_path / "output").open("wb")
    process = subprocess.Popen(
        [sys.executable, "-m", "tracing.launch", "run", "--service", "web", "--", *command],
        env=outer
        | {
            "PYTHONPATH": os.pathsep.join([str(tmp_path), *filter(None, sys.path)]),
            "TRACING_EXPORTER": "file",
            "TRACING_EXPORT_FILE": str(lines_file),
        },
        cwd=tmp_path,
        stdout=output,
        stderr=output,
        start_new_session=True,
    )
    try:
        url = f"http://127.0.0.1:{port}/orders"
        deadline_s = time.monotonic() + 60
        while not ask(f"{url}/0", f"{1:032x}"):
            assert time.monotonic() < deadline_s, (tmp_path / "output").read_text()
            assert process.poll() is None, (tmp_path / "output").read_text()
            time.sleep(0.05)
        for number in range(1, REQUESTS):
            assert ask(f"{url}/{number}", f"{number + 1:032x}")
        # A server writes its line after the answer, and may be told to end before.
        while len(written(lines_file, logger)) < REQUESTS:
            assert time.monotonic() < deadline_s, (tmp_path / "output").read_text()
            time.sleep(0.02)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
    spans = [line for line in read(lines_file) if line.get("kind") == "span"]
    for line in written(lines_file, logger):
        said = str(
            line["message"] or line["attributes"]["request"]
        )  # Sanic's message is made of its attributes
        number = int(said.split("/orders/")[1].split()[0].strip('"'))
        assert int(line["trace_id"], 16) == number + 1
        assert line["span_id"] in {span["span_id"] for span in spans if span["trace_id"] == line["trace_id"]}
