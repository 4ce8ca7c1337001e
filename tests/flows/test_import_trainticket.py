"""The recorded TrainTicket day: imported whole, once, with every relation that its files state."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard

from collector.service import open_local

RECORDS = 186_978
TRACES = 1_653

pytestmark = [pytest.mark.shared, pytest.mark.flow]


def backtrail(*arguments: str) -> Any:
    """Run a command as a person would, and return its JSON."""
    done = subprocess.run(
        [sys.executable, "-m", "collector", *arguments, "--json"], capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def recorded_lines(files: list[Path]) -> Iterator[dict[str, Any]]:
    """The files' own lines, read without any code of ours."""
    for path in files:
        with path.open("rb") as raw, zstandard.ZstdDecompressor().stream_reader(raw) as stream:
            yield from map(json.loads, io.TextIOWrapper(stream, "utf-8"))


@pytest.fixture(scope="module")
def files(shared_rca: Path) -> list[Path]:
    """All 29 files: 28 faults and the healthy one."""
    found = sorted((shared_rca / "trainticket-2023-01-29").glob("*.ndjson.zst"))
    assert len(found) == 29
    return found


@pytest.fixture(scope="module")
def imported(files: list[Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A data directory with the whole day in it, and what the import said."""
    data_dir = tmp_path_factory.mktemp("trainticket")
    report = backtrail("import", *map(str, files), "--data-dir", str(data_dir))
    return data_dir, report


def test_every_record_is_stored_and_counted(imported: tuple[Path, Any]) -> None:
    """186 978 lines in the files, as many records in the store, none refused."""
    data_dir, report = imported
    assert report["records"] == RECORDS
    assert (report["unreadable"], report["refused"]) == ({}, [])
    assert backtrail("stats", "--data-dir", str(data_dir))["records"] == RECORDS


def test_every_trace_has_the_relations_of_its_files(imported: tuple[Path, Any], files: list[Path]) -> None:
    """Each span hangs below the parent that its line names; each log is at the span that its line names."""
    data_dir, _ = imported
    parents: dict[str, dict[str, str | None]] = {}
    logs: dict[str, list[tuple[str, str]]] = {}
    for line in recorded_lines(files):
        if line["kind"] == "span":
            parents.setdefault(line["trace_id"], {})[line["span_id"]] = line["parent_span_id"]
        else:
            logs.setdefault(line["trace_id"], []).append((line["span_id"], line["message"]))
    assert len(parents) == TRACES

    wrong = []
    with open_local(data_dir, write=False) as local:
        for trace_id, stated in parents.items():
            trace = local.answers.trace_model(trace_id)
            found = [(root.span_id, None) for root in trace.roots]
            found += [(child.span_id, node.span_id) for node in trace.walk() for child in node.children]
            # a parent that is in no file is drawn in its place, made up from its children
            missing = dict.fromkeys(set(stated.values()) - set(stated) - {None})
            placed = [(node.span_id, log.message) for node in trace.walk() for log in node.logs]
            if Counter(found) != Counter((stated | missing).items()):
                wrong.append(f"{trace_id}: spans")
            if sorted(placed) != sorted(logs.get(trace_id, [])):
                wrong.append(f"{trace_id}: logs")
    assert wrong == []


def test_a_second_import_adds_nothing(imported: tuple[Path, Any], files: list[Path]) -> None:
    """The same files again, in another order: known, every line of them."""
    data_dir, _ = imported
    report = backtrail("import", *map(str, reversed(files)), "--data-dir", str(data_dir))
    assert report["records"] == RECORDS
    assert backtrail("stats", "--data-dir", str(data_dir))["records"] == RECORDS
