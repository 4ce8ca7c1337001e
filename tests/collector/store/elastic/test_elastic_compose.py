"""`deploy/compose.yaml` and the page about Elasticsearch agree with the settings and with the privileges."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from collector.settings import ENV_PREFIX, Settings
from collector.store.elastic.names import Names
from collector.store.elastic.options import ElasticOptions
from collector.store.elastic.privileges import collector_role, operator_role, reader_role

REPOSITORY = Path(__file__).resolve().parents[4]
COMPOSE = REPOSITORY / "deploy" / "compose.yaml"
PAGE = REPOSITORY / "docs" / "elasticsearch.md"


@pytest.fixture
def services() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())["services"]
    return found


def filled_in(value: str) -> str:
    """As compose does: every variable is given."""
    return re.sub(r"\$\{(\w+)[^}]*\}", r"given-\1", value)


def test_the_collectors_variables_are_its_settings(services: dict[str, Any]) -> None:
    """Each by its name, each with a value that it takes."""
    given = {name: filled_in(value) for name, value in services["collector"]["environment"].items()}
    fields = {name.removeprefix(ENV_PREFIX).lower(): value for name, value in given.items()}
    settings = Settings(**fields, host="0.0.0.0")
    options = ElasticOptions.from_url(settings.store)
    assert options.hosts == ("https://elasticsearch:9200",)
    assert (options.username, options.password) == ("backtrail", "given-COLLECTOR_PASSWORD")


def test_everything_starts_only_when_its_turn_has_come(services: dict[str, Any]) -> None:
    """Every service that is waited for exists, every volume is declared, nothing listens beyond loopback."""
    volumes = yaml.safe_load(COMPOSE.read_text())["volumes"]
    for service in services.values():
        assert set(service.get("depends_on", {})) <= set(services)
        assert {volume.split(":")[0] for volume in service.get("volumes", [])} <= set(volumes)
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


def test_security_is_on(services: dict[str, Any]) -> None:
    """Users and TLS, and no password in the file."""
    environment = services["elasticsearch"]["environment"]
    assert environment["xpack.security.enabled"] == "true"
    assert environment["xpack.security.http.ssl.enabled"] == "true"
    for service in services.values():
        for name, value in service.get("environment", {}).items():
            assert "PASSWORD" not in name or value.startswith("${")


def test_the_role_is_the_operators(services: dict[str, Any]) -> None:
    """The one that `privileges` describes; the collector makes its own templates here."""
    script = services["setup"]["command"][-1]
    (role,) = re.findall(r"_security/role/backtrail -d '(\{.*?\n\s*\})'", script, re.DOTALL)
    written, wanted = json.loads(role), operator_role(Names())
    assert sorted(written["cluster"]) == sorted(wanted["cluster"])
    (one,), (other,) = written["indices"], wanted["indices"]
    assert sorted(one["names"]) == sorted(other["names"])
    assert sorted(one["privileges"]) == sorted(other["privileges"])


def test_the_page_names_the_least_privileges() -> None:
    """In its table, and in the key that a reader of it would make."""
    text = PAGE.read_text()
    (key,) = re.findall(r"-d '(\{.*?\n\})'", text, re.DOTALL)
    assert json.loads(key)["role_descriptors"]["collector"] == collector_role(Names())
    table = {
        cells[1].strip(): [set(re.findall(r"`(\w+)`", cell)) for cell in cells[2:4]]
        for cells in (line.split("|") for line in text.splitlines())
        if len(cells) == 6
    }
    for who, role, less in (
        ("reader", reader_role(Names()), {"cluster": [], "indices": [{"privileges": []}]}),
        ("collector", collector_role(Names()), reader_role(Names())),
        ("operator", operator_role(Names()), collector_role(Names())),
    ):
        wanted, known = set(role["indices"][0]["privileges"]), set(less["indices"][0]["privileges"])
        assert table[who] == [set(role["cluster"]), wanted - known]


def test_the_pages_settings_and_options_exist() -> None:
    """By their names."""
    text = PAGE.read_text()
    fields = {name.removeprefix(ENV_PREFIX).lower() for name in re.findall(r"`(BACKTRAIL_\w+)`", text)}
    assert len(fields) > 3
    assert fields <= set(Settings.model_fields)
    (listed,) = re.findall(r"fields? of\n?\s*`ElasticOptions`.*?: (.*?) and what else", text, re.DOTALL)
    assert set(re.findall(r"`(\w+)`", listed)) <= set(ElasticOptions.__struct_fields__)
