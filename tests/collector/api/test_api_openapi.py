"""The OpenAPI document: right as a document, and true of the answers."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from collector.api.catalogue import ORDERS, PAGES, QUESTIONS, REMOVALS, STREAMS
from collector.api.catalogue_deliveries import DELIVERIES
from collector.api.catalogue_dialects import DIALECTS
from collector.api.openapi import document
from collector.api.problems import KINDS, TYPE_PREFIX, Problem
from collector.listen.dialects import dialect_routes

DOCUMENT: dict[str, Any] = document("1.2.3")


def schema_of(name: str) -> dict[str, Any]:
    """The schema of a component, able to stand alone, with nothing but what it names."""
    text = json.dumps(DOCUMENT["components"]["schemas"]).replace("#/components/schemas/", "#/$defs/")
    schemas = json.loads(text)
    for title, schema in schemas.items():
        schema["additionalProperties"] = title == "Problem"  # whose further members RFC 9457 invites
    return {"$defs": schemas, "$ref": f"#/$defs/{name}"}


def test_every_operation_is_in_the_document() -> None:
    """Once, under its own name."""
    names = [
        operation["operationId"] for methods in DOCUMENT["paths"].values() for operation in methods.values()
    ]
    declared = [item.name for item in (*QUESTIONS, *STREAMS, *REMOVALS, *ORDERS, *DELIVERIES, *PAGES)]
    for dialect in DIALECTS:
        methods = [method for method in dialect.methods if method != "HEAD"]
        declared += [dialect.name + (method.capitalize() if at else "") for at, method in enumerate(methods)]
    assert sorted(names) == sorted(declared)


def test_the_document_is_openapi() -> None:
    """Every reference leads somewhere, every path parameter is declared, every example is of its schema."""
    text = json.dumps(DOCUMENT)
    for name in {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}:
        assert name in DOCUMENT["components"]["schemas"]
    for path, methods in DOCUMENT["paths"].items():
        for operation in methods.values():
            placed = {p["name"] for p in operation.get("parameters", []) if p["in"] == "path"}
            assert placed == {part.split("}")[0] for part in path.split("{")[1:]}
            for parameter in operation.get("parameters", []):
                jsonschema_rs.meta.validate(parameter["schema"])
                if "example" in parameter:
                    jsonschema_rs.validate(parameter["schema"], parameter["example"])


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question.name)
def test_the_examples_are_what_is_answered(question: Any) -> None:
    """They were made by the code that answers, and fit the schemas without a key too many."""
    path = Path(__file__).with_name("example_answers.py")
    spec = importlib.util.spec_from_file_location("example_answers", path)
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    response = DOCUMENT["paths"][question.path]["get"]["responses"]["200"]
    example = response["content"]["application/json"]["example"]
    assert example == made.example_answers()[question.name]
    jsonschema_rs.validate(schema_of(question.answer.__name__), example)


@pytest.mark.parametrize("order", ORDERS, ids=lambda order: order.name)
def test_the_examples_of_orders_are_of_their_shapes(order: Any) -> None:
    """What is sent and what comes back."""
    jsonschema_rs.validate(schema_of(order.body.__name__), order.example)
    jsonschema_rs.validate(schema_of(order.answer.__name__), order.answer_example)


@pytest.mark.parametrize("kind", KINDS)
def test_every_problem_fits_its_schema(kind: str) -> None:
    """With further members allowed, as RFC 9457 has it."""
    problem = json.loads(Problem(kind=kind, detail="d", extensions={"field": "x"}).body("/p"))
    jsonschema_rs.validate(schema_of("Problem"), problem)
    assert problem["type"] == TYPE_PREFIX + kind
    assert problem["status"] == KINDS[kind][0]


def test_the_schemas_bite() -> None:
    """An answer with a key too few or too many does not pass."""
    schema = schema_of("StatsObject")
    stats = DOCUMENT["paths"]["/api/v1/stats"]["get"]["responses"]["200"]["content"]["application/json"]
    jsonschema_rs.validate(schema, stats["example"])
    for wrong in ({**stats["example"], "extra": 1}, {"records": 1}):
        with pytest.raises(jsonschema_rs.ValidationError):
            jsonschema_rs.validate(schema, wrong)


def test_every_path_of_every_dialect_is_in_the_document() -> None:
    """What is mounted for other people's senders and what is declared of it are the same."""
    mounted = {(route.name, route.methods, route.path) for route in dialect_routes(None)}  # type: ignore[arg-type]
    assert {(one.name, one.methods, one.path) for one in DIALECTS} == mounted
    for dialect in DIALECTS:
        documented = {method.upper() for method in DOCUMENT["paths"][dialect.path]}
        assert documented == set(dialect.methods) - {"HEAD"}
