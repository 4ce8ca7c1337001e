"""The dashboards: the files are what the description says, and each query in them finds records."""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from collector.dashboards import export, files
from collector.model import ExceptionInfo
from collector.service.gauges import DESCRIPTIONS, PREFIX
from collector.store.elastic import open_store
from collector.testing.store_samples import TRACE, log, span, span_id

VERSION = "9.4.3"
DIRECTORY = Path(__file__).resolve().parents[4] / "dashboards"


def test_the_files_are_made_from_the_description(tmp_path: Path) -> None:
    """`python tests/collector/store/elastic/test_elastic_dashboards.py` writes them anew."""
    export(tmp_path)
    for name in files():
        assert (DIRECTORY / name).read_bytes() == (tmp_path / name).read_bytes(), name
    assert {path.name for path in DIRECTORY.iterdir()} == set(files())


def test_every_figure_of_the_collectors_own_dashboard_exists() -> None:
    """In the closed list of metrics."""
    dashboard = json.loads(files()["grafana-collector.json"])
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    named = {name for expression in expressions for name in re.findall(rf"{PREFIX}\w+", expression)}
    assert len(expressions) >= len(dashboard["panels"]) > 5
    assert named <= {PREFIX + name for name in DESCRIPTIONS}


def test_what_kibana_is_given_refers_to_what_it_is_given() -> None:
    """No reference into the void, no identity twice."""
    objects = kibana_objects()
    identities = [(one["type"], one["id"]) for one in objects]
    assert len(set(identities)) == len(identities)
    references = {(one["type"], one["id"]) for item in objects for one in item["references"]}
    assert references <= set(identities)
    (dashboard,) = (one for one in objects if one["type"] == "dashboard")
    assert len(json.loads(dashboard["attributes"]["panelsJSON"])) == len(dashboard["references"])


def kibana_objects() -> list[dict[str, Any]]:
    return [json.loads(line) for line in files()["kibana.ndjson"].splitlines()]


# ---------------------------------------------------------------- on a live server

Ask = Callable[[str, dict[str, Any]], dict[str, Any]]


@pytest.fixture(scope="module")
def ask(elasticsearch: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ask]:
    """Searches a server that holds the records of a small shop, some of them errors."""
    url, dataset = elasticsearch(VERSION), f"dash{uuid4().hex}"
    store = open_store(url, tmp_path_factory.mktemp("dash"), dataset=dataset, namespace="shop", replicas=0)
    error = {"level": "ERROR", "exception": ExceptionInfo(type="CardError", message="declined")}
    store.append(
        [
            span(1, service="gateway"),
            span(2, service="pay", parent_span_id=span_id(1), error=True),
            log(3, trace_id=TRACE, span_id=span_id(1)),
            log(4, trace_id=TRACE, span_id=span_id(2), service="pay", **error),
        ]
    )
    store.commit()

    def search(index: str, body: dict[str, Any]) -> dict[str, Any]:
        ours = ",".join(part.replace("*.otel", f"{dataset}.otel") for part in index.split(","))
        request = urllib.request.Request(f"{url}/{ours}/_search", json.dumps(body).encode(), method="POST")
        request.add_header("Content-Type", "application/json")
        with urllib.request.urlopen(request, timeout=60) as answer:
            found: dict[str, Any] = json.load(answer)
            return found

    yield search
    store.close()


def kibana_queries() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Title, data view and search of everything that Kibana draws."""
    objects = {(one["type"], one["id"]): one for one in kibana_objects()}
    for one in objects.values():
        if one["type"] not in ("search", "visualization"):
            continue
        attributes = one["attributes"]
        source = json.loads(attributes["kibanaSavedObjectMeta"]["searchSourceJSON"])
        (reference,) = one["references"]
        index = objects[reference["type"], reference["id"]]["attributes"]["title"]
        body: dict[str, Any] = {"query": {"query_string": {"query": source["query"]["query"]}}}
        if one["type"] == "search":
            body |= {"sort": [{name: order} for name, order in attributes["sort"]], "_source": False}
            body["fields"] = attributes["columns"]
        else:
            metric, *buckets = json.loads(attributes["visState"])["aggs"]
            body |= {"size": 0, "aggs": nested(metric, buckets)}
        yield f"Kibana: {attributes['title']}", index, body


def nested(metric: dict[str, Any], buckets: list[dict[str, Any]]) -> dict[str, Any]:
    """Kibana's list of aggregations as Elasticsearch's tree."""
    aggregations = {} if metric["type"] == "count" else {"1": {metric["type"]: metric["params"]}}
    for bucket in reversed(buckets):
        given = dict(bucket["params"])
        if bucket["type"] == "terms":
            by = given.pop("orderBy")
            given["order"] = {"_count" if metric["type"] == "count" else by: given.pop("order")}
        else:
            given = {"field": given["field"], "fixed_interval": "1s", "min_doc_count": 1}
        aggregations = {bucket["id"]: {bucket["type"]: given, "aggs": {**aggregations}}}
        if bucket["type"] == "terms" and metric["type"] != "count":
            aggregations[bucket["id"]]["aggs"]["1"] = {metric["type"]: metric["params"]}
    return aggregations


def grafana_queries() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Likewise for Grafana, whose source has one pattern for all."""
    dashboard = json.loads(files()["grafana-records.json"])
    for panel in dashboard["panels"]:
        (target,) = panel["targets"]
        query = target["query"].replace("$trace_id", TRACE)
        body: dict[str, Any] = {"query": {"query_string": {"query": query}}}
        (metric,) = target["metrics"]
        if metric["type"] == "logs":
            order = metric["settings"]["sortDirection"]
            body |= {"sort": [{target["timeField"]: order}], "fields": ["body.text"]}
        else:
            count = metric["type"] == "count"
            inner = {} if count else {"1": {metric["type"]: {"field": metric["field"]}}}
            for bucket in reversed(target["bucketAggs"]):
                given: dict[str, Any] = {"field": bucket["field"]}
                if bucket["type"] == "date_histogram":
                    given["fixed_interval"] = "1s"
                inner = {bucket["id"]: {bucket["type"]: given, "aggs": inner}}
            body |= {"size": 0, "aggs": inner}
        yield f"Grafana: {panel['title']}", "logs-*.otel-*,traces-*.otel-*", body


QUERIES = [*kibana_queries(), *grafana_queries()]


@pytest.mark.parametrize(("index", "body"), [query[1:] for query in QUERIES], ids=[one[0] for one in QUERIES])
def test_every_query_of_the_dashboards_finds_records(ask: Ask, index: str, body: dict[str, Any]) -> None:
    """And every field that it counts by or shows has values."""
    has_data(ask(index, body), body)


def has_data(answer: dict[str, Any], body: dict[str, Any]) -> None:
    """Records were found, each group has a name and some of them, each percentile is one of something."""
    assert answer["hits"]["total"]["value"] > 0
    for name in body.get("fields", []):
        assert any(name in hit["fields"] for hit in answer["hits"]["hits"]), name
    for aggregation in answer.get("aggregations", {}).values():
        buckets = aggregation["buckets"]
        assert sum(bucket["doc_count"] for bucket in buckets) > 0
        for bucket in buckets:
            assert bucket["key"] not in ("", None)
            if "1" in bucket:
                assert all(value > 0 for value in bucket["1"]["values"].values())


def test_the_logs_of_a_trace_come_in_order(ask: Ask) -> None:
    """In both programs, the earliest first."""
    for title, index, body in QUERIES:
        if "One trace" in title:
            times = [hit["sort"][0] for hit in ask(index, body)["hits"]["hits"]]
            assert times == sorted(times)
            assert len(times) == 2


if __name__ == "__main__":
    export(DIRECTORY)
