"""The ASGI service that `tests.bench.apps` puts under load.

`python -m tests.bench.app_asgi WAY DIRECTORY PORT`. One route, ten log lines a request, in every way:

- `silent`: the lines go nowhere;
- `file`: the standard library's FileHandler, plain text;
- `otel`: OpenTelemetry's ASGI middleware, its handler and both batch processors, whose exporters throw
  everything away;
- `ours`: `configure()` and `instrument()`, lines and spans spooled to disk, nobody to ship to.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

from tests.bench import library

LINES = 10

log = logging.getLogger("shop.orders")


def instrumented(way: str, directory: Path, app: Any) -> Any:
    """Set up what a way needs; return the application as the server shall run it."""
    log.setLevel(logging.INFO)
    if way == "silent":
        logging.getLogger().addHandler(logging.NullHandler())
    elif way == "file":
        library.add_file_handler(directory)
    elif way == "otel":
        from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware

        library.add_otel_handler()
        return OpenTelemetryMiddleware(app, tracer_provider=library.otel_provider())
    else:
        import tracing

        logging.getLogger().addHandler(logging.NullHandler())
        library.configure(directory)
        tracing.instrument()
    return app


def application() -> Any:
    """A Starlette application, made after everything is patched."""
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import JSONResponse, Response
    from starlette.routing import Route

    async def order(request: Request) -> Response:
        number = request.path_params["number"]
        for step in range(LINES):
            log.info("order %s: step %d of %d", number, step, LINES)
        return JSONResponse({"order": number})

    return Starlette(routes=[Route("/orders/{number:int}", order)])


def main() -> None:
    """Serve until the end."""
    import uvicorn

    way, directory, port = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    if way == "ours":
        instrumented(way, directory, None)
        app = application()
    else:
        app = instrumented(way, directory, application())
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning", access_log=False, lifespan="off")


if __name__ == "__main__":
    main()
