"""The shop's front door: an ASGI application (Starlette on uvicorn) that calls the orders over HTTP."""

from __future__ import annotations

import contextlib
import logging
import socket
from collections.abc import AsyncIterator

import httpx
import starlette.applications
import uvicorn
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

import tracing
from collector.demo.faults import spoiled
from collector.demo.premises import address_of, publish_address

logger = logging.getLogger("shop.gateway")


async def place_order(request: Request) -> JSONResponse:
    """Take an order from a customer and hand it on."""
    order = await request.json()
    logger.info("received %s: %d x %s", order["order_id"], order["quantity"], order["sku"])
    order = spoiled("gateway.order", order["order_id"], order)
    url = spoiled("gateway.orders_url", order["order_id"], address_of("orders"))
    client: httpx.AsyncClient = request.app.state.client
    answer = await client.post(f"{url}/orders", json=order)
    if answer.is_error:
        logger.error("%s failed: orders answered %d", order["order_id"], answer.status_code)
        return JSONResponse({"error": "the order could not be taken"}, status_code=502)
    logger.info("accepted %s", order["order_id"])
    return JSONResponse(answer.json(), status_code=202)


@contextlib.asynccontextmanager
async def _lifespan(app: starlette.applications.Starlette) -> AsyncIterator[None]:
    async with httpx.AsyncClient(timeout=30) as client:
        app.state.client = client
        yield


def main() -> None:
    """Serve until told to stop."""
    tracing.configure(service="gateway", level="INFO")
    tracing.instrument()
    app = starlette.applications.Starlette(
        routes=[Route("/orders", place_order, methods=["POST"])], lifespan=_lifespan
    )
    listener = socket.create_server(("127.0.0.1", 0))
    publish_address("gateway", f"http://127.0.0.1:{listener.getsockname()[1]}")
    uvicorn.Server(uvicorn.Config(app, log_config=None)).run(sockets=[listener])


if __name__ == "__main__":
    main()
