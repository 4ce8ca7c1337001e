"""Lines on standard output and in a file: whole, complete by themselves, whatever happens to the file."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import orjson
import pytest

from tracing.errors import ConfigurationError
from tracing.export import open_exporter
from tracing.export import stream as stream_module
from tracing.line import decode, encode
from tracing.settings import Settings

RESOURCE = {"service.name": "orders", "host.name": "here", "process.pid": 1}


def line(message: str) -> bytes:
    """A log line."""
    return encode({"timestamp": 1, "level": "INFO", "service": "orders", "message": message})


def file_exporter(path: Path) -> Any:
    """As `configure()` opens it."""
    return open_exporter(Settings(exporter="file", export_file=path), RESOURCE)


def read(path: Path) -> list[dict[str, Any]]:
    """All lines of a file, checked."""
    return [decode(text) for text in path.read_bytes().splitlines()]


def test_each_line_names_its_process(tmp_path: Path) -> None:
    """There is no header line, so each line carries the resource, with the right process id."""
    path = tmp_path / "deep" / "out.ndjson"
    exporter = file_exporter(path)
    exporter.write(line("parent"), 9)
    child = os.fork()
    if child == 0:
        exporter.write(line("child"), 9)
        os._exit(0)
    os.waitpid(child, 0)
    exporter.write(line("parent again"), 9)
    found = [(record["message"], record["resource"]) for record in read(path)]
    assert found == [
        ("parent", RESOURCE | {"process.pid": os.getpid()}),
        ("child", RESOURCE | {"process.pid": child}),
        ("parent again", RESOURCE | {"process.pid": os.getpid()}),
    ]
    assert exporter.stats() == {"lines": 2, "lost_write_failed": 0}
    assert path.stat().st_mode & 0o777 == 0o600


def test_an_existing_file_is_appended_to(tmp_path: Path) -> None:
    """Also by two exporters at once."""
    path = tmp_path / "out.ndjson"
    path.write_bytes(line("was there"))
    one, other = file_exporter(path), file_exporter(path)
    for number in range(10):
        (one, other)[number % 2].write(line(f"m{number}"), 9)
    assert [record["message"] for record in read(path)] == ["was there", *(f"m{n}" for n in range(10))]


@pytest.mark.parametrize("how", ["renamed", "deleted"])
def test_a_rotated_file_is_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    """Under the same descriptor, so that a thread in the middle of a write never writes to a stranger."""
    monkeypatch.setattr(stream_module, "REOPEN_CHECK_INTERVAL_S", 0.0)
    path, old = tmp_path / "out.ndjson", tmp_path / "out.ndjson.1"
    exporter = file_exporter(path)
    exporter.write(line("before"), 9)
    descriptor = exporter._fd
    if how == "renamed":
        path.rename(old)
    else:
        path.unlink()
    exporter.write(line("after"), 9)
    assert exporter._fd == descriptor
    assert [record["message"] for record in read(path)] == ["after"]
    if how == "renamed":
        assert [record["message"] for record in read(old)] == ["before"]


def test_a_full_disk_costs_the_line_and_no_more() -> None:
    """/dev/full takes nothing: counted, and not raised."""
    exporter = file_exporter(Path("/dev/full"))
    exporter.write(line("m"), 9)
    assert exporter.stats() == {"lines": 0, "lost_write_failed": 1}
    assert exporter.flush(0.0)


def test_a_file_that_cannot_be_opened_stops_the_start(tmp_path: Path) -> None:
    """The operator learns it at once, with the reason."""
    with pytest.raises(ConfigurationError, match="Is a directory"):
        file_exporter(tmp_path)


def test_an_unknown_way_out_stops_the_start() -> None:
    """`spool` and `none` are opened elsewhere."""
    with pytest.raises(ConfigurationError, match="spool"):
        open_exporter(Settings(exporter="spool"), RESOURCE)


def test_standard_output_has_our_lines_among_the_programs_own() -> None:
    """Configured by one variable; each of our lines is one JSON object on a line of its own."""
    program = """
        import logging, tracing
        tracing.configure()
        print("mine", flush=True)
        with tracing.span("work"):
            logging.getLogger("shop").info("not shown, below the level")
            logging.getLogger("shop").warning("x" * 20_000)
    """
    outer = {name: value for name, value in os.environ.items() if not name.startswith(("TRACING_", "OTEL_"))}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        env=outer | {"TRACING_EXPORTER": "stdout", "TRACING_SERVICE": "orders"},
        capture_output=True,
        timeout=60,
        check=True,
    )
    first, *ours = done.stdout.splitlines()
    assert first == b"mine"
    records = [orjson.loads(text) for text in ours]
    assert [record.get("kind") for record in records] == ["span_start", None, "span"]
    assert {record["resource"]["service.name"] for record in records} == {"orders"}
    assert len({record["trace_id"] for record in records}) == 1
