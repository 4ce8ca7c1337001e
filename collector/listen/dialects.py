"""The HTTP dialects of other people's senders: Zipkin, Loki, Elasticsearch. Shells around the intake.

Each route knows what its clients expect in words and statuses, and nothing of web servers: the API
mounts the routes beside its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import orjson

from collector.errors import Overloaded, Refused
from collector.intake import Intake

JSON: Final = "application/json"
TEXT: Final = "text/plain; charset=utf-8"
# Official clients look for it before they send anything.
PRODUCT: Final = {"X-Elastic-Product": "Elasticsearch"}
# Shippers choose their manners by it; this one has data streams and no types.
ELASTIC_VERSION: Final = "8.14.0"


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpAnswer:
    """An answer for any web server to send."""

    status: int
    body: bytes = b""
    content_type: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpCall:
    """A request as any web server reads it."""

    headers: Mapping[str, str]  # names in lower case, or a mapping that does not care
    body: bytes
    path_parameters: Mapping[str, str] = field(default_factory=dict)


Take = Callable[[Intake, HttpCall], HttpAnswer]


@dataclass(frozen=True, slots=True, kw_only=True)
class DialectRoute:
    """One path of a dialect."""

    name: str
    methods: tuple[str, ...]
    path: str  # parameters in braces
    answer: Callable[[HttpCall], HttpAnswer]  # blocks; says what went wrong in the dialect's own words


# ---------------------------------------------------------------- Zipkin


def _zipkin(intake: Intake, call: HttpCall) -> HttpAnswer:
    """Source: zipkin-api, `POST /spans`: 202 when taken, 400 when not understood."""
    try:
        taken = intake.zipkin_spans(call.headers.get("content-encoding"), call.body)
    except Refused as error:
        return HttpAnswer(status=_status_of(error), body=str(error).encode(), content_type=TEXT)
    except Overloaded as error:
        return _come_back(503, str(error).encode(), TEXT, error)
    if taken.refused_count and not taken.stored:
        return HttpAnswer(status=400, body=taken.summary().encode(), content_type=TEXT)
    return HttpAnswer(status=202, body=taken.summary().encode(), content_type=TEXT)


# ---------------------------------------------------------------- Loki


def _loki(intake: Intake, call: HttpCall) -> HttpAnswer:
    """Source: Loki's HTTP API: 204 when taken; 429 and 5xx are sent again, other 4xx are given up."""
    headers = call.headers
    try:
        taken = intake.loki_push(headers.get("content-type"), headers.get("content-encoding"), call.body)
    except Refused as error:
        return HttpAnswer(status=_status_of(error), body=str(error).encode(), content_type=TEXT)
    except Overloaded as error:
        return _come_back(429, str(error).encode(), TEXT, error)
    if taken.refused_count:
        # the rest was taken, and Loki too answers 400 then
        return HttpAnswer(status=400, body=taken.summary().encode(), content_type=TEXT)
    return HttpAnswer(status=204)


# ---------------------------------------------------------------- Elasticsearch


def _bulk(intake: Intake, call: HttpCall) -> HttpAnswer:
    """Source: Elasticsearch 8, "Bulk API": 200 with a status for each action; 429 is sent again."""
    try:
        body = intake.elastic_bulk(
            call.headers.get("content-encoding"), call.body, index=call.path_parameters.get("index")
        )
    except Refused as error:
        status = _status_of(error)
        return _elastic(_elastic_error(status, error.reason, str(error)), status=status)
    except Overloaded as error:
        body = _elastic_error(429, "es_rejected_execution_exception", str(error))
        return _come_back(429, body, JSON, error, PRODUCT)
    return _elastic(body)


def _hello(intake: Intake, call: HttpCall) -> HttpAnswer:
    """What clients check before they trust the rest; a person finds the way from here, too."""
    return _elastic(
        orjson.dumps(
            {
                "name": "backtrail",
                "cluster_name": "backtrail",
                "cluster_uuid": "backtrail",
                "version": {
                    "number": ELASTIC_VERSION,
                    "build_flavor": "default",
                    "minimum_wire_compatibility_version": "7.17.0",
                    "minimum_index_compatibility_version": "7.0.0",
                },
                "tagline": "You Know, for Search",
                "api": "/api/v1/openapi.json",
            }
        )
    )


def _license(intake: Intake, call: HttpCall) -> HttpAnswer:
    mode = {"uid": "backtrail", "type": "basic", "mode": "basic", "status": "active"}
    return _elastic(orjson.dumps({"license": mode}))


def _xpack(intake: Intake, call: HttpCall) -> HttpAnswer:
    mode = {"uid": "backtrail", "type": "basic", "mode": "basic", "status": "active"}
    return _elastic(orjson.dumps({"license": mode, "features": {}}))


def _health(intake: Intake, call: HttpCall) -> HttpAnswer:
    return _elastic(orjson.dumps({"cluster_name": "backtrail", "status": "green", "timed_out": False}))


def _acknowledged(intake: Intake, call: HttpCall) -> HttpAnswer:
    """Templates and policies of the sender mean nothing here; it is content when they are accepted."""
    return _elastic(b'{"acknowledged":true}')


def _elastic(body: bytes, status: int = 200) -> HttpAnswer:
    return HttpAnswer(status=status, body=body, headers=PRODUCT)


def _elastic_error(status: int, kind: str, reason: str) -> bytes:
    return orjson.dumps({"error": {"type": kind, "reason": reason}, "status": status})


_STATUSES: Final = {
    "body_too_large": 413,
    "unsupported_content_type": 415,
    "unsupported_encoding": 415,
}


def _status_of(error: Refused) -> int:
    return _STATUSES.get(error.reason, 400)


def _come_back(
    status: int, body: bytes, content_type: str, error: Overloaded, headers: Mapping[str, str] | None = None
) -> HttpAnswer:
    seconds = max(1, round(error.retry_after_s))
    return HttpAnswer(
        status=status,
        body=body,
        content_type=content_type,
        headers={**(headers or {}), "Retry-After": f"{seconds}"},
    )


_READ: Final = ("GET", "HEAD")
_SETUP: Final = ("GET", "HEAD", "PUT")

_PATHS: Final[tuple[tuple[str, tuple[str, ...], str, Take], ...]] = (
    ("zipkinSpans", ("POST",), "/api/v2/spans", _zipkin),
    ("lokiPush", ("POST",), "/loki/api/v1/push", _loki),
    ("elasticBulk", ("POST", "PUT"), "/_bulk", _bulk),
    ("elasticBulkIndex", ("POST", "PUT"), "/{index}/_bulk", _bulk),
    ("elasticHello", _READ, "/", _hello),
    ("elasticLicense", _READ, "/_license", _license),
    ("elasticXpack", _READ, "/_xpack", _xpack),
    ("elasticHealth", _READ, "/_cluster/health", _health),
    ("elasticIndexTemplate", _SETUP, "/_index_template/{name}", _acknowledged),
    ("elasticComponentTemplate", _SETUP, "/_component_template/{name}", _acknowledged),
    ("elasticTemplate", _SETUP, "/_template/{name}", _acknowledged),
    ("elasticPolicy", _SETUP, "/_ilm/policy/{name}", _acknowledged),
    ("elasticPipeline", _SETUP, "/_ingest/pipeline/{name}", _acknowledged),
    ("elasticDataStream", _SETUP, "/_data_stream/{name}", _acknowledged),
)


def dialect_routes(intake: Intake) -> tuple[DialectRoute, ...]:
    """Every path of every dialect, in front of an intake."""
    return tuple(
        DialectRoute(name=name, methods=methods, path=path, answer=partial(take, intake))
        for name, methods, path, take in _PATHS
    )
