"""The first programs of the README and of the package's docstring, run as they stand, do what they say."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

import tracing
from tracing.line import decode

RUN_TIMEOUT_S = 60.0


def example(text: str, heading: str = "") -> str:
    """The first block of Python below a heading."""
    code = text[text.index(heading) :].split("```python\n", 1)[1].split("```", 1)[0]
    assert "import tracing" in code
    return code


def lines_of(program: str, folder: Path, **environment: str) -> list[dict[str, Any]]:
    """Run a program as a file of its own; every line that its spool holds afterwards."""
    path, spool = folder / "program.py", folder / "spool"
    path.write_text(program)
    ours = {
        name: value
        for name, value in os.environ.items()
        if not name.upper().startswith(("TRACING_", "OTEL_")) and not name.upper().endswith("_PROXY")
    }
    done = subprocess.run(
        [sys.executable, str(path)],
        env=ours | {"TRACING_SPOOL_DIR": str(spool), "TRACING_SHIP": "false"} | environment,
        capture_output=True,
        text=True,
        timeout=RUN_TIMEOUT_S,
    )
    assert (done.returncode, done.stderr) == (0, "")
    segments = sorted(spool.glob("*/*/*.ndjson"))
    return [decode(line) for path in segments for line in path.read_bytes().splitlines()[1:]]


def logs(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The log records among lines."""
    return [line for line in lines if "kind" not in line]


def spans(lines: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The ended spans among lines, by their names."""
    return {line["name"]: line for line in lines if line.get("kind") == "span"}


class _Network(BaseHTTPRequestHandler):
    """A proxy that answers in the name of every host, and keeps what it was asked."""

    asked: list[tuple[str, str]]

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        _, trace_id, span_id, _ = self.headers["traceparent"].split("-")
        self.asked.append((self.path, f"{trace_id}-{span_id}"))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Not on standard error."""


@pytest.fixture
def network() -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Address of a proxy that is all hosts there are; the URLs it was asked for, with the caller's ids."""
    asked: list[tuple[str, str]] = []
    handler = type("Network", (_Network,), {"asked": asked})
    with HTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()
        thread.join()


def test_the_first_program_of_the_readme_records_its_log_line(repository: Path, tmp_path: Path) -> None:
    """With the ids of the span around it and with what is bound."""
    first = example((repository / "README.md").read_text(), "## 1.")
    lines = lines_of(f"{first}\nplace(7)\n", tmp_path)
    (line,), span = logs(lines), spans(lines)["place"]
    assert (line["message"], line["service"], line["attributes"]["order_id"]) == (
        "order accepted",
        "orders",
        7,
    )
    assert (line["trace_id"], line["span_id"]) == (span["trace_id"], span["span_id"])


def test_the_readmes_call_carries_its_trace(
    repository: Path, tmp_path: Path, network: tuple[str, list[tuple[str, str]]]
) -> None:
    """The call has the ids of its span, and the other side of one's own transport continues the trace."""
    readme = (repository / "README.md").read_text()
    program = (
        f"{example(readme, '## 1.')}\n{example(readme, '## 2.')}\n"
        "from types import SimpleNamespace\n"
        "with tracing.span('sender'):\n"
        "    sent = SimpleNamespace(headers=tracing.inject({}))\n"
        "handle(sent)\n"
    )
    proxy, asked = network
    found = spans(lines_of(program, tmp_path, http_proxy=proxy))
    call, sender, charge = found["POST"], found["sender"], found["charge"]
    assert asked == [("http://payments/charge", f"{call['trace_id']}-{call['span_id']}")]
    assert (charge["trace_id"], charge["parent_span_id"]) == (sender["trace_id"], sender["span_id"])
    assert charge["span_kind"] == "CONSUMER"


def test_the_program_of_the_docstring_records_its_log_line(tmp_path: Path) -> None:
    """What `help(tracing)` shows runs as it stands, too."""
    assert tracing.__doc__ is not None
    lines = lines_of(example(tracing.__doc__), tmp_path)
    (line,), span = logs(lines), spans(lines)["charge"]
    assert (line["message"], line["span_id"]) == ("charging", span["span_id"])
