"""`make audit`: it finds a planted old pin, and says so where nobody can tell."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

AUDIT = Path(__file__).resolve().parents[1] / "deploy" / "audit.py"
SANDBOX_ESCAPE: dict[str, Any] = {
    "id": "GHSA-462w-v97r-4m45",
    "aliases": ["CVE-2019-10906"],
    "summary": "Jinja2 sandbox escape via string formatting",
    "details": "In Pallets Jinja before 2.10.1, str.format_map allows a sandbox escape.",
    "published": "2019-04-10T14:30:24Z",
    "modified": "2024-09-24T18:00:00Z",
    "affected": [
        {
            "package": {"name": "jinja2", "ecosystem": "PyPI"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "2.10.1"}]}],
            "versions": ["2.10"],
        }
    ],
}


@pytest.fixture
def osv() -> Iterator[Callable[[bool], str]]:
    """Call it for the URL of an OSV service on this machine, which knows one advisory, or none."""
    servers: list[ThreadingHTTPServer] = []

    def start(knows: bool) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
                hit = knows and (asked["package"]["name"], asked["version"]) == ("jinja2", "2.10")
                body = json.dumps({"vulns": [SANDBOX_ESCAPE]} if hit else {}).encode()
                self.send_response(200)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Nothing is said of requests."""

        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), Handler))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}/v1/query"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def audited(tmp_path: Path, pins: str, url: str) -> tuple[int, str]:
    """Exit status and output of an audit of these pins."""
    pytest.importorskip("pip_audit", reason="needs pip-audit, of the extra dev")
    constraints = tmp_path / "constraints.txt"
    constraints.write_text(pins)
    done = subprocess.run(
        [sys.executable, str(AUDIT), "--constraints", str(constraints), "--osv-url", url],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stderr == ""
    return done.returncode, done.stdout


def test_a_planted_old_pin_is_found(tmp_path: Path, osv: Callable[[bool], str]) -> None:
    """With the advisory's name and the version that mends it; exit status 1."""
    status, said = audited(tmp_path, "jinja2==2.10\nmarkupsafe==2.1.5\n", osv(True))
    assert (status, said) == (1, "jinja2==2.10: CVE-2019-10906, mended in 2.10.1\n")


def test_what_nothing_is_known_of_is_clean(tmp_path: Path, osv: Callable[[bool], str]) -> None:
    """Only by a source that has just proved that it knows something."""
    status, said = audited(tmp_path, "jinja2==3.1.4\n", osv(True))
    assert (status, said) == (
        0,
        "audited constraints.txt: nothing is known; jinja2==2.10, planted, was found\n",
    )


@pytest.mark.parametrize("is_there", [True, False])
def test_a_source_that_cannot_tell_is_no_clean_bill(
    tmp_path: Path, osv: Callable[[bool], str], free_port: Callable[[], int], is_there: bool
) -> None:
    """One that knows nothing, or none at all: one line, and an exit status of its own."""
    url = osv(False) if is_there else f"http://127.0.0.1:{free_port()}/v1/query"
    status, said = audited(tmp_path, "jinja2==3.1.4\n", url)
    assert status == 3
    assert re.fullmatch(r"not audited: no advisory source can be reached \(.+\)\n", said)
