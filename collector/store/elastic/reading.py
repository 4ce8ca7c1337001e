"""Questions to the cluster: pages, scans, counts, traces. An answer is whole or an error, never partial."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from collector.errors import StoreFailed
from collector.model import Record
from collector.store.conditions import And, Condition, counted, fields_of, matches
from collector.store.contract import Place
from collector.store.elastic import names as n
from collector.store.elastic.connection import Connection, Rejected, Unavailable
from collector.store.elastic.documents import NUMBER_MAX, decode, late_text, timestamp_text
from collector.store.elastic.guard import is_field_name
from collector.store.elastic.names import Names
from collector.store.elastic.options import ElasticOptions
from collector.store.elastic.translate import Query, Translated, translate, window
from collector.store.paging import place_of

_TIME_FORMAT: Final = "strict_date_optional_time_nanos"
_LENIENT: Final = {
    "ignore_unavailable": "true",  # a stream comes into being with its first record
    "allow_no_indices": "true",
    "allow_partial_search_results": "false",
}
_KEEP_ALIVE: Final = "2m"  # of a scan, from one page to the next
_SEARCHES_MAX: Final = 50  # of one request
_INDICES_MAX: Final = 20  # named in one URL, of which a server reads 4 KiB


class Hit(msgspec.Struct, frozen=True):
    """One document found."""

    source: msgspec.Raw = msgspec.field(name="_source", default=msgspec.Raw())
    sort: list[Any] = []
    fields: dict[str, list[Any]] = {}

    def value(self, field: str) -> Any:
        """The first value of a column that was asked for; `None` when the document has none."""
        values = self.fields.get(field)
        return values[0] if values else None


class _Hits(msgspec.Struct, frozen=True):
    hits: list[Hit] = []


class _Answer(msgspec.Struct, frozen=True):
    hits: _Hits = _Hits()
    aggregations: dict[str, Any] = {}
    pit_id: str | None = None
    error: Any = None
    status: int = 200


class _Answers(msgspec.Struct, frozen=True):
    responses: list[_Answer]


class _Shards(msgspec.Struct, frozen=True):
    failed: int = 0


class _Count(msgspec.Struct, frozen=True):
    count: int = 0
    shards: _Shards = msgspec.field(name="_shards", default=_Shards())


class _FieldType(msgspec.Struct, frozen=True):
    indices: list[str] | None = None  # None: in all that have the field
    aggregatable: bool = True
    non_aggregatable_indices: list[str] | None = None  # None: all of them, or none


class _FieldCaps(msgspec.Struct, frozen=True):
    indices: list[str] = []
    fields: dict[str, dict[str, _FieldType]] = {}


class Columns(NamedTuple):
    """Where a field has a column to count: indices as one asks for them, several in one text."""

    by_type: list[str]  # those in which it has the same type together
    without: list[str]  # those that have the field and no column of it


class Plan(msgspec.Struct, frozen=True):
    """A question made ready: where to look, for what, and how to tell when in doubt."""

    indices: str
    translated: Translated
    matches: Callable[[Record], bool]

    @property
    def superset(self) -> Query:
        """Finds every document that may match."""
        return self.translated.superset

    @property
    def certain(self) -> Query:
        """Finds the documents that match beyond doubt."""
        return self.translated.certain

    @property
    def doubtful(self) -> Query | None:
        """Finds the documents that have to be looked at."""
        return self.translated.doubt


class Reader:
    """Asks one cluster about our streams; safe to use from several threads."""

    def __init__(self, connection: Connection, names: Names, options: ElasticOptions) -> None:
        self._connection = connection
        self._names = names
        self._page_records = options.page_records

    def plan(self, condition: Condition, start_ns: int | None, end_ns: int | None) -> Plan:
        """Make a question ready; `span_start` and `loss` are asked only when it is about `kind`."""
        time = window(start_ns, end_ns)
        wanted = And((time, counted(condition)))
        everywhere = any(field == "kind" for field in fields_of(condition))
        streams = self._names.streams if everywhere else (self._names.logs, self._names.spans)
        return Plan(
            indices=",".join(streams),
            translated=translate(And((time, condition))),
            matches=lambda record: matches(wanted, record),
        )

    # ---------------------------------------------------------------- records

    def page(self, plan: Plan, limit: int, before: Place | None) -> list[Record]:
        """At most `limit` records that match, newest first, all of them older than a place."""
        found: list[Record] = []
        doubtful = plan.doubtful is not None
        size = min(self._page_records, limit if not doubtful else max(limit, 100))
        while len(found) < limit:
            hits = self._sorted(plan.indices, plan.superset, size, before, "desc")
            records = [decode(bytes(hit.source)) for hit in hits]
            found += [record for record in records if not doubtful or plan.matches(record)]
            if len(hits) < size:
                break
            before = place_of(records[-1])
        return found[:limit]

    def count(self, plan: Plan) -> int:
        """How many records match."""
        sure = self.count_documents(plan.indices, plan.certain)
        return sure + sum(1 for _ in self.doubtful_matches(plan))

    def doubtful_matches(self, plan: Plan) -> Iterator[Record]:
        """Of the documents that the query does not decide: those that match."""
        if plan.doubtful is not None:
            for record in self.scan(plan.indices, plan.doubtful):
                if plan.matches(record):
                    yield record

    def traces(self, trace_ids: Sequence[str], records_max: int) -> list[list[Record]]:
        """Several traces' records, in the order of their ids."""
        indices = ",".join(self._names.streams)
        size = min(records_max, self._page_records)
        found: list[list[Record]] = []
        for at in range(0, len(trace_ids), _SEARCHES_MAX):
            part = trace_ids[at : at + _SEARCHES_MAX]
            queries = [translate_trace(trace_id) for trace_id in part]
            bodies = [_sorted_body(query, size, None, "asc") for query in queries]
            for query, hits in zip(queries, self._many(indices, bodies), strict=True):
                records = [decode(bytes(hit.source)) for hit in hits]
                while len(hits) == size and len(records) < records_max:
                    hits = self._sorted(indices, query, size, place_of(records[-1]), "asc")
                    records += [decode(bytes(hit.source)) for hit in hits]
                found.append(records[:records_max])
        return found

    def scan(self, indices: str, query: Query) -> Iterator[Record]:
        """Every record that a query finds, in no order, of one moment."""
        for hit in self._scan(indices, query, {"_source": True}):
            yield decode(bytes(hit.source))

    def scan_columns(self, indices: str, query: Query, columns: Sequence[str]) -> Iterator[Hit]:
        """The values of some columns of every document that a query finds, of one moment."""
        body = {"_source": False, "docvalue_fields": list(columns)}
        yield from self._scan(indices, query, body)

    # ---------------------------------------------------------------- numbers

    def count_documents(self, indices: str, query: Query) -> int:
        """How many documents a query finds, exactly."""
        params = {key: value for key, value in _LENIENT.items() if key != "allow_partial_search_results"}

        def count() -> int:
            body = self._connection.request("POST", f"/{indices}/_count", {"query": query}, params=params)
            answer = msgspec.json.decode(body, type=_Count)
            if answer.shards.failed:  # which a count passes over, and indices are dropped by what it says
                raise Unavailable("server_error", f"{answer.shards.failed} shards of {indices} do not answer")
            return answer.count

        return self._connection.patiently(count)

    def aggregate(self, indices: str, query: Query, aggregations: dict[str, Any]) -> dict[str, Any]:
        """The answers to aggregations, `{}` when no stream is there yet."""
        body = {"size": 0, "track_total_hits": False, "query": query, "aggs": aggregations}
        return self._search(indices, body).aggregations

    def groups(
        self, indices: str, query: Query, sources: list[dict[str, Any]], more: dict[str, Any] | None = None
    ) -> Iterator[dict[str, Any]]:
        """Every combination of some fields' values, with its number of documents: exact, however many."""
        after: dict[str, Any] | None = None
        while True:
            composite: dict[str, Any] = {"size": self._page_records, "sources": sources}
            if after is not None:
                composite["after"] = after
            wanted = {"groups": {"composite": composite, **({"aggs": more} if more else {})}}
            answer = self.aggregate(indices, query, wanted).get("groups", {})
            yield from answer.get("buckets", [])
            after = answer.get("after_key")
            if after is None:
                return

    def columns(self, indices: str, field: str) -> Columns:
        """Where a field has a column, and where it has none."""
        if not is_field_name(field):
            return Columns([], [])
        params = {"fields": field, "ignore_unavailable": "true", "allow_no_indices": "true"}
        body = self._connection.read("GET", f"/{indices}/_field_caps", params=params)
        found = msgspec.json.decode(body, type=_FieldCaps)
        by_type: list[str] = []
        without: list[str] = []
        for one in found.fields.get(field, {}).values():
            having = set(one.indices or found.indices)
            bare = set() if one.aggregatable else set(one.non_aggregatable_indices or having)
            for part, into in ((having - bare, by_type), (bare, without)):
                into += [indices] if part == set(found.indices) else _named(part)
        return Columns(by_type, without)

    def edges_of_time(self) -> tuple[int | None, int | None]:
        """The earliest and the latest timestamp of any record."""
        indices = ",".join(self._names.streams)
        bodies = [_sorted_body({"match_all": {}}, 1, None, order) for order in ("asc", "desc")]
        ends = [
            decode(bytes(hits[0].source)).timestamp_ns if hits else None
            for hits in self._many(indices, bodies)
        ]
        return ends[0], ends[1]

    # ---------------------------------------------------------------- requests

    def _sorted(self, indices: str, query: Query, size: int, after: Place | None, order: str) -> list[Hit]:
        return self._search(indices, _sorted_body(query, size, after, order)).hits.hits

    def _search(self, indices: str, body: dict[str, Any]) -> _Answer:
        answer = self._connection.read("POST", f"/{indices}/_search", body, params=_LENIENT)
        return msgspec.json.decode(answer, type=_Answer)

    def _many(self, indices: str, bodies: list[dict[str, Any]]) -> list[list[Hit]]:
        header = msgspec.json.encode({"index": indices, **_LENIENT})
        lines = b"".join(b"%b\n%b\n" % (header, msgspec.json.encode(body)) for body in bodies)

        def answers() -> list[list[Hit]]:
            answer = self._connection.request("POST", "/_msearch", lines)
            found = msgspec.json.decode(answer, type=_Answers).responses
            for one in found:
                if one.error is not None:
                    message = f"a search failed in the cluster: {str(one.error)[:400]}"
                    if one.status == 429 or one.status >= 500:
                        raise Unavailable("busy" if one.status == 429 else "server_error", message)
                    raise StoreFailed(message)
            return [one.hits.hits for one in found]

        return self._connection.patiently(answers)

    def _scan(self, indices: str, query: Query, wanted: dict[str, Any]) -> Iterator[Hit]:
        params = {"ignore_unavailable": "true", "keep_alive": _KEEP_ALIVE}
        try:
            opened = msgspec.json.decode(self._connection.read("POST", f"/{indices}/_pit", params=params))
        except Rejected as error:
            if error.status == 404:
                return
            raise
        pit_id = str(opened["id"])
        after: list[Any] | None = None
        try:
            while True:
                body: dict[str, Any] = {
                    **wanted,
                    "size": self._page_records,
                    "query": query,
                    "sort": ["_shard_doc"],
                    "pit": {"id": pit_id, "keep_alive": _KEEP_ALIVE},
                    "track_total_hits": False,
                }
                if after is not None:
                    body["search_after"] = after
                raw = self._connection.read(
                    "POST", "/_search", body, params={"allow_partial_search_results": "false"}
                )
                answer = msgspec.json.decode(raw, type=_Answer)
                yield from answer.hits.hits
                if len(answer.hits.hits) < self._page_records:
                    return
                pit_id = answer.pit_id or pit_id
                after = answer.hits.hits[-1].sort
        finally:
            self._connection.read("DELETE", "/_pit", {"id": pit_id})


def _named(indices: Collection[str]) -> list[str]:
    """Indices by their names, so many at a time as a URL has room for."""
    names = sorted(indices)
    return [",".join(names[at : at + _INDICES_MAX]) for at in range(0, len(names), _INDICES_MAX)]


def translate_trace(trace_id: str) -> Query:
    """Everything of one trace."""
    return {"term": {n.TRACE_ID: {"value": trace_id}}}


def _sorted_body(query: Query, size: int, after: Place | None, order: str) -> dict[str, Any]:
    """A page in the order of `(timestamp_ns, uid)`, behind a place in it."""
    by_time = {"order": order, "format": _TIME_FORMAT, "numeric_type": "date_nanos"}
    # Nearly nothing is that late, and what is not comes before what is.
    late = {"order": order, "missing": "_last" if order == "desc" else "_first", "unmapped_type": "keyword"}
    body: dict[str, Any] = {
        "query": query,
        "size": size,
        "track_total_hits": False,
        "sort": [{n.TIMESTAMP: by_time}, {n.LATE: late}, {n.UID: {"order": order}}],
    }
    if after is not None:
        timestamp_ns, uid = after
        beyond = late_text(timestamp_ns) if timestamp_ns > NUMBER_MAX else None
        body["search_after"] = [timestamp_text(timestamp_ns), beyond, uid]
    return body
