"""CollectorClient: the API from Python, standard library only, never traced."""

from __future__ import annotations

from collector.client.asynchronous import AsyncCollectorClient
from collector.client.imports import BATCH_BYTES_MAX, BATCH_RECORDS_MAX, IMPORT_HEADERS, import_bodies
from collector.client.sync import CollectorClient
from collector.client.wire import DEFAULT_URL, address_of

__all__ = [
    "BATCH_BYTES_MAX",
    "BATCH_RECORDS_MAX",
    "DEFAULT_URL",
    "IMPORT_HEADERS",
    "AsyncCollectorClient",
    "CollectorClient",
    "address_of",
    "import_bodies",
]
