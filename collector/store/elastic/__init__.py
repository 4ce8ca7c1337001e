"""The store on Elasticsearch, for when one machine is not enough."""

from collector.store.elastic.options import ElasticOptions
from collector.store.elastic.store import ElasticStore, open_store

__all__ = ["ElasticOptions", "ElasticStore", "open_store"]
