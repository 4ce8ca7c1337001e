"""What the API takes in from our own senders and by OTLP; a part of `catalogue`."""

from __future__ import annotations

from typing import Final

from collector.api.operations import Delivery
from collector.api.parameters import Parameter
from collector.api.shapes import JsonObject

_OTLP_TYPES: Final = ("application/x-protobuf", "application/json")
_OTLP_ANSWERS: Final[dict[str, JsonObject]] = {
    "application/x-protobuf": {"type": "string", "format": "binary"},
    "application/json": {"type": "object", "properties": {"partialSuccess": {"type": "object"}}},
}
ENCODING: Final = Parameter(
    name="Content-Encoding",
    kind="text",
    description="how the body is packed; absent: it is not",
    choices=("gzip", "zstd", "identity"),
)

DELIVERIES: Final[tuple[Delivery, ...]] = (
    Delivery(
        name="ingestRecords",
        path="/v1/records",
        summary="Take record lines in, each once",
        description=(
            "A spool's lines with their position: the first line of the body is the segment's header, then"
            " whole record lines. With `Backtrail-Import: 1` instead of the spool headers each line carries"
            " its own `uid`. Refused lines are named one by one and count as done."
        ),
        content_types=("application/x-ndjson",),
        answers={
            "application/json": {
                "type": "object",
                "required": ["acknowledged_offset", "stored", "refused"],
                "properties": {
                    "acknowledged_offset": {
                        "type": ["integer", "null"],
                        "description": "first byte that is not yet durable; null: an import has no offsets",
                    },
                    "stored": {"type": "integer"},
                    "already_stored": {
                        "type": "integer",
                        "description": "imported lines that were found before; not among `stored`",
                    },
                    "refused": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "required": ["offset", "reason", "field", "message"],
                            "properties": {
                                "offset": {"type": "integer"},
                                "reason": {"type": "string"},
                                "field": {"type": ["string", "null"]},
                                "message": {"type": "string"},
                            },
                        },
                    },
                },
            }
        },
        headers=(
            Parameter(
                name="Backtrail-Format", kind="text", description="version of the line format", example="1"
            ),
            Parameter(name="Backtrail-Spool", kind="text", description="the spool: 32 hexadecimal digits"),
            Parameter(name="Backtrail-Offset", kind="text", description="offset of the first record line"),
            Parameter(name="Backtrail-Import", kind="text", description="`1`: lines carry their own `uid`"),
            ENCODING,
        ),
    ),
    Delivery(
        name="ingestOtlpLogs",
        path="/v1/logs",
        summary="Take OTLP logs in",
        description="OTLP/HTTP `ExportLogsServiceRequest`, protobuf or JSON.",
        content_types=_OTLP_TYPES,
        answers=_OTLP_ANSWERS,
        refusals=_OTLP_TYPES,
        headers=(ENCODING,),
    ),
    Delivery(
        name="ingestOtlpTraces",
        path="/v1/traces",
        summary="Take OTLP spans in",
        description="OTLP/HTTP `ExportTraceServiceRequest`, protobuf or JSON.",
        content_types=_OTLP_TYPES,
        answers=_OTLP_ANSWERS,
        refusals=_OTLP_TYPES,
        headers=(ENCODING,),
    ),
    Delivery(
        name="ingestOtlpMetrics",
        path="/v1/metrics",
        summary="Answer OTLP metrics politely",
        description="Metrics are not kept here: they are counted, dropped, and the answer says so.",
        content_types=_OTLP_TYPES,
        answers=_OTLP_ANSWERS,
        refusals=_OTLP_TYPES,
        headers=(ENCODING,),
    ),
)
