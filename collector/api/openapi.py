"""The OpenAPI 3.1 document, made from the declared operations and shapes."""

from __future__ import annotations

import importlib.resources
from collections.abc import Iterable
from typing import Any, Final

import msgspec
import orjson

from collector.access.tokens import SCOPES
from collector.api import problems
from collector.api.catalogue import ORDERS, PAGES, QUESTIONS, REMOVALS, STREAMS
from collector.api.catalogue_deliveries import DELIVERIES, ENCODING
from collector.api.catalogue_dialects import DIALECTS
from collector.api.operations import Delivery, Dialect, Order, Page, Question, Removal, Stream
from collector.api.parameters import Parameter
from collector.api.shapes import DeletedObject, JsonObject

REF: Final = "#/components/schemas/{name}"
# Any call may meet these: no HTTP, a wrong token, another host's name, no room, a fault of our own.
_ALWAYS: Final = (
    "bad-request",
    "unauthorized",
    "forbidden",
    "timeout",
    "misdirected",
    "head-too-long",
    "too-many-requests",
    "overloaded",
    "internal",
)


# Any question may be too much.
_DEAR: Final = ("too-costly", "took-too-long")


def document(version: str) -> JsonObject:
    """Build the document.

    Args:
        version: of the program that serves it.
    """
    examples = _examples()
    schemas = _schemas()
    paths: dict[str, JsonObject] = {}
    for question in QUESTIONS:
        paths.setdefault(question.path, {})["get"] = _question(question, examples[question.name])
    for stream in STREAMS:
        paths.setdefault(stream.path, {})["get"] = _stream(stream)
    for removal in REMOVALS:
        paths.setdefault(removal.path, {})["delete"] = _removal(removal)
    for order in ORDERS:
        paths.setdefault(order.path, {})["post"] = _order(order)
    for delivery in DELIVERIES:
        paths.setdefault(delivery.path, {})["post"] = _delivery(delivery)
    for page in PAGES:
        paths.setdefault(page.path, {})["get"] = _page(page)
    for dialect in DIALECTS:
        for method in dialect.methods:
            if method != "HEAD":  # what GET answers, without its body
                paths.setdefault(dialect.path, {})[method.lower()] = _dialect(dialect, method)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "backtrail collector",
            "version": version,
            "description": "Takes logs and spans in, rebuilds call chains, names root causes with proof.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                right: {
                    "type": "http",
                    "scheme": "bearer",
                    "description": f"a token with the scope {right}, where tokens are asked for",
                }
                for right in SCOPES
            },
        },
    }


def _examples() -> dict[str, JsonObject]:
    """An answer for each question, about one small incident; a test holds them to the shapes."""
    text = importlib.resources.files("collector.api").joinpath("examples.json").read_bytes()
    examples: dict[str, JsonObject] = orjson.loads(text)
    return examples


def _schemas() -> JsonObject:
    bodies = [shape for order in ORDERS for shape in (order.body, order.answer)]
    answers = [question.answer for question in QUESTIONS]
    _, components = msgspec.json.schema_components([*answers, DeletedObject, *bodies], ref_template=REF)
    components["Problem"] = {
        "type": "object",
        "description": "What went wrong, as RFC 9457 problem details; `type` never changes its meaning.",
        "required": ["type", "title", "status", "detail", "instance"],
        "properties": {
            "type": {"type": "string", "enum": [problems.TYPE_PREFIX + kind for kind in problems.KINDS]},
            "title": {"type": "string"},
            "status": {"type": "integer", "minimum": 400, "maximum": 599},
            "detail": {"type": "string", "description": "what is wrong, where, and what to do"},
            "instance": {"type": "string", "description": "path of the request"},
        },
    }
    return components


def _question(question: Question, example: JsonObject) -> JsonObject:
    operation: JsonObject = {
        "operationId": question.name,
        "summary": question.summary,
        "tags": ["questions"],
        "security": [{}, {question.right: []}],
        "parameters": [_parameter(parameter) for parameter in question.parameters],
        "responses": {
            "200": {
                "description": "the answer",
                "content": {
                    "application/json": {
                        "schema": {"$ref": REF.format(name=question.answer.__name__)},
                        "example": example,
                    }
                },
            },
            **_problem_responses((*_ALWAYS, "invalid-parameter", *_DEAR, *question.problems)),
        },
    }
    return operation


def _stream(stream: Stream) -> JsonObject:
    return {
        "operationId": stream.name,
        "summary": stream.summary,
        "tags": ["questions"],
        "security": [{}, {stream.right: []}],
        "parameters": [_parameter(parameter) for parameter in stream.parameters],
        "responses": {
            "200": {
                "description": "the answer, in pieces; a connection that breaks off: it is not whole",
                "content": {kind: {"schema": _stream_schema(kind)} for kind in stream.content_types},
            },
            **_problem_responses((*_ALWAYS, "invalid-parameter", *_DEAR, *stream.problems)),
        },
    }


def _stream_schema(content_type: str) -> JsonObject:
    return {"type": "object" if content_type == "application/json" else "string"}


def _removal(removal: Removal) -> JsonObject:
    return {
        "operationId": removal.name,
        "summary": removal.summary,
        "tags": ["administration"],
        "security": [{removal.right: []}],
        "parameters": [_parameter(parameter) for parameter in removal.parameters],
        "responses": {
            "200": {
                "description": "the records are gone from every answer, also after a crash",
                "content": {
                    "application/json": {
                        "schema": {"$ref": REF.format(name=DeletedObject.__name__)},
                        "example": {"deleted": 12},
                    }
                },
            },
            **_problem_responses((*_ALWAYS, "invalid-parameter", "invalid-query")),
        },
    }


def _order(order: Order) -> JsonObject:
    def content(shape: type[msgspec.Struct], example: JsonObject) -> JsonObject:
        return {"application/json": {"schema": {"$ref": REF.format(name=shape.__name__)}, "example": example}}

    return {
        "operationId": order.name,
        "summary": order.summary,
        "tags": ["administration"],
        "security": [{order.right: []}] if order.right == "admin" else [{}, {order.right: []}],
        "requestBody": {"required": False, "content": content(order.body, order.example)},
        "responses": {
            "200": {"description": "done", "content": content(order.answer, order.answer_example)},
            **_problem_responses((*_ALWAYS, "invalid-parameter", "too-large", *order.problems)),
        },
    }


def _delivery(delivery: Delivery) -> JsonObject:
    return {
        "operationId": delivery.name,
        "summary": delivery.summary,
        "description": delivery.description,
        "tags": ["ingest"],
        "security": [{}, {"ingest": []}],
        "parameters": [_parameter(header, place="header") for header in delivery.headers],
        "requestBody": {
            "required": True,
            "content": {
                content_type: {"schema": {"type": "string", "format": "binary"}}
                if content_type != "application/json"
                else {"schema": {"type": "object"}}
                for content_type in delivery.content_types
            },
        },
        "responses": {
            "200": {
                "description": "durable: what the answer acknowledges survives a crash",
                "content": {
                    content_type: {"schema": schema} for content_type, schema in delivery.answers.items()
                },
            },
            **_problem_responses(
                (
                    *_ALWAYS,
                    "too-large",
                    "unsupported-media-type",
                ),
                delivery.refusals,
            ),
        },
    }


def _dialect(dialect: Dialect, method: str) -> JsonObject:
    """Errors of the protocol are in its own words, those that are met before it are problems."""
    responses = _problem_responses((*_ALWAYS, "too-large", *(["no-such-path"] if dialect.parameters else [])))
    for status, (description, content_type) in dialect.answers.items():
        response: JsonObject = responses.setdefault(str(status), {"description": description})
        if response["description"] != description:
            response["description"] += f"; {description}"
        if content_type is not None:
            response.setdefault("content", {})[content_type] = {"schema": {}}
    operation: JsonObject = {
        "operationId": dialect.name if method == dialect.methods[0] else dialect.name + method.capitalize(),
        "summary": dialect.summary,
        "tags": ["dialects"],
        "security": [{}, {"ingest": []}],
        "parameters": [_parameter(parameter) for parameter in dialect.parameters],
        "responses": dict(sorted(responses.items())),
    }
    if dialect.content_types:
        operation["parameters"].append(_parameter(ENCODING, place="header"))
        operation["requestBody"] = {
            "required": True,
            "content": {content_type: {"schema": {}} for content_type in dialect.content_types},
        }
    return operation


def _page(page: Page) -> JsonObject:
    return {
        "operationId": page.name,
        "summary": page.summary,
        "tags": ["operation"],
        "security": [{}, {page.right: []}] if page.right != "open" else [],
        "responses": {
            **{
                str(status): {"description": description, "content": {page.content_type: {"schema": {}}}}
                for status, description in page.answers.items()
            },
            **(_problem_responses(_ALWAYS) if page.right != "open" else {}),
        },
    }


def _parameter(parameter: Parameter, *, place: str | None = None) -> JsonObject:
    where = place or parameter.place
    described: JsonObject = {
        "name": parameter.name,
        "in": where,
        "description": parameter.description,
        "required": where == "path" or parameter.required,
        "schema": parameter.schema(),
    }
    if parameter.example is not None:
        described["example"] = parameter.example
    return described


def _problem_responses(
    kinds: Iterable[str], content_types: Iterable[str] = (problems.CONTENT_TYPE,)
) -> dict[str, Any]:
    """One response a status, in order; its description lists the kinds that share the status."""
    by_status: dict[int, list[str]] = {}
    for kind in dict.fromkeys(kinds):
        by_status.setdefault(problems.KINDS[kind][0], []).append(kind)
    return {
        str(status): {
            "description": "; ".join(problems.KINDS[kind][1] for kind in kinds_of_status),
            "content": {
                content_type: {"schema": _problem_schema(content_type)} for content_type in content_types
            },
        }
        for status, kinds_of_status in sorted(by_status.items())
    }


def _problem_schema(content_type: str) -> JsonObject:
    """Errors are problems, except where OTLP has a `Status` of its own."""
    if content_type == problems.CONTENT_TYPE:
        return {"$ref": REF.format(name="Problem")}
    if content_type == "application/json":
        return {"type": "object", "required": ["message"], "properties": {"message": {"type": "string"}}}
    return {"type": "string", "format": "binary"}
