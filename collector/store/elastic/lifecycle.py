"""Rollover and retention where the server does not look after them itself, and taking out what has to go."""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import Final

import msgspec

from collector.store.elastic import names as n
from collector.store.elastic.connection import Connection, Rejected
from collector.store.elastic.documents import timestamp_text
from collector.store.elastic.names import Names
from collector.store.elastic.options import ElasticOptions
from collector.store.elastic.reading import Reader
from collector.store.elastic.streams import Streams
from collector.store.elastic.translate import Query, all_of, any_of, none_of

logger = logging.getLogger(__name__)

_DAY_NS: Final = 86_400 * 10**9
DELETE_TIMEOUT_S: Final = 3_600.0  # a deletion reads all that it deletes


class _Deleted(msgspec.Struct, frozen=True):
    deleted: int = 0
    version_conflicts: int = 0


class _Size(msgspec.Struct, frozen=True):
    """A line of `_cat/indices`."""

    index: str
    created_ms: int = msgspec.field(name="creation.date")
    size_bytes: int = msgspec.field(name="store.size", default=0)


class Lifecycle:
    """Looks after the backing indices of our streams."""

    def __init__(
        self, connection: Connection, names: Names, options: ElasticOptions, streams: Streams, reader: Reader
    ) -> None:
        self._connection = connection
        self._names = names
        self._options = options
        self._streams = streams
        self._reader = reader

    def roll_over(self, *, now: bool = False) -> list[str]:
        """Begin a new index for each stream whose newest is large or old enough; return those streams.

        Args:
            now: whatever their size and age.
        """
        conditions = {
            "max_primary_shard_size": f"{self._options.rollover_bytes}b",
            "max_age": f"{self._options.rollover_age_s}s",
        }
        body = {} if now else {"conditions": {**conditions, "min_docs": 1}}
        self._streams.reload()
        rolled = []
        for stream in self._names.streams:
            if not self._streams.backing(stream):
                continue
            if self._connection.ask("POST", f"/{stream}/_rollover", body).get("rolled_over"):
                rolled.append(stream)
        if rolled:
            logger.info("rolled over: %s", ", ".join(rolled))
            self._streams.reload()
        return rolled

    def drop_indices(self, received_ns: int) -> int:
        """Delete every index in which all records arrived earlier; return how many records went."""
        self._streams.reload()
        dropped = 0
        for stream in self._names.streams:
            for index in self._streams.backing(stream):
                count = self._expired(index, received_ns)
                if not count:
                    continue
                if index == self._streams.write_index(stream):
                    self._connection.request("POST", f"/{stream}/_rollover")
                self._connection.request("DELETE", f"/{index}")
                logger.info("deleted %s with %d records: all arrived before the retention", index, count)
                dropped += count
        if dropped:
            self._streams.reload()
        return dropped

    def shrink_to(self, bytes_max: int) -> int:
        """Delete the oldest indices until the rest takes no more, with replicas; how many records went.

        The index that a stream writes to stays, whatever its size.
        """
        self._streams.reload()
        backing = {index: stream for stream in self._names.streams for index in self._streams.backing(stream)}
        if not backing:
            return 0
        sizes = self._sizes(backing)
        left = sum(one.size_bytes for one in sizes)
        dropped = 0
        for one in sorted(sizes, key=lambda one: (one.created_ms, one.index)):
            if left <= bytes_max:
                break
            if one.index == self._streams.write_index(backing[one.index]):
                continue
            count = self._reader.count_documents(one.index, {"match_all": {}})
            self._connection.request("DELETE", f"/{one.index}")
            logger.info("deleted %s with %d records: the store was larger than it may be", one.index, count)
            left -= one.size_bytes
            dropped += count
        if dropped:
            self._streams.reload()
        return dropped

    def _sizes(self, indices: Collection[str]) -> list[_Size]:
        params = {"h": "index,creation.date,store.size", "bytes": "b", "format": "json"}
        raw = self._connection.read("GET", f"/_cat/indices/{','.join(indices)}", params=params)
        return msgspec.json.decode(raw or b"[]", type=list[_Size], strict=False)

    def drop_days(self, received_ns: int) -> int:
        """Delete the records of every day of arrival that was over by then, out of indices that stay."""
        midnight_ns = received_ns - received_ns % _DAY_NS
        return self.delete(_arrived_before(midnight_ns))

    def delete(self, query: Query) -> int:
        """Take out every document that a query finds, at once; return how many."""
        total = 0
        params = {
            "conflicts": "proceed",
            "refresh": "true",
            "ignore_unavailable": "true",
            "allow_no_indices": "true",
            "filter_path": "deleted,version_conflicts",
        }
        while True:
            raw = self._connection.request(
                "POST",
                f"/{','.join(self._names.streams)}/_delete_by_query",
                {"query": query},
                params=params,
                timeout_s=DELETE_TIMEOUT_S,
            )
            answer = msgspec.json.decode(raw, type=_Deleted)
            total += answer.deleted
            if not answer.version_conflicts:
                return total

    def _expired(self, index: str, received_ns: int) -> int:
        """How many records an index has when all of them arrived earlier, else 0."""
        earlier = _arrived_before(received_ns)
        try:
            if self._reader.count_documents(index, none_of(earlier)):
                return 0
            return self._reader.count_documents(index, earlier)
        except Rejected as error:
            if error.status == 404:  # another collector was faster
                return 0
            raise


def _arrived_before(received_ns: int) -> Query:
    """Our records that arrived before a time; one that does not say when it did, before any."""
    without_time = all_of([{"exists": {"field": n.UID}}, none_of({"exists": {"field": n.OBSERVED}})])
    return any_of([{"range": {n.OBSERVED: {"lt": timestamp_text(received_ns)}}}, without_time])
