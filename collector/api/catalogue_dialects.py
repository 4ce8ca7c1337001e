"""What the API offers to other people's senders; a part of `catalogue`. Their protocols say what it means."""

from __future__ import annotations

from typing import Final

from collector.api.operations import Dialect
from collector.api.parameters import Parameter

_JSON: Final = "application/json"
_NDJSON: Final = "application/x-ndjson"
_TEXT: Final = "text/plain"
_READ: Final = ("GET", "HEAD")
_SETUP: Final = ("GET", "HEAD", "PUT")

_NAME: Final = Parameter(name="name", kind="text", description="as the sender calls it", place="path")
_INDEX: Final = Parameter(
    name="index", kind="text", description="for actions that name none", example="logs-app", place="path"
)

_BULK_ANSWERS: Final[dict[int, tuple[str, str | None]]] = {
    200: ("a status for each action, in their order; what it calls created is durable", _JSON),
    400: ("not a bulk request", _JSON),
    413: ("the unpacked body is too long", _JSON),
    415: ("the body is packed in a way that is not read here", _JSON),
    429: ("no room at the moment; come back after `Retry-After`", _JSON),
}


def _handshake(name: str, path: str, summary: str) -> Dialect:
    return Dialect(
        name=name, methods=_READ, path=path, summary=summary, answers={200: ("as expected", _JSON)}
    )


def _setup(name: str, path: str, what: str) -> Dialect:
    return Dialect(
        name=name,
        methods=_SETUP,
        path=path,
        summary=f"Elasticsearch: acknowledge {what}, which means nothing here",
        answers={200: ("acknowledged", _JSON)},
        parameters=(_NAME,),
    )


DIALECTS: Final[tuple[Dialect, ...]] = (
    Dialect(
        name="zipkinSpans",
        methods=("POST",),
        path="/api/v2/spans",
        summary="Zipkin: take spans in (v2, JSON)",
        content_types=(_JSON,),
        answers={
            202: ("taken, and durable; the text counts what was refused", _TEXT),
            400: ("not understood, or nothing of it could be taken", _TEXT),
            413: ("the unpacked body is too long", _TEXT),
            415: ("the body is packed in a way that is not read here", _TEXT),
            503: ("no room at the moment; come back after `Retry-After`", _TEXT),
        },
    ),
    Dialect(
        name="lokiPush",
        methods=("POST",),
        path="/loki/api/v1/push",
        summary="Loki: take log lines in (push API, JSON or snappy protobuf)",
        content_types=(_JSON, "application/x-protobuf"),
        answers={
            204: ("taken, and durable", None),
            400: ("not understood, or some of it could not be taken: the rest was", _TEXT),
            413: ("the unpacked body is too long", _TEXT),
            415: ("the body has a type or is packed in a way that is not read here", _TEXT),
            429: ("no room at the moment; come back after `Retry-After`", _TEXT),
        },
    ),
    Dialect(
        name="elasticBulk",
        methods=("POST", "PUT"),
        path="/_bulk",
        summary="Elasticsearch: take documents in (`create` and `index`)",
        content_types=(_NDJSON, _JSON),
        answers=_BULK_ANSWERS,
    ),
    Dialect(
        name="elasticBulkIndex",
        methods=("POST", "PUT"),
        path="/{index}/_bulk",
        summary="Elasticsearch: take documents of one index in",
        content_types=(_NDJSON, _JSON),
        answers=_BULK_ANSWERS,
        parameters=(_INDEX,),
    ),
    _handshake("elasticHello", "/", "Elasticsearch: what its clients look at first"),
    _handshake("elasticLicense", "/_license", "Elasticsearch: the licence that its clients ask for"),
    _handshake("elasticXpack", "/_xpack", "Elasticsearch: the features that its shippers ask for"),
    _handshake("elasticHealth", "/_cluster/health", "Elasticsearch: health as its clients ask for it"),
    _setup("elasticIndexTemplate", "/_index_template/{name}", "a template"),
    _setup("elasticComponentTemplate", "/_component_template/{name}", "a part of a template"),
    _setup("elasticTemplate", "/_template/{name}", "a template of the old kind"),
    _setup("elasticPolicy", "/_ilm/policy/{name}", "a policy"),
    _setup("elasticPipeline", "/_ingest/pipeline/{name}", "a pipeline"),
    _setup("elasticDataStream", "/_data_stream/{name}", "a data stream"),
)
