"""A data directory without a server: import, read, and read while somebody writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from collector.client import import_bodies
from collector.errors import CollectorError, Damaged, DataDirectoryInUse
from collector.service import Collector, open_local
from collector.service.pipeline import Pipeline
from collector.settings import Settings

PATIENCE_S = 30.0


def records(count: int, **fields: Any) -> list[tuple[str, bytes]]:
    """Identities and lines."""
    return [
        (
            f"u-{number}",
            json.dumps(
                {
                    "timestamp": f"2026-11-24T05:32:11.{number:09}Z",
                    "level": "INFO",
                    "service": "orders",
                    "message": f"message {number}",
                    **fields,
                }
            ).encode(),
        )
        for number in range(count)
    ]


def test_importing_twice_adds_nothing(tmp_path: Path) -> None:
    """In one go, and after closing; the second time everything is known."""
    with open_local(tmp_path / "data", write=True) as local:
        assert local.import_records(records(300)) == {"stored": 300, "already_stored": 0, "refused": []}
        assert local.import_records(records(301)) == {"stored": 1, "already_stored": 300, "refused": []}
        assert local.answers.stats()["records"] == 301
    with open_local(tmp_path / "data", write=True) as local:
        assert local.import_records(records(301)) == {"stored": 0, "already_stored": 301, "refused": []}
    with open_local(tmp_path / "data", write=False) as local:
        assert local.answers.stats()["records"] == 301
        assert local.answers.logs(limit=1)["records"][0]["uid"] == "u-300"


def test_lines_that_are_refused_are_named_and_their_neighbours_kept(tmp_path: Path) -> None:
    """With the reason and the field."""
    given = [*records(2), ("bad", b'{"level": "INFO"}'), ("worse", b"nonsense"), ("u-9", records(1)[0][1])]
    with open_local(tmp_path / "data", write=True) as local:
        answer = local.import_records(given)
        assert answer["stored"] == 3
        assert [(line["reason"], line["field"]) for line in answer["refused"]] == [
            ("missing_field", "timestamp"),
            ("not_json", None),
        ]


def test_reading_leaves_a_running_collector_alone(tmp_path: Path) -> None:
    """It sees what is committed; writing is refused with a word on what to do."""
    settings = Settings(data_dir=tmp_path / "data", port=0)
    with Collector(settings) as running:
        for body in import_bodies(records(5)):
            running.pipeline.intake.records({"backtrail-import": "1"}, body)
        assert running.pipeline.drain(PATIENCE_S)
        with open_local(settings.data_dir, write=False) as local:
            assert local.answers.stats()["records"] == 5
            with pytest.raises(CollectorError, match="for reading"):
                local.import_records(records(1))
        with pytest.raises(DataDirectoryInUse, match="in use by process"):
            open_local(settings.data_dir, write=True)


def test_what_a_crash_left_in_the_log_is_read_too(tmp_path: Path) -> None:
    """Acknowledged before the crash, so it must be found, also without a collector."""
    settings = Settings(data_dir=tmp_path / "data")
    crashed = Pipeline.open(settings)
    crashed.indexer.stop()  # from here on nothing is indexed, as if the process had been killed
    for body in import_bodies(records(7)):
        crashed.intake.records({"backtrail-import": "1"}, body)
    crashed.wal.close()
    crashed.ledger.close()
    crashed.store.close()
    crashed._directory.close()
    with open_local(settings.data_dir, write=False) as local:
        assert local.answers.stats()["records"] == 7


def test_nothing_to_read_is_said(tmp_path: Path) -> None:
    """And nothing is made."""
    with pytest.raises(FileNotFoundError, match="no data here"):
        open_local(tmp_path / "absent", write=False)
    assert not (tmp_path / "absent").exists()


def test_a_directory_that_is_not_ours_is_left_alone(tmp_path: Path) -> None:
    """Neither read nor written."""
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(Damaged, match=r"notes\.txt"):
        open_local(tmp_path, write=True)
    with pytest.raises(FileNotFoundError):
        open_local(tmp_path, write=False)
