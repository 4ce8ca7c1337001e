"""`deploy/Dockerfile` and the systemd unit agree with the settings and commands that there are."""

from __future__ import annotations

import configparser
import json
import re
from pathlib import Path

import pytest

from collector.api.catalogue import PAGES
from collector.cli import app
from collector.errors import ConfigurationError
from collector.service.pipeline import DRAIN_TIMEOUT_S
from collector.settings import ENV_PREFIX, Settings, load

ROOT = Path(__file__).resolve().parents[3]
_LINES = (ROOT / "deploy" / "Dockerfile").read_text().splitlines(keepends=True)
DOCKERFILE = "".join(line for line in _LINES if not line.startswith("#")).replace("\\\n", " ")
UNIT = configparser.ConfigParser(strict=False, interpolation=None)
UNIT.optionxform = str  # type: ignore[assignment,method-assign]  # names of units mind their case
UNIT.read(ROOT / "deploy" / "backtrail-collector.service")


def commands() -> set[str]:
    """The names of the collector's commands."""
    return {found.name or found.callback.__name__ for found in app.registered_commands if found.callback}


def image_environment() -> dict[str, str]:
    """The settings that the image is built with."""
    return dict(re.findall(rf"({ENV_PREFIX}\w+)=(\S+)", DOCKERFILE))


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """As in a container of the image."""
    given = image_environment()
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    return given


def test_the_image_starts_with_tokens_and_only_with_them(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its variables are settings that there are; it can be reached, so it needs both tokens."""
    with pytest.raises(ConfigurationError, match="both ingest_token and read_token"):
        load()
    monkeypatch.setenv(f"{ENV_PREFIX}INGEST_TOKEN", "i")
    monkeypatch.setenv(f"{ENV_PREFIX}READ_TOKEN", "r")
    loaded = load()
    assert loaded.warnings == []
    exposed = re.findall(r"^EXPOSE (.+)$", DOCKERFILE, re.MULTILINE)[0].split()
    assert {int(port) for port in exposed} == {loaded.settings.port, loaded.settings.grpc_port}
    assert f"VOLUME {loaded.settings.data_dir}" in DOCKERFILE


def test_the_image_runs_and_looks_at_what_there_is() -> None:
    """Command, health check and the files that are copied in."""
    (command,) = re.findall(r"^CMD (\[.+\])$", DOCKERFILE, re.MULTILINE)
    assert json.loads(command)[0] in commands()
    port, path = re.findall(r"http://127\.0\.0\.1:(\d+)(/\w+)", DOCKERFILE)[0]
    assert int(port) == Settings.model_fields["port"].default
    assert path in {page.path for page in PAGES}
    for line in re.findall(r"^COPY (?!--)(.+) \S+$", DOCKERFILE, re.MULTILINE):
        assert all((ROOT / source).exists() for source in line.split())


def test_the_unit_waits_as_long_as_a_stop_may_take() -> None:
    """Else systemd kills what is about to finish."""
    service = UNIT["Service"]
    longest_s = DRAIN_TIMEOUT_S + Settings.model_fields["shutdown_timeout_s"].default
    assert int(service["TimeoutStopSec"]) > longest_s
    assert service["Type"] == "notify-reload"
    assert service["ExecStart"].split()[-1] in commands()
    name, _, directory = service["Environment"].partition("=")
    assert name.removeprefix(ENV_PREFIX).lower() in Settings.model_fields
    assert directory == f"/var/lib/{service['StateDirectory']}"
