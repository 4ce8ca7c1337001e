"""Every operation asks for the scope that its declaration names: over HTTP, in the document, over gRPC."""

from __future__ import annotations

import http.client
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from collector.access.tokens import SCOPES, TokenFile
from collector.api.openapi import document
from collector.service import Collector
from collector.settings import Settings

DOCUMENT: Final[dict[str, Any]] = document("1.2.3")
OPERATIONS: Final = [
    (path, method.upper(), operation["operationId"])
    for path, methods in DOCUMENT["paths"].items()
    for method, operation in methods.items()
]
NEEDED: Final = {
    operation["operationId"]: {scope for way in operation["security"] for scope in way}
    for methods in DOCUMENT["paths"].values()
    for operation in methods.values()
}


@dataclass(frozen=True)
class Guarded:
    """A collector that asks for tokens, and one token a scope."""

    url: str
    secrets: dict[str, str]

    def status(self, path: str, method: str, authorization: str | None = None) -> int:
        """Of one call without a body, its answer not waited for to the end."""
        connection = http.client.HTTPConnection(self.url.removeprefix("http://"), timeout=30)
        headers = {"authorization": authorization} if authorization else {}
        connection.request(method, re.sub(r"{\w+}", "x", path), headers=headers)
        status = connection.getresponse().status
        connection.close()
        return status


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """With tokens in its file."""
    data_dir = tmp_path_factory.mktemp("scopes") / "data"
    file = TokenFile(data_dir / "tokens.json")
    secrets = {scope: file.create(f"for-{scope}", [scope])[1] for scope in SCOPES}
    with Collector(Settings(data_dir=data_dir, port=0, store="memory", watch=False)) as running:
        yield Guarded(running.url, secrets)


def test_every_operation_declares_one_scope_or_is_open() -> None:
    """Open are the pages that say how the service is, and nothing else."""
    assert {name for name, scopes in NEEDED.items() if not scopes} == {"health", "readiness", "openapi"}
    assert all(len(scopes) <= 1 and scopes <= set(SCOPES) for scopes in NEEDED.values())
    assert {name for name, scopes in NEEDED.items() if scopes == {"admin"}} == {
        "deleteTrace",
        "deleteLogs",
        "dropDeadLetters",
    }


@pytest.mark.parametrize(("path", "method", "name"), OPERATIONS, ids=[name for *_, name in OPERATIONS])
def test_an_operation_opens_to_its_scope_alone(guarded: Guarded, path: str, method: str, name: str) -> None:
    """401 without a token and with a wrong one, 403 with one for something else, and in with its own."""
    (needed,) = NEEDED[name] or {None}
    if needed is None:
        assert guarded.status(path, method) == 200
        return
    assert guarded.status(path, method) == 401
    assert guarded.status(path, method, "Bearer bt_nobody-has-this-one") == 401
    for scope, secret in guarded.secrets.items():
        status = guarded.status(path, method, f"Bearer {secret}")
        assert (status in (401, 403)) == (scope != needed), (scope, status)


def test_a_problem_names_the_scope_and_never_the_token(guarded: Guarded) -> None:
    """Whoever reads the answer learns what to ask for."""
    connection = http.client.HTTPConnection(guarded.url.removeprefix("http://"), timeout=30)
    connection.request(
        "GET", "/api/v1/stats", headers={"authorization": f"Bearer {guarded.secrets['ingest']}"}
    )
    problem = json.loads(connection.getresponse().read())
    connection.close()
    assert problem["detail"] == "this needs a token for read; the one shown is for ingest"


def test_metrics_may_be_open_by_a_setting(tmp_path: Path) -> None:
    """For scrapers that can show nothing; what else needs a token still does."""
    settings = Settings(
        data_dir=tmp_path / "data",
        port=0,
        store="memory",
        watch=False,
        read_token="reader",  # type: ignore[arg-type]
        metrics_without_token=True,
    )
    with Collector(settings) as running:
        caller = Guarded(running.url, {})
        assert (caller.status("/metrics", "GET"), caller.status("/api/v1/stats", "GET")) == (200, 401)
