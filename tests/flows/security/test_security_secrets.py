"""No secret comes out, in the log, in answers or in what is kept; and who did what is written down."""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from collector.client import CollectorClient
from collector.errors import CollectorError

pytestmark = pytest.mark.flow

PATIENCE_S = 60.0
LINE = b'{"timestamp":"2026-11-24T05:32:11Z","level":"INFO","service":"orders","message":"hello"}'
PLANTED = {
    "ingest_token": "planted-ingest-4f1c",
    "read_token": "planted-read-77ab",
    "admin_token": "planted-admin-90de",
}
WRONG = "planted-wrong-d34d"


def backtrail(*arguments: str, data_dir: Path) -> subprocess.CompletedProcess[str]:
    """One command."""
    environment = {name: text for name, text in os.environ.items() if not name.startswith("BACKTRAIL_")}
    return subprocess.run(
        [sys.executable, "-m", "collector.cli", *arguments],
        env={**environment, "BACKTRAIL_DATA_DIR": str(data_dir)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def raw(url: str, method: str, path: str, authorization: str, body: bytes = b"") -> bytes:
    """Head and body of an answer, as they came."""
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=30)
    connection.request(method, path, body, {"authorization": authorization, "content-type": "text/plain"})
    response = connection.getresponse()
    answer = str(response.getheaders()).encode() + response.read()
    connection.close()
    return answer


def test_planted_secrets_come_out_nowhere(collector_process: Callable[..., Any], tmp_path: Path) -> None:
    """Of headers, of settings, of a token file: in no answer, no log line, no file of the data directory."""
    made = backtrail("tokens", "create", "filed", "--scope", "read", data_dir=tmp_path / "data")
    assert made.returncode == 0, made.stderr
    filed = made.stdout.strip()
    collector = collector_process(log_level="DEBUG", **PLANTED)
    collector.start()
    out: list[bytes] = []
    shown = [*PLANTED.values(), WRONG, filed]
    for secret in shown:
        basic = b64encode(f"user:{secret}".encode()).decode()
        for authorization in (f"Bearer {secret}", f"Basic {basic}", f"ApiKey {basic}", secret):
            for method, path in (
                ("GET", "/api/v1/stats"),
                ("GET", "/api/v1/logs?q=%28"),
                ("GET", "/metrics"),
                ("GET", f"/api/v1/none?api_key={'x' * 10}"),
                ("DELETE", "/api/v1/logs"),
                ("DELETE", "/api/v1/logs?q=service:nobody"),
                ("POST", "/v1/records"),
                ("POST", "/v1/traces"),
                ("POST", "/_bulk"),
                ("POST", "/loki/api/v1/push"),
            ):
                out.append(raw(collector.url, method, path, authorization, b"nonsense\n"))
    collector.signal(signal.SIGHUP)
    out.append(raw(collector.url, "GET", "/api/v1/openapi.json", "Bearer x"))
    assert collector.terminate() == 0
    listed = backtrail("tokens", "list", "--json", data_dir=tmp_path / "data")
    assert '"filed"' in listed.stdout
    out += [collector.log.read_bytes(), listed.stdout.encode(), listed.stderr.encode()]
    out += [file.read_bytes() for file in (tmp_path / "data").rglob("*") if file.is_file()]
    assert len(out) > 200
    for secret in shown:
        hidden = (secret.encode(), b64encode(f"user:{secret}".encode()))
        assert not any(one in text for text in out for one in hidden), secret


@pytest.mark.parametrize("where", ["address", "key"])
def test_a_secret_of_the_store_comes_out_nowhere(
    collector_process: Callable[..., Any], free_port: Callable[[], int], where: str
) -> None:
    """Nobody answers there, and what is said about it names the host alone."""
    secret = "planted-store-51ce"
    user = f"elastic:{secret}@" if where == "address" else ""
    key = {"store_api_key": secret} if where == "key" else {}
    collector = collector_process(store=f"http://{user}127.0.0.1:{free_port()}", log_level="DEBUG", **key)
    collector.start(wait=False)
    deadline = time.monotonic() + PATIENCE_S
    while b"listening" not in collector.log.read_bytes():
        assert time.monotonic() < deadline, collector.log.read_text()
        time.sleep(0.05)
    said = b""
    with CollectorClient(collector.url) as client:
        for ask in (client.stats, client.services, client.health):
            try:
                said += str(ask()).encode()
            except CollectorError as error:
                said += str(error).encode()
    collector.end()
    said += collector.log.read_bytes()
    assert b"127.0.0.1" in said
    assert secret.encode() not in said


def test_settings_are_shown_without_their_secrets() -> None:
    """Also when one of them is wrong."""
    secret = "planted-store-51ce"
    environment = {
        **os.environ,
        "BACKTRAIL_STORE": f"http://elastic:{secret}@127.0.0.1:9",
        "BACKTRAIL_READ_TOKEN": secret,
        "BACKTRAIL_PORT": "many",
    }
    for arguments in (["config", "check", "--full"], ["config", "check"]):
        said = subprocess.run(
            [sys.executable, "-m", "collector.cli", *arguments],
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert secret not in said.stdout + said.stderr
        environment.pop("BACKTRAIL_PORT", None)


def test_what_an_administrator_does_is_written_down(
    collector_process: Callable[..., Any], tmp_path: Path
) -> None:
    """Who, what, from where, and how it went: a record that is searched like any other, and a log line."""
    data_dir = tmp_path / "data"
    everything = backtrail(
        "tokens", "create", "carla", *(f"--scope={s}" for s in ("read", "ingest", "admin")), data_dir=data_dir
    ).stdout.strip()
    collector = collector_process(commit_interval_s="0.1")
    collector.start()
    with CollectorClient(collector.url, token=everything) as client:
        client.import_records([("u", LINE)])
        assert client.delete("service:orders") == {"deleted": 1}
        with pytest.raises(CollectorError):
            client.delete()
        assert backtrail("tokens", "create", "dave", "--scope", "read", data_dir=data_dir).returncode == 0
        collector.signal(signal.SIGHUP)
        deadline = time.monotonic() + PATIENCE_S
        found: dict[str, dict[str, Any]] = {}
        while len(found) < 4 and time.monotonic() < deadline:
            time.sleep(0.05)
            records = client.logs("event.name:backtrail.audit")["records"]
            told = [record["attributes"] for record in records]
            found = {f"{one['audit.action']} {one['audit.result']}": one for one in told}
    assert set(found) == {
        "deleteLogs done",
        "deleteLogs invalid-query",
        "token.created done",
        "settings.reloaded done",
    }
    deleted = found["deleteLogs done"]
    assert (deleted["audit.actor"], deleted["audit.address"]) == ("carla", "127.0.0.1")
    assert (deleted["audit.target"], deleted["audit.count"]) == ("q=service:orders", 1)
    assert found["token.created done"]["audit.target"] == "dave (read)"
    log = collector.log.read_text()
    assert "audit: deleteLogs by carla from 127.0.0.1: q=service:orders: done, 1 record" in log
    assert "audit: token.created by the command line: dave (read): done" in log
    assert backtrail("tokens", "revoke", "carla", data_dir=data_dir).returncode == 0
    deadline = time.monotonic() + PATIENCE_S
    with CollectorClient(collector.url, token=everything) as client:
        while time.monotonic() < deadline:
            try:
                client.stats()
            except CollectorError as error:
                assert "not known here" in str(error)
                break
            time.sleep(0.05)
        else:
            pytest.fail("a revoked token is still taken")
    assert collector.terminate() == 0
