"""The index templates of our streams, complete, for whichever server it is. Pure.

They have a name, a pattern and a priority of their own, so that they replace no template of Elastic's
and none of a user's. What a user wants different goes into the component template `…@custom`, which is
applied over ours when it exists.
"""

from __future__ import annotations

from typing import Any, Final

from collector.store.elastic import names as n
from collector.store.elastic.names import Names
from collector.store.elastic.options import ElasticOptions
from collector.store.elastic.server import Server

TEMPLATE_VERSION: Final = 2  # rises with every change below; `admin.plan` then begins new indices
PRIORITY: Final = 600  # Elastic's own are between 100 and 250
OWN_FIELDS_MAX: Final = 100  # of the mapping below, rounded up; objects count too
IGNORE_ABOVE: Final = 1_024  # twice `documents.TEXT_CHARS_MAX`
TOKEN_CHARS_MAX: Final = 256  # `conditions.TOKEN_CHARS_MAX`

_META: Final = {
    "managed_by": "backtrail",
    "description": "Records of backtrail. What you want different goes into the @custom component.",
}
_KEYWORD: Final = {"type": "keyword", "ignore_above": IGNORE_ABOVE}
_NUMBER: Final = {"type": "long", "ignore_malformed": True}
# A field has an index where one looks for it in all that is kept, and a column where it is sorted by,
# counted, or asked of records that something else has found. A column alone answers searches too, by reading
# all of it.
_COLUMN: Final = {"index": False}
_INDEX: Final = {"doc_values": False}
_ATTRIBUTE_PATHS: Final = ["attributes.*", "resource.attributes.*"]


def component_template(stream: str, names: Names, options: ElasticOptions, server: Server) -> dict[str, Any]:
    """Settings, mappings and lifecycle of one stream, as `PUT _component_template/…` takes them.

    They are a component, and not in the index template itself, because a user's component goes over another
    component, and under the index template.
    """
    template: dict[str, Any] = {
        "settings": {"index": _settings(options, server)},
        "mappings": _mappings(stream, names, server),
    }
    if server.has_lifecycle:
        template["lifecycle"] = lifecycle(options)
    return {"version": TEMPLATE_VERSION, "_meta": _META, "template": template}


def lifecycle(options: ElasticOptions) -> dict[str, Any]:
    """What the server's own lifecycle of a stream is told, as `PUT _data_stream/…/_lifecycle` takes it."""
    told: dict[str, Any] = {"enabled": True}
    if options.retention_days is not None:
        told["data_retention"] = f"{max(1, round(options.retention_days * 24))}h"
    return told


def index_template(stream: str, names: Names) -> dict[str, Any]:
    """The template of one stream, as `PUT _index_template/…` takes it."""
    custom = names.custom_of(stream)
    return {
        "index_patterns": [names.pattern_of(stream)],
        "priority": PRIORITY,
        "version": TEMPLATE_VERSION,
        "_meta": _META,
        "data_stream": {},
        "composed_of": [names.template_of(stream), custom],
        "ignore_missing_component_templates": [custom],
    }


def _settings(options: ElasticOptions, server: Server) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "number_of_shards": options.shards,
        # The store refreshes when it commits; this is for what a killed collector left behind.
        "refresh_interval": "10s",
        "mapping": {
            "total_fields": {
                "limit": OWN_FIELDS_MAX + options.fields_max,
                "ignore_dynamic_beyond_limit": True,
            },
        },
        "analysis": {
            "tokenizer": {
                # For ASCII what `conditions.tokens` says; other letters only so that Kibana finds them.
                "backtrail_text": {"type": "simple_pattern", "pattern": "([a-zA-Z0-9_]|[^\u0000-\u007f])+"},
                "backtrail_words": {"type": "whitespace", "max_token_length": 2 * TOKEN_CHARS_MAX},
            },
            "filter": {"backtrail_cut": {"type": "truncate", "length": TOKEN_CHARS_MAX}},
            "analyzer": {
                "backtrail_text": {
                    "type": "custom",
                    "tokenizer": "backtrail_text",
                    "filter": ["lowercase", "backtrail_cut"],
                },
                "backtrail_words": {"type": "custom", "tokenizer": "backtrail_words"},
            },
        },
    }
    if options.replicas is not None:
        settings["number_of_replicas"] = options.replicas
    if server.has_logsdb:
        settings["mode"] = "logsdb"
        # As searches answer, so that they end early; and the records of a trace lie, and compress, together.
        settings["sort"] = {"field": [n.TIMESTAMP], "order": ["desc"]}
        # A source put together from columns would lose the order inside lists and the kind of a number.
        settings["mapping"]["source"] = {"mode": "stored"}
    else:
        settings["codec"] = "best_compression"
    return settings


def _mappings(stream: str, names: Names, server: Server) -> dict[str, Any]:
    fields: dict[str, Any] = {
        n.TIMESTAMP: {"type": "date_nanos", "ignore_malformed": False},
        n.OBSERVED: {"type": "date_nanos", **_COLUMN},
        n.TRACE_ID: _KEYWORD,
        # Spans are joined by the column; of logs it would be a tenth of the disk for nothing.
        n.SPAN_ID: {**_KEYWORD, **_INDEX} if stream == names.logs else _KEYWORD,
        n.PARENT_SPAN_ID: {**_KEYWORD, **_COLUMN},
        n.SEVERITY_TEXT: _KEYWORD,
        n.SEVERITY_NUMBER: {**_NUMBER, **_COLUMN},
        n.NAME: _KEYWORD,
        n.SPAN_KIND: _KEYWORD,
        n.DURATION: _NUMBER,
        n.UID: {**_KEYWORD, **_COLUMN},  # looked up as `_id`
        n.KIND: _KEYWORD,
        n.ERROR: {"type": "boolean"},
        n.LATE: _KEYWORD,
        n.BUCKET: {"type": "short", **_COLUMN},
        n.TERMS: {"type": "keyword", "doc_values": False, "norms": False},
        n.WORDS: _text("backtrail_words"),
        n.EXCEPTION_WORDS: _text("backtrail_words"),
        n.OVERFLOW: {"type": "flattened", "ignore_above": IGNORE_ABOVE},
        n.ATTRIBUTES: _attributes(server, priority=20),
        "resource": {"properties": {"attributes": _attributes(server, priority=10)}},
        "body": {"properties": {"text": _text("backtrail_text")}},
        "status": {"properties": {"code": _KEYWORD}},
        "scope": {"properties": {"name": _KEYWORD}},
        "service": {"properties": {"name": _KEYWORD, "instance": {"properties": {"id": _KEYWORD}}}},
        "exception": {"properties": {"type": _KEYWORD, "message": _text("backtrail_text")}},
        "code": {
            "properties": {
                "file": {"properties": {"path": {**_KEYWORD, **_COLUMN}}},
                "line": {"properties": {"number": {**_NUMBER, **_COLUMN}}},
                "function": {"properties": {"name": {**_KEYWORD, **_COLUMN}}},
            }
        },
    }
    if server.has_constant_keyword:
        parts = {"type": stream.split("-", 1)[0], "dataset": f"{names.dataset}.otel"}
        fields["data_stream"] = {
            "properties": {
                **{key: {"type": "constant_keyword", "value": value} for key, value in parts.items()},
                "namespace": {"type": "constant_keyword"},
            }
        }
    return {
        "dynamic": False,
        "date_detection": False,
        "dynamic_templates": _dynamic_templates(),
        "_meta": {"managed_by": "backtrail", "version": TEMPLATE_VERSION},
        "properties": fields,
    }


def _text(analyzer: str) -> dict[str, Any]:
    return {"type": "text", "analyzer": analyzer, "norms": False}


def _attributes(server: Server, *, priority: int) -> dict[str, Any]:
    """An object whose keys are plain names, dots and all, and which a person may leave out when searching.

    An older server makes an alias for each key instead, and refuses every document with a key that is the
    name of a field already; there the object is a plain one.
    """
    if server.has_passthrough_priority:
        return {"type": "passthrough", "dynamic": True, "priority": priority}
    return {"type": "object", "dynamic": True, "subobjects": False}


def _dynamic_templates() -> list[dict[str, Any]]:
    """Each attribute's field takes the type of its first value; values of another are only kept.

    Our searches look attributes up by `names.TERMS`; their own fields are for counting, and for people.
    """
    number = {"ignore_malformed": True, "coerce": False}
    kinds: dict[str, dict[str, Any]] = {
        "string": dict(_KEYWORD),
        "long": {"type": "long", **number},
        "double": {"type": "double", **number},
        "boolean": {"type": "boolean", "ignore_malformed": True},
    }
    return [
        {
            f"{kind}s": {
                "match_mapping_type": kind,
                "path_match": _ATTRIBUTE_PATHS,
                "mapping": {**mapping, **_COLUMN},
            }
        }
        for kind, mapping in kinds.items()
    ]
