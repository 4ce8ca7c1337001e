"""What is set up in the cluster: planned, made, checked. Planning is pure once the cluster has been asked.

`plan` says what would be made or changed, `apply` does it and may be repeated, `check` holds the running
streams, their mapping and their lifecycle, against what we would make.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final, Literal

import msgspec

from collector.store.elastic import names as n
from collector.store.elastic.connection import Connection, Forbidden, Rejected
from collector.store.elastic.documents import timestamp_text
from collector.store.elastic.mapping import (
    TEMPLATE_VERSION,
    component_template,
    index_template,
    lifecycle,
)
from collector.store.elastic.names import Names
from collector.store.elastic.options import ElasticOptions
from collector.store.elastic.server import Server

Body = dict[str, Any]

_DAY_NS: Final = 86_400 * 10**9
# Rollover and retention go by whole days and indices, and every ten minutes: what is this late is not coming.
LATE_DAYS: Final = 2


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is to be made or changed, or is right already."""

    action: Literal["create", "change", "keep", "leave"]  # leave: a newer collector made it
    what: str  # `index template logs-backtrail.otel@backtrail`
    path: str
    body: dict[str, Any]
    method: Literal["PUT", "POST"] = "PUT"
    differences: list[str] = []  # `settings.index.refresh_interval: '1s' -> '10s'`


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """Something about a running stream that is not as we would make it."""

    stream: str
    message: str
    harmful: bool  # answers may be wrong; else it is a matter of cost or taste


def plan(connection: Connection, names: Names, options: ElasticOptions, server: Server) -> list[Step]:
    """What `apply` would do, in its order, nothing of a user's among it.

    Raises:
        Unavailable, Forbidden: see `Connection.request`.
    """
    steps = []
    for stream in names.streams:
        name = names.template_of(stream)
        component = component_template(stream, names, options, server)
        steps.append(_step(connection, "component", name, component))
        steps.append(_step(connection, "index", name, index_template(stream, names)))
    steps += [step for stream in names.streams for step in _rollover_step(connection, stream)]
    if server.has_lifecycle:
        steps += [
            step for stream in names.streams for step in _retention_step(connection, stream, names, options)
        ]
    return steps


def apply(connection: Connection, steps: list[Step]) -> int:
    """Make and change what the steps say; return how many had to be."""
    done = 0
    for step in steps:
        if step.action in ("create", "change"):
            connection.read(step.method, step.path, step.body)
            done += 1
    return done


def check(connection: Connection, names: Names, options: ElasticOptions, server: Server) -> list[Finding]:
    """Hold every running stream's newest index against our template; empty: all is well."""
    findings = []
    for stream in names.streams:
        index, running = _newest_index(connection, stream)
        if running is None:
            continue
        wanted = component_template(stream, names, options, server)["template"]
        has = dict(_leaves(running["mappings"]))
        for path, value in _leaves(wanted["mappings"]["properties"], "properties"):
            if value == "object":
                continue  # which a mapping does not say of what has fields
            if path.endswith((".type", ".analyzer")) and has.get(path) != value:
                message = f"{index}: mapping {path} is {has.get(path)!r}, wanted {value!r}"
                findings.append(Finding(stream=stream, message=message, harmful=True))
        version = _version_of(running)
        if version != TEMPLATE_VERSION:
            message = f"{index}: made by template version {version}, now {TEMPLATE_VERSION}; apply"
            findings.append(Finding(stream=stream, message=message, harmful=False))
        mode = running["settings"]["index"].get("mode", "standard")
        if server.has_logsdb and mode != "logsdb":
            message = f"{index}: mode {mode}, logsdb would take half the disk; roll it over"
            findings.append(Finding(stream=stream, message=message, harmful=False))
        late = (
            _late_for_server(connection, stream, names, options)
            if server.has_lifecycle
            else (_late_for_collector(connection, stream, index, running, options))
        )
        findings += [Finding(stream=stream, message=message, harmful=False) for message in late]
    return findings


def _late_for_server(
    connection: Connection, stream: str, names: Names, options: ElasticOptions
) -> Iterator[str]:
    """What the server's own lifecycle of a stream says otherwise than we would."""
    for step in _retention_step(connection, stream, names, options):
        yield from (f"{step.what}: {difference}" for difference in step.differences)


def _late_for_collector(
    connection: Connection, stream: str, index: str, running: Body, options: ElasticOptions
) -> Iterator[str]:
    """Where the server looks after no lifecycle: what a running collector should have done by now."""
    advice = "the server does not, so a collector has to run with these settings and an operator's privileges"
    made_ns = int(running["settings"]["index"]["creation_date"]) * 10**6
    age_s = (time.time_ns() - made_ns) / 1e9
    if age_s > options.rollover_age_s * LATE_DAYS and _count(connection, index, {"match_all": {}}):
        yield f"{index}: not rolled over for {age_s / 86_400:.1f} days; {advice}"
    if options.retention_days is not None:
        expired_ns = time.time_ns() - round((options.retention_days + LATE_DAYS) * _DAY_NS)
        count = _count(connection, stream, {"range": {n.OBSERVED: {"lt": timestamp_text(expired_ns)}}})
        if count:
            yield f"{stream}: {count} records are older than {options.retention_days:g} days; {advice}"


def _count(connection: Connection, target: str, query: Body) -> int:
    answer = connection.ask("POST", f"/{target}/_count", {"query": query})
    return int(answer["count"])


def _rollover_step(connection: Connection, stream: str) -> Iterator[Step]:
    """A template is for indices that are made later: a stream with an older one's begins the next.

    What is in the older index stays, and is read as before.
    """
    index, running = _newest_index(connection, stream)
    version = _version_of(running)
    if version is not None and version < TEMPLATE_VERSION:
        change = f"{index} was made by template version {version} -> {TEMPLATE_VERSION}: a new index begins"
        yield Step(
            action="change",
            what=f"index of {stream}",
            path=f"/{stream}/_rollover",
            body={},
            method="POST",
            differences=[change],
        )


def _version_of(running: Body | None) -> int | None:
    """The template version that an index was made by; `None` when it does not say."""
    version = None if running is None else running["mappings"].get("_meta", {}).get("version")
    return version if isinstance(version, int) else None


def _retention_step(
    connection: Connection, stream: str, names: Names, options: ElasticOptions
) -> Iterator[Step]:
    """A template's lifecycle is for streams that are made later; one that runs has to be told.

    Nothing is said of a stream for which the settings name no retention, or the user's component does.
    """
    custom = _existing(connection, "component", f"/_component_template/{names.custom_of(stream)}") or {}
    wanted = lifecycle(options)
    if "data_retention" not in wanted or "lifecycle" in custom.get("template", {}):
        return
    path = f"/_data_stream/{stream}/_lifecycle"
    try:
        found = connection.ask("GET", path)["data_streams"]
    except Rejected as error:
        if error.status == 404:
            return
        raise
    differences = [line for one in found for line in _differences(wanted, one.get("lifecycle", {}))]
    action: Literal["change", "keep"] = "change" if differences else "keep"
    yield Step(action=action, what=f"lifecycle of {stream}", path=path, body=wanted, differences=differences)


def _step(connection: Connection, kind: Literal["component", "index"], name: str, wanted: Body) -> Step:
    what, path = f"{kind} template {name}", f"/_{kind}_template/{name}"
    existing = _existing(connection, kind, path)
    if existing is None:
        return Step(action="create", what=what, path=path, body=wanted)
    if existing.get("version", 0) > wanted["version"]:
        return Step(action="leave", what=what, path=path, body=wanted)
    differences = list(_differences(wanted, existing))
    return Step(
        action="change" if differences else "keep", what=what, path=path, body=wanted, differences=differences
    )


def _existing(connection: Connection, kind: str, path: str) -> Body | None:
    try:
        found = connection.ask("GET", path)[f"{kind}_templates"]
    except Rejected as error:
        if error.status == 404:
            return None
        raise
    template: Body = found[0][f"{kind}_template"]
    return template


def _newest_index(connection: Connection, stream: str) -> tuple[str, dict[str, Any] | None]:
    try:
        found = connection.ask("GET", f"/{stream}", params={"features": "mappings,settings"})
    except Rejected as error:
        if error.status == 404:
            return "", None
        raise
    name = max(found)
    return name, found[name]


def _differences(wanted: Mapping[str, Any], existing: Mapping[str, Any]) -> Iterator[str]:
    """Leaves of ours that stand otherwise in the cluster, which writes numbers and booleans as text."""
    there = dict(_leaves(existing))
    for path, value in _leaves(wanted):
        if _text(there.get(path)) != _text(value):
            yield f"{path}: {there.get(path)!r} -> {value!r}"


def _leaves(tree: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        here = f"{path}.{key}" if path else key
        if isinstance(value, Mapping):
            yield from _leaves(value, here)  # an empty one says: as the server likes
        else:
            yield here, value


def _text(value: Any) -> str:
    if isinstance(value, list | dict):
        return msgspec.json.encode(value, order="sorted").decode()
    return str(value).lower()


def attribute_keys(connection: Connection, names: Names) -> set[str]:
    """Attributes that have a field of their own in one of the streams' newest indices."""
    keys: set[str] = set()
    for stream in names.streams:
        _, running = _newest_index(connection, stream)
        fields = {} if running is None else running["mappings"].get("properties", {})
        for root in (fields, fields.get("resource", {}).get("properties", {})):
            keys.update(_keys(root.get("attributes", {}).get("properties", {})))
    return keys


def size_of(connection: Connection, indices: Collection[str]) -> int:
    """The bytes of some indices, every copy included; 0 where our credentials may not ask."""
    if not indices:
        return 0
    params = {"filter_path": "_all.total.store.size_in_bytes"}
    try:
        answer = connection.ask("GET", f"/{','.join(indices)}/_stats/store", params=params)
    except (Forbidden, Rejected):  # of an index that has just been deleted, for instance
        return 0
    return int(answer.get("_all", {}).get("total", {}).get("store", {}).get("size_in_bytes", 0))


def _keys(properties: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for name, field in properties.items():
        if "properties" in field:
            yield from _keys(field["properties"], f"{prefix}{name}.")
        else:
            yield prefix + name
