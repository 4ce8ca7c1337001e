"""Real servers for tests and benchmarks: got once, started on loopback, ended with whoever started them.

Standard library only. `unavailable.ServerUnavailable` says in one line what is missing; a test skips
with it, or fails where `CI=true`. A new server is a module of its own that

1. finds or gets its program (`downloads`, `java`), and
2. gives a `process.ServerProcess` the command, the environment and a way to tell that it is up.
"""

from __future__ import annotations

from devservers.elasticsearch import Elasticsearch, elasticsearch_url
from devservers.process import ServerProcess, free_port
from devservers.unavailable import ServerUnavailable

__all__ = ["Elasticsearch", "ServerProcess", "ServerUnavailable", "elasticsearch_url", "free_port"]
