"""The embedded store: tantivy indexes, one directory a day."""

from collector.store.embedded.limits import StoreLimits
from collector.store.embedded.store import EmbeddedStore

__all__ = ["EmbeddedStore", "StoreLimits"]
