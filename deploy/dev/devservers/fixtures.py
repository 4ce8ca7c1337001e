"""Servers for pytest: one a version and test run, started when the first test needs it.

A `conftest.py` puts this directory on the path and imports the fixtures by name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from urllib.request import urlopen

import pytest

from devservers.elasticsearch import Elasticsearch, elasticsearch_url
from devservers.unavailable import ServerUnavailable

GetElasticsearch = Callable[[str], str]


@pytest.fixture(scope="session")
def elasticsearch(need: Callable[[bool, str], None]) -> Iterator[GetElasticsearch]:
    """Call it with a version for the URL of a running server, security off.

    `ELASTICSEARCH_URL` stands in for the version that it is of; without any server the test is skipped.
    """
    started: dict[str, Elasticsearch | ServerUnavailable] = {}

    def get(version: str) -> str:
        given = elasticsearch_url()
        if given is not None:
            with urlopen(given, timeout=10) as answer:
                same_major = f'"number" : "{version.split(".")[0]}.'.encode() in answer.read()
            need(same_major, f"Elasticsearch {version}, and ELASTICSEARCH_URL is of another version")
            return given
        if version not in started:
            try:
                started[version] = Elasticsearch(version, heap_mb=512).start()
            except ServerUnavailable as error:
                started[version] = error
        server = started[version]
        if isinstance(server, ServerUnavailable):
            need(False, str(server))
            raise server
        return server.url

    yield get
    for server in started.values():
        if isinstance(server, Elasticsearch):
            server.remove()
