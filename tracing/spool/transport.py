"""One batch -> one request -> how far the collector has it. ARCHITECTURE.md, "Native ingest"."""

from __future__ import annotations

from typing import Final, NamedTuple

import orjson

from tracing.errors import PermanentExportError, RetryableExportError
from tracing.settings import NO_TLS_FILES, TlsFiles
from tracing.spool.http import Poster
from tracing.spool.limits import ShipperLimits
from tracing.spool.reader import Batch
from tracing.spool.tls import context_for

RECORDS_PATH: Final = "/v1/records"
FORMAT_VERSION: Final = "1"
PROBLEM_TYPE: Final = "application/problem+json"  # RFC 9457; what a collector refuses with


class Acknowledgement(NamedTuple):
    """What a collector has of a batch."""

    offset: int  # first byte that is not yet durable there; after the batch's own first one
    refused: int  # lines before it that the collector could not take


class RequestTooLarge(PermanentExportError):
    """The other side takes smaller requests only."""


class Transport:
    """The way to one collector. Not thread-safe.

    Raises:
        ConfigurationError: the URL is none, or not HTTP, or a file of TLS cannot be used.
    """

    def __init__(
        self, url: str, token: str | None, limits: ShipperLimits, tls_files: TlsFiles = NO_TLS_FILES
    ) -> None:
        self._poster = Poster(url, token, limits, tls=context_for(url, tls_files))
        self._retry_after_max_s = limits.retry_after_max_s

    def send(self, batch: Batch) -> Acknowledgement:
        """Bring one batch to the collector; returns after the records are durable there.

        Raises:
            RetryableExportError: not now; with `retry_after_s` when the collector said when.
            RequestTooLarge: the same lines may do in smaller requests.
            PermanentExportError: never; the batch is to be given up.
        """
        headers = {
            "Content-Type": "application/x-ndjson",
            "Backtrail-Format": FORMAT_VERSION,
            "Backtrail-Spool": batch.spool_id,
            "Backtrail-Offset": str(batch.offset),
        }
        response = self._poster.post(RECORDS_PATH, batch.header + batch.data, headers)
        if response.status == 200:
            return _acknowledged(response.body, batch)
        if response.status == 415 and self._poster.compress_no_more():
            raise RetryableExportError("the collector does not know our compression", retry_after_s=0.0)
        if response.status == 413:
            raise RequestTooLarge(response.summary())
        if response.status in (400, 422) and response.headers.get_content_type() == PROBLEM_TYPE:
            raise PermanentExportError(response.summary())
        # Also a 400 of something that is no collector, also 401, 403 and 404: somebody mends the token or
        # the URL, and nothing is lost meanwhile.
        wait_s = response.retry_after_s(self._retry_after_max_s)
        raise RetryableExportError(response.summary(), retry_after_s=wait_s)

    def close(self) -> None:
        """Close the connection; the next `send` opens another."""
        self._poster.close()


def _acknowledged(answer: bytes, batch: Batch) -> Acknowledgement:
    """Read the answer; whatever is not one is an error to try again after, never an acknowledgement.

    Raises:
        RetryableExportError: no answer of a collector, or one that does not fit the request.
    """
    try:
        fields = orjson.loads(answer)
        offset, refused = fields["acknowledged_offset"], len(fields.get("refused", ()))
    except (orjson.JSONDecodeError, AttributeError, TypeError, KeyError):
        raise RetryableExportError(f"not a collector's answer: {answer[:80]!r}") from None
    if type(offset) is not int or offset <= batch.offset:
        raise RetryableExportError(f"acknowledged {offset!r} of a batch that begins at {batch.offset}")
    if offset >= batch.end_offset:
        return Acknowledgement(
            batch.end_offset, refused
        )  # it may know more than we sent just now; we go on from what we know
    if batch.data[offset - batch.offset - 1 : offset - batch.offset] != b"\n":
        raise RetryableExportError(f"acknowledged {offset}, which is in the middle of a line")
    return Acknowledgement(offset, refused)
