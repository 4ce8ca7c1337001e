"""Which backing indices the streams have, and which of them may already hold a record.

A write index refuses an `_id` that it has; after a rollover it does not know the old index's. So
whenever a record may have been stored before, it is looked up in the older indices first.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from threading import Lock
from typing import Any, Final

import msgspec

from collector.store.elastic.connection import Connection, Rejected
from collector.store.elastic.names import Names

_GENERATION: Final = re.compile(r"-(\d{6,})$")
_IDS_MAX: Final = 5_000  # of one look-up


class _Hit(msgspec.Struct, frozen=True):
    id: str = msgspec.field(name="_id")


class _Hits(msgspec.Struct, frozen=True):
    hits: list[_Hit] = []


class _Found(msgspec.Struct, frozen=True):
    hits: _Hits = _Hits()


class Streams:
    """What is known of the backing indices of our streams; safe to use from several threads."""

    def __init__(self, connection: Connection, names: Names) -> None:
        self._connection = connection
        self._names = names
        self._lock = Lock()
        self._indices: dict[str, list[str]] = {}  # by stream, the write index last

    def reload(self) -> None:
        """Ask the cluster, and refresh what is no longer written to, so that look-ups see all of it."""
        wanted = ",".join(self._names.streams)
        params = {"ignore_unavailable": "true", "allow_no_indices": "true"}
        try:
            answer = self._connection.ask("GET", f"/_resolve/index/{wanted}", params=params)
        except Rejected as error:
            if error.status != 404:
                raise
            answer = {}
        indices = {
            stream["name"]: sorted(_as_list(stream["backing_indices"]), key=_generation)
            for stream in answer.get("data_streams", [])
        }
        with self._lock:
            before = {index for older in self._indices.values() for index in older[:-1]}
            self._indices = indices
        retired = [index for older in indices.values() for index in older[:-1] if index not in before]
        if retired:
            self.refresh(retired)

    def write_index(self, stream: str) -> str | None:
        """The index that a stream writes to, as far as we know; `None`: the stream is not there yet."""
        with self._lock:
            indices = self._indices.get(stream)
            return indices[-1] if indices else None

    def backing(self, stream: str) -> list[str]:
        """Every backing index of a stream, the oldest first, the write index last."""
        with self._lock:
            return list(self._indices.get(stream, []))

    def in_older(self, stream: str, ids: Collection[str]) -> set[str]:
        """Which of these ids an index has that is no longer written to."""
        with self._lock:
            older = self._indices.get(stream, [])[:-1]
        return self.in_indices(older, ids)

    def in_indices(self, indices: Collection[str], ids: Collection[str]) -> set[str]:
        """Which of these ids one of the indices has."""
        found: set[str] = set()
        if not indices:
            return found
        for part in _parts(sorted(ids), _IDS_MAX):
            query = {"query": {"ids": {"values": part}}, "size": len(part), "_source": False}
            params = {
                "filter_path": "hits.hits._id",
                "ignore_unavailable": "true",
                "allow_partial_search_results": "false",  # what a silent shard has would be stored again
            }
            body = self._connection.read("POST", f"/{','.join(indices)}/_search", query, params=params)
            found.update(hit.id for hit in msgspec.json.decode(body or b"{}", type=_Found).hits.hits)
        return found

    def refresh(self, indices: Collection[str] | None = None) -> None:
        """Make everything that was written visible, in some indices or in all streams."""
        targets = ",".join(self._names.streams if indices is None else indices)
        params = {"ignore_unavailable": "true", "allow_no_indices": "true"}
        self._connection.read("POST", f"/{targets}/_refresh", params=params)


def _generation(index: str) -> int:
    found = _GENERATION.search(index)
    return int(found[1]) if found else 0


def _as_list(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


def _parts(values: list[str], size: int) -> Iterable[list[str]]:
    return (values[at : at + size] for at in range(0, len(values), size))
