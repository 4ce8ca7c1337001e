"""schemathesis over the OpenAPI document of a running collector: no 5xx, no undocumented answer."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from collector.api.catalogue_dialects import DIALECTS
from collector.api.openapi import document
from collector.client import CollectorClient
from collector.service.parts import version

pytestmark = pytest.mark.flow

EXAMPLES_MAX = 40  # of each operation
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
LINES = [
    (
        f"u-{number}",
        b'{"timestamp":"2026-11-24T05:32:11.00000%04dZ","level":"INFO","service":"orders","message":"m",'
        b'"trace_id":"%b","span_id":"00f067aa0ba902b7"}' % (number, TRACE.encode()),
    )
    for number in range(1000, 1050)
]
DOCUMENT = document(version())
DIALECT_PATHS = {dialect.path for dialect in DIALECTS}


@schemathesis.serializer("application/x-ndjson", "application/x-protobuf")
def body_of(_: object, value: Any) -> bytes:
    """Bytes and text as they are, everything else as JSON."""
    if isinstance(value, bytes):
        return value
    return value.encode("utf-8", "replace") if isinstance(value, str) else json.dumps(value).encode()


# The tail never ends; tests/collector/api/test_api_http.py has it.
schema = schemathesis.openapi.from_dict(DOCUMENT).exclude(operation_id="tailLogs")
# A URL beyond 64 KiB is refused before anybody looks at its parameters.
schema.config.checks.negative_data_rejection.expected_statuses.append("431")


@pytest.fixture(scope="module")
def url(shared_collector: Any) -> str:
    """A running collector with something stored to be found."""
    with CollectorClient(shared_collector.url) as client:
        client.import_records(LINES)
    collector_url: str = shared_collector.url
    return collector_url


def test_the_document_is_the_one_that_is_served(url: str) -> None:
    """What is tested below is what people get."""
    assert httpx.get(f"{url}/api/v1/openapi.json").json() == DOCUMENT


@schema.parametrize()
@settings(max_examples=EXAMPLES_MAX, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_every_answer_is_documented(case: schemathesis.Case, url: str) -> None:
    """Status, type, headers and body are what the document says; none is a 5xx; wrong input is refused.

    That right input is accepted cannot be asked of a document that does not know the search language, and
    that wrong input is refused not of other people's protocols, which pass over what they do not know.
    """
    excluded = [positive_data_acceptance]
    if case.method == "POST" or case.operation.path in DIALECT_PATHS:
        excluded.append(negative_data_rejection)
    headers = {"Authorization": "Bearer admin"} if case.method == "DELETE" else {}
    case.call_and_validate(base_url=url, headers=headers, excluded_checks=excluded)
