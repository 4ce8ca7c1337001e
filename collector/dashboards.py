"""One description -> the dashboards for Kibana and Grafana in `dashboards/`.

A panel says what it shows in its own words; two writers turn it into what each program imports. The files are
generated and checked in: a test writes them anew and compares, and another runs every query in them against
a live server with the demo's records. Formats: Kibana's saved objects (NDJSON, aggregation-based
visualisations) and Grafana's dashboard model, schema version 39.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import orjson

JsonObject = dict[str, Any]

LOGS: Final = "logs-*.otel-*"
TRACES: Final = "traces-*.otel-*"
EVERYTHING: Final = f"{LOGS},{TRACES}"
TIME_FIELD: Final = "@timestamp"
TRACE_VARIABLE: Final = "trace_id"  # Grafana's variable; in Kibana one types it into the search bar
GROUPS_MAX: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One picture of records in Elasticsearch."""

    title: str
    kind: Literal["lines", "table", "records"]
    index: str
    query: str = "*"  # Lucene syntax, which both programs speak
    by: str | None = None  # field whose values are told apart
    percentile_of: str | None = None  # field; `None` counts documents
    percent: int = 95
    columns: tuple[str, ...] = ()  # of `records`
    oldest_first: bool = False
    of_one_trace: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthPanel:
    """One picture of the collector's own figures, out of Prometheus."""

    title: str
    expressions: dict[str, str] = field(hash=False)  # legend -> PromQL
    unit: str = "short"


PANELS: Final = (
    Panel(
        title="Errors by service",
        kind="lines",
        index=EVERYTHING,
        query="record_error:true",
        by="service.name",
    ),
    Panel(title="Records by service", kind="lines", index=EVERYTHING, by="service.name"),
    Panel(
        title="Slowest operations, 95 % (ns)",
        kind="table",
        index=TRACES,
        query="record_kind:span",
        by="name",
        percentile_of="duration",
    ),
    Panel(
        title="Duration by service, 95 % (ns)",
        kind="lines",
        index=TRACES,
        query="record_kind:span",
        by="service.name",
        percentile_of="duration",
    ),
    Panel(
        title="Newest errors",
        kind="records",
        index=LOGS,
        query="record_kind:log AND severity_number:>=17",
        columns=("service.name", "severity_text", "body.text", "exception.type", "trace_id"),
    ),
    Panel(
        title="One trace's logs in order",
        kind="records",
        index=LOGS,
        query="record_kind:log AND _exists_:trace_id",
        columns=("service.name", "severity_text", "body.text", "span_id"),
        oldest_first=True,
        of_one_trace=True,
    ),
)
HEALTH: Final = (
    HealthPanel(
        title="Records taken in a second",
        expressions={"{{protocol}}": "rate(backtrail_intake_records_total[1m])"},
    ),
    HealthPanel(
        title="Records that wait to be indexed", expressions={"lag": "backtrail_indexing_lag_records"}
    ),
    HealthPanel(
        title="Seconds without progress", expressions={"stalled": "backtrail_indexing_stalled_s"}, unit="s"
    ),
    HealthPanel(title="Write-ahead log", expressions={"size": "backtrail_wal_bytes"}, unit="bytes"),
    HealthPanel(
        title="Refused and lost, by reason",
        expressions={
            "refused {{reason}}": "rate(backtrail_ledger_refused_total[5m])",
            "lost {{reason}}": "rate(backtrail_ledger_lost_total[5m])",
        },
    ),
    HealthPanel(
        title="Into Elasticsearch",
        expressions={
            "bulks in flight": "backtrail_cluster_in_flight",
            "as many may be": "backtrail_cluster_in_flight_limit",
            "again: {{reason}}": "rate(backtrail_cluster_retries_total[1m])",
        },
    ),
    HealthPanel(
        title="A person must act",
        expressions={"held": "backtrail_cluster_held", "dead letters": "backtrail_cluster_dead_letters"},
    ),
)


def files() -> dict[str, bytes]:
    """What belongs into `dashboards/`, by name."""
    kibana = b"".join(orjson.dumps(one) + b"\n" for one in kibana_objects())
    pretty = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
    return {
        "kibana.ndjson": kibana,
        "grafana-records.json": orjson.dumps(grafana_records(), option=pretty),
        "grafana-collector.json": orjson.dumps(grafana_health(), option=pretty),
    }


def export(directory: Path) -> list[Path]:
    """Write the files into a directory, making it if need be; return their paths."""
    directory.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, content in files().items():
        paths.append(directory / name)
        paths[-1].write_bytes(content)
    return paths


# ---------------------------------------------------------------- Kibana


def kibana_objects() -> list[JsonObject]:
    """Data views, a search or visualisation for each panel, and the dashboard that shows them."""
    objects = [_kibana_data_view(index) for index in (EVERYTHING, LOGS, TRACES)]
    objects += [
        _kibana_search(one) if one.kind == "records" else _kibana_visualisation(one) for one in PANELS
    ]
    return [*objects, _kibana_dashboard(objects[3:])]


def _kibana_data_view(index: str) -> JsonObject:
    attributes = {"title": index, "name": f"backtrail {index}", "timeFieldName": TIME_FIELD}
    return _kibana_object("index-pattern", index, attributes, [])


def _kibana_search(panel: Panel) -> JsonObject:
    attributes = {
        "title": panel.title,
        "columns": list(panel.columns),
        "sort": [[TIME_FIELD, "asc" if panel.oldest_first else "desc"]],
        "kibanaSavedObjectMeta": _kibana_source(panel),
    }
    return _kibana_object("search", panel.title, attributes, [_kibana_index(panel)])


def _kibana_visualisation(panel: Panel) -> JsonObject:
    metric: JsonObject = {"id": "1", "enabled": True, "schema": "metric", "type": "count", "params": {}}
    if panel.percentile_of is not None:
        metric |= {
            "type": "percentiles",
            "params": {"field": panel.percentile_of, "percents": [panel.percent]},
        }
    aggregations = [metric]
    if panel.by is not None:
        order = "1" if panel.percentile_of is None else f"1.{panel.percent}"
        aggregations.append(
            {
                "id": "2",
                "enabled": True,
                "schema": "bucket" if panel.kind == "table" else "group",
                "type": "terms",
                "params": {"field": panel.by, "size": GROUPS_MAX, "order": "desc", "orderBy": order},
            }
        )
    if panel.kind == "lines":
        over_time = {"field": TIME_FIELD, "interval": "auto", "min_doc_count": 1}
        aggregations.append(
            {"id": "3", "enabled": True, "schema": "segment", "type": "date_histogram", "params": over_time}
        )
    state = {
        "title": panel.title,
        "type": "line" if panel.kind == "lines" else "table",
        "aggs": aggregations,
        "params": {"perPage": GROUPS_MAX} if panel.kind == "table" else {"type": "line", "addLegend": True},
    }
    attributes = {
        "title": panel.title,
        "visState": orjson.dumps(state).decode(),
        "uiStateJSON": "{}",
        "kibanaSavedObjectMeta": _kibana_source(panel),
    }
    return _kibana_object("visualization", panel.title, attributes, [_kibana_index(panel)])


def _kibana_dashboard(shown: list[JsonObject]) -> JsonObject:
    panels, references = [], []
    for number, one in enumerate(shown):
        name = f"panel_{number}"
        grid = {"x": number % 2 * 24, "y": number // 2 * 15, "w": 24, "h": 15, "i": str(number)}
        panels.append(
            {"type": one["type"], "gridData": grid, "panelIndex": str(number), "panelRefName": name}
        )
        references.append({"name": name, "type": one["type"], "id": one["id"]})
    attributes = {
        "title": "backtrail",
        "description": "Errors, the slowest operations, and one trace's logs: type trace_id:… above.",
        "panelsJSON": orjson.dumps(panels).decode(),
        "optionsJSON": '{"useMargins":true}',
        "timeRestore": False,
        "kibanaSavedObjectMeta": {
            "searchSourceJSON": '{"query":{"query":"","language":"lucene"},"filter":[]}'
        },
    }
    return _kibana_object("dashboard", "backtrail", attributes, references)


def _kibana_source(panel: Panel) -> JsonObject:
    source = {
        "query": {"query": panel.query, "language": "lucene"},
        "filter": [],
        "indexRefName": "kibanaSavedObjectMeta.searchSourceJSON.index",
    }
    return {"searchSourceJSON": orjson.dumps(source).decode()}


def _kibana_index(panel: Panel) -> JsonObject:
    name = "kibanaSavedObjectMeta.searchSourceJSON.index"
    return {"name": name, "type": "index-pattern", "id": _identity(panel.index)}


def _kibana_object(kind: str, title: str, attributes: JsonObject, references: list[JsonObject]) -> JsonObject:
    return {
        "type": kind,
        "id": _identity(title),
        "attributes": attributes,
        "references": references,
        "coreMigrationVersion": "8.8.0",
        "managed": False,
    }


# ---------------------------------------------------------------- Grafana


def grafana_records() -> JsonObject:
    """The panels on records, for Grafana's Elasticsearch source."""
    shown = [_grafana_panel(panel, number) for number, panel in enumerate(PANELS)]
    variables = [
        _grafana_source_variable("elasticsearch"),
        {
            "name": TRACE_VARIABLE,
            "label": "Trace",
            "type": "textbox",
            "query": "*",
            "current": {"value": "*"},
        },
    ]
    return _grafana_dashboard("backtrail-records", "backtrail: records", shown, variables)


def grafana_health() -> JsonObject:
    """The collector's own health, for Grafana's Prometheus source."""
    shown = []
    for number, panel in enumerate(HEALTH):
        targets = [
            {"refId": chr(ord("A") + at), "expr": expression, "legendFormat": legend}
            for at, (legend, expression) in enumerate(panel.expressions.items())
        ]
        shown.append(_grafana_frame(panel.title, "timeseries", number, "prometheus", targets, panel.unit))
    variables = [_grafana_source_variable("prometheus")]
    return _grafana_dashboard("backtrail-collector", "backtrail: the collector", shown, variables)


def _grafana_panel(panel: Panel, number: int) -> JsonObject:
    metric: JsonObject = {"id": "1", "type": "count"}
    if panel.percentile_of is not None:
        percents = {"percents": [str(panel.percent)]}
        metric = {"id": "1", "type": "percentiles", "field": panel.percentile_of, "settings": percents}
    buckets: list[JsonObject] = []
    if panel.kind == "records":
        order = "asc" if panel.oldest_first else "desc"
        metric = {"id": "1", "type": "logs", "settings": {"limit": "500", "sortDirection": order}}
    elif panel.by is not None:
        # Grafana names a percentile as the metric's id and the percent in brackets.
        order_by = "_count" if panel.percentile_of is None else f"1[{panel.percent}.0]"
        settings = {"size": str(GROUPS_MAX), "order": "desc", "orderBy": order_by, "min_doc_count": "1"}
        buckets.append({"id": "2", "type": "terms", "field": panel.by, "settings": settings})
    if panel.kind == "lines":
        over_time = {"interval": "auto", "min_doc_count": "0"}
        buckets.append({"id": "3", "type": "date_histogram", "field": TIME_FIELD, "settings": over_time})
    query = panel.query
    if panel.of_one_trace:
        query = f"{query} AND trace_id:${TRACE_VARIABLE}"
    target = {
        "refId": "A",
        "query": query,
        "metrics": [metric],
        "bucketAggs": buckets,
        "timeField": TIME_FIELD,
    }
    kind = {"lines": "timeseries", "table": "table", "records": "logs"}[panel.kind]
    unit = "ns" if panel.percentile_of is not None else "short"
    return _grafana_frame(panel.title, kind, number, "elasticsearch", [target], unit)


def _grafana_frame(
    title: str, kind: str, number: int, source: str, targets: list[JsonObject], unit: str
) -> JsonObject:
    datasource = {"type": source, "uid": f"${{{source}}}"}
    return {
        "id": number + 1,
        "title": title,
        "type": kind,
        "gridPos": {"x": number % 2 * 12, "y": number // 2 * 9, "w": 12, "h": 9},
        "datasource": datasource,
        "fieldConfig": {"defaults": {"unit": unit}, "overrides": []},
        "targets": [{**target, "datasource": datasource} for target in targets],
    }


def _grafana_source_variable(kind: str) -> JsonObject:
    return {"name": kind, "label": "Source", "type": "datasource", "query": kind}


def _grafana_dashboard(
    uid: str, title: str, panels: list[JsonObject], variables: list[JsonObject]
) -> JsonObject:
    return {
        "uid": uid,
        "title": title,
        "tags": ["backtrail"],
        "schemaVersion": 39,
        "time": {"from": "now-1h", "to": "now"},
        "refresh": "10s",
        "templating": {"list": variables},
        "panels": panels,
    }


def _identity(title: str) -> str:
    """A stable id out of a title: importing again replaces, and makes nothing twice."""
    words = "".join(character if character.isalnum() else "-" for character in title.lower())
    return "backtrail-" + "-".join(part for part in words.split("-") if part)
