"""Answers that are sent in pieces: exports and the live tail."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from collector.api import exports
from collector.api.workers import Workers

if TYPE_CHECKING:
    from collector.api.app import Backend


async def tail(backend: Backend, request: Request, values: dict[str, Any]) -> Response:
    """Server-sent events of what becomes visible from now on."""
    condition = backend.answers.condition(**values)
    backend.tail.check_room()
    events = backend.tail.events(condition, backend.query_workers, request.is_disconnected)
    # a proxy that buffers would hold events back; X-Accel-Buffering is nginx's word for that
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(events, media_type="text/event-stream", headers=headers)


async def export_logs(backend: Backend, request: Request, values: dict[str, Any]) -> Response:
    """Records in a format for other tools."""
    format = values.get("format", "ndjson")
    pieces = backend.answers.export(**values)
    return await _in_pieces(backend.query_workers, pieces, exports.FORMATS[format].content_type)


async def export_trace(backend: Backend, request: Request, values: dict[str, Any]) -> Response:
    """One chain as a Chrome trace."""
    pieces = await backend.query_workers.run(lambda: backend.answers.export_trace(**values))
    return await _in_pieces(backend.query_workers, pieces, exports.CHROME_CONTENT_TYPE)


async def _in_pieces(workers: Workers, pieces: Iterator[bytes], content_type: str) -> Response:
    """Draw each piece in a thread; the first before the answer begins, so that its errors are problems."""
    first = await workers.run(lambda: next(pieces, None))

    async def body() -> AsyncIterator[bytes]:
        piece = first
        while piece is not None:
            yield piece
            piece = await workers.run(lambda: next(pieces, None))

    return StreamingResponse(body(), media_type=content_type)
