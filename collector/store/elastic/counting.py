"""Counts by service, operation, call and value, taken from the cluster's columns; exact, however many.

A document with a text too long for its column is left to the reader, who looks at the record itself.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

from collector.model import Record
from collector.store.conditions import field_values, text_of
from collector.store.contract import Edge
from collector.store.elastic import names as n
from collector.store.elastic.names import Names
from collector.store.elastic.reading import Hit, Plan, Reader
from collector.store.elastic.translate import (
    NUMBER_FIELDS,
    TEXT_FIELDS,
    Query,
    all_of,
    any_of,
    none_of,
)
from collector.store.embedded.terms import LONG, key_prefix, number_order, regex_literal
from collector.store.summaries import Tally, caller_of, edges_from, tally_records
from collector.store.timeline import tally_by_step

_TallyKey = tuple[str, str | None]
_VALUES_MAX: Final = 10_000  # that one terms aggregation gives
_IDS_MAX: Final = 10_000  # below index.max_terms_count
_CALL_COLUMNS: Final = (n.TRACE_ID, n.SPAN_ID, n.PARENT_SPAN_ID, n.SERVICE_NAME, n.ERROR)


def tallies(reader: Reader, plan: Plan) -> dict[_TallyKey, Tally]:
    """Counts by `(service, span name)`, as `summaries.tally_records` makes them of records."""
    long = _beyond(n.SERVICE_NAME, n.NAME)
    sources: list[dict[str, Any]] = [
        _source("service", n.SERVICE_NAME),
        _source("kind", n.KIND),
        _source("name", n.NAME, optional=True),
        _source("error", n.ERROR, optional=True),
        _source("bucket", n.BUCKET, optional=True),
    ]
    found: dict[_TallyKey, Tally] = defaultdict(Tally)
    certain = all_of([plan.certain, none_of(long)])
    for group in reader.groups(plan.indices, certain, sources):
        key, count = group["key"], group["doc_count"]
        if key["kind"] not in ("log", "span"):
            continue
        is_span = key["kind"] == "span"
        tally = found[key["service"], (key["name"] or "") if is_span else None]
        if is_span:
            tally.spans += count
            tally.durations[int(key["bucket"])] += count
        else:
            tally.logs += count
        if key["error"]:
            tally.errors += count
    for each, tally in tally_records(_looked_at(reader, plan, long)).items():
        _add(found[each], tally)
    return found


def tallies_by_step(reader: Reader, plan: Plan, step_ns: int) -> dict[int, Tally]:
    """Counts by the beginning of a step, as `timeline.tally_by_step` makes them of records."""
    interval = {"field": n.TIMESTAMP, "fixed_interval": f"{step_ns // 1_000_000_000}s"}
    # The time must not come first: with a range in the query 9.4.3 then finds nothing in `date_nanos`.
    sources: list[dict[str, Any]] = [
        _source("kind", n.KIND),
        {"step": {"date_histogram": interval}},
        _source("error", n.ERROR, optional=True),
        _source("bucket", n.BUCKET, optional=True),
    ]
    found: dict[int, Tally] = defaultdict(Tally)
    for group in reader.groups(plan.indices, plan.certain, sources):
        key, count = group["key"], group["doc_count"]
        if key["kind"] not in ("log", "span"):
            continue
        tally = found[key["step"] * 1_000_000]
        if key["kind"] == "span":
            tally.spans += count
            tally.durations[int(key["bucket"])] += count
        else:
            tally.logs += count
        if key["error"]:
            tally.errors += count
    for each, tally in tally_by_step(reader.doubtful_matches(plan), step_ns).items():
        _add(found[each], tally)
    return found


def facet_counts(reader: Reader, plan: Plan, field: str) -> Counter[str]:
    """How many records have each value of a field."""
    if field in TEXT_FIELDS:
        column = TEXT_FIELDS[field]
        return _column_counts(reader, plan, field, [column], _beyond(column))
    if field in NUMBER_FIELDS:
        column = NUMBER_FIELDS[field]
        return _column_counts(reader, plan, field, [column], _beyond(column))
    return _attribute_counts(reader, plan, field)


def _attribute_counts(reader: Reader, plan: Plan, field: str) -> Counter[str]:
    """An attribute's own column has the values that fitted its type; records with others are looked at."""
    if field.startswith("resource."):
        places = [("resource", field.removeprefix("resource."))]
    elif field.startswith("attributes."):
        places = [("attribute", field.removeprefix("attributes."))]
    else:
        places = [("attribute", field), ("resource", field)]
    columns = {
        "attribute": (n.ATTRIBUTES, n.ATTRIBUTE_TERM),
        "resource": (n.RESOURCE_ATTRIBUTES, n.RESOURCE_TERM),
    }
    paths, missed, having = [], [], []
    for where, key in places:
        root, letter = columns[where]
        path = f"{root}.{key}"
        has: Query = {"prefix": {n.TERMS: {"value": letter + key_prefix(key)[1:]}}}
        paths.append(path)
        having.append(has)
        missed.append(all_of([has, _beyond(root)]))  # not all attributes of the document are fields
        missed.append({"term": {"_ignored": {"value": path}}})  # a value that does not fit the field's type
        missed += _unlike_their_column(letter + key_prefix(key)[1:])
    if len(having) > 1:
        missed.append(all_of(having))  # in both places at once: counts once
    return _column_counts(reader, plan, field, paths, any_of(missed))


def _unlike_their_column(prefix: str) -> list[Query]:
    """Values that a column holds in another form or not at all: floats, large numbers, long texts."""
    largest, smallest = (number_order(sign * 2**53) for sign in (1, -1))
    return [
        {"regexp": {n.TERMS: {"value": f"{regex_literal(prefix)}n[0-9a-f]{{16}}f.*", "flags": "NONE"}}},
        {"range": {n.TERMS: {"gte": f"{prefix}n{largest}", "lt": f"{prefix}o"}}},
        {"range": {n.TERMS: {"gte": f"{prefix}n", "lt": f"{prefix}n{smallest}~"}}},
        {"prefix": {n.TERMS: {"value": f"{prefix}{LONG}"}}},
    ]


def _column_counts(
    reader: Reader, plan: Plan, field: str, columns: list[str], look_at: Query | None
) -> Counter[str]:
    certain = plan.certain if look_at is None else all_of([plan.certain, none_of(look_at)])
    counts = _values_of_records(_looked_at(reader, plan, look_at), field)
    for column in columns:
        # An attribute may have one type in one index and another in the next; together they count wrongly.
        where = reader.columns(plan.indices, column)
        for indices in where.by_type:
            counts.update(_values_of_column(reader, indices, certain, column))
        having = all_of([certain, {"exists": {"field": column}}])
        for indices in where.without:
            counts.update(_values_of_records(reader.scan(indices, having), field))
    return counts


def _values_of_records(records: Iterable[Record], field: str) -> Counter[str]:
    counts: Counter[str] = Counter()
    for record in records:
        counts.update({text_of(value) for value in field_values(record, field)})
    return counts


def _values_of_column(reader: Reader, indices: str, query: Query, column: str) -> Counter[str]:
    terms = {"values": {"terms": {"field": column, "size": _VALUES_MAX}}}
    answer = reader.aggregate(indices, query, terms).get("values", {})
    if answer.get("sum_other_doc_count") or answer.get("doc_count_error_upper_bound"):
        groups = reader.groups(indices, query, [_source("value", column)])
        return Counter({_text_of_key(group["key"]["value"]): group["doc_count"] for group in groups})
    return Counter(
        {
            bucket.get("key_as_string") or _text_of_key(bucket["key"]): bucket["doc_count"]
            for bucket in answer.get("buckets", [])
        }
    )


def _text_of_key(key: Any) -> str:
    """A column's value as a person types it; of a column of floats only the integers are asked."""
    return str(int(key)) if isinstance(key, float) else text_of(key)


def edges(reader: Reader, names: Names, plan: Plan) -> list[Edge]:
    """Who called whom: every span of the plan that names a parent, joined with the spans that have its id."""
    owners: dict[tuple[str | None, str | None], set[str]] = defaultdict(set)
    calls: list[_Call] = []
    for call in _calls(reader, names, plan):
        owners[call.trace_id, call.span_id].add(call.service)
        if call.parent_span_id is not None:
            calls.append(call)
    wanted = {call.parent_span_id for call in calls if (call.trace_id, call.parent_span_id) not in owners}
    for hit in _spans_with_ids(reader, names, wanted):
        owners[hit.value(n.TRACE_ID), hit.value(n.SPAN_ID)].add(hit.value(n.SERVICE_NAME))
    totals: dict[tuple[str, str], tuple[int, int]] = defaultdict(lambda: (0, 0))
    for call in calls:
        caller = caller_of(call.service, owners.get((call.trace_id, call.parent_span_id), ()))
        if caller is not None:
            total, errors = totals[caller, call.service]
            totals[caller, call.service] = total + 1, errors + call.failed
    return edges_from(totals)


class _Call(NamedTuple):
    trace_id: str | None
    span_id: str | None
    parent_span_id: str | None
    service: str
    failed: bool


def _calls(reader: Reader, names: Names, plan: Plan) -> Iterator[_Call]:
    for hit in reader.scan_columns(names.spans, plan.certain, _CALL_COLUMNS):
        yield _Call(
            hit.value(n.TRACE_ID),
            hit.value(n.SPAN_ID),
            hit.value(n.PARENT_SPAN_ID),
            hit.value(n.SERVICE_NAME),
            bool(hit.value(n.ERROR)),
        )
    for record in reader.doubtful_matches(plan):
        if record.kind == "span":
            yield _Call(
                record.trace_id, record.span_id, record.parent_span_id, record.service, record.is_error
            )


def _spans_with_ids(reader: Reader, names: Names, span_ids: Iterable[str | None]) -> Iterator[Hit]:
    ids = sorted(filter(None, span_ids))
    for at in range(0, len(ids), _IDS_MAX):
        query: Query = {"terms": {n.SPAN_ID: ids[at : at + _IDS_MAX]}}
        yield from reader.scan_columns(f"{names.spans},{names.notes}", query, _CALL_COLUMNS)


def _looked_at(reader: Reader, plan: Plan, look_at: Query | None) -> Iterator[Record]:
    """The matching records that the columns cannot count."""
    yield from reader.doubtful_matches(plan)
    if look_at is not None:
        yield from reader.scan(plan.indices, all_of([plan.certain, look_at]))


def _beyond(*columns: str) -> Query:
    return {"terms": {n.TERMS: [n.BEYOND_TERM + column for column in columns]}}


def _source(name: str, column: str, *, optional: bool = False) -> dict[str, Any]:
    return {name: {"terms": {"field": column, **({"missing_bucket": True} if optional else {})}}}


def _add(into: Tally, more: Tally) -> None:
    into.spans += more.spans
    into.logs += more.logs
    into.errors += more.errors
    into.operations |= more.operations
    into.durations.update(more.durations)
