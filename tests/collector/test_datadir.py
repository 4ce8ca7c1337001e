"""The data directory: one writer, one format."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from collector import datadir
from collector.datadir import DataDirectory, check_readable, read_format, write_atomically
from collector.errors import ConfigurationError, Damaged, DataDirectoryInUse


def test_a_second_writer_is_refused_and_hears_who_has_it(tmp_path: Path) -> None:
    """In the same process, too; and when the first is done, the next may."""
    first = DataDirectory.open(tmp_path / "data")
    with pytest.raises(DataDirectoryInUse, match=r"in use by process \d+; stop that collector"):
        DataDirectory.open(first.path)
    first.close()
    DataDirectory.open(first.path).close()


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """As the setting that it is, with the reason."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match=r"data_dir .*/file/data: Not a directory"):
        DataDirectory.open(tmp_path / "file" / "data")


def test_a_killed_writer_leaves_no_lock(tmp_path: Path) -> None:
    """The lock ends with its process, however that ended."""
    code = (
        "import os, signal, sys, pathlib; from collector.datadir import DataDirectory;"
        "kept = DataDirectory.open(pathlib.Path(sys.argv[1])); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False, timeout=60)
    assert done.returncode == -9
    assert (tmp_path / "format.json").exists()
    DataDirectory.open(tmp_path).close()


def test_a_directory_with_other_things_is_not_taken_over(tmp_path: Path) -> None:
    """A mistyped path must not fill somebody's home with our files."""
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(Damaged, match=r"holds 'thesis\.tex'"):
        DataDirectory.open(tmp_path)


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    """Older programs keep their hands off."""
    (tmp_path / "format.json").write_text(json.dumps({"backtrail_data": datadir.FORMAT_VERSION + 1}))
    with pytest.raises(Damaged, match="newer version"):
        DataDirectory.open(tmp_path)
    with pytest.raises(Damaged, match="this version reads"):
        check_readable(tmp_path)


@pytest.mark.parametrize("version", [0, -1])
def test_an_older_format_without_an_upgrade_is_refused(tmp_path: Path, version: int) -> None:
    """In words, and the directory is as it was."""
    (tmp_path / "format.json").write_text(json.dumps({"backtrail_data": version}))
    with pytest.raises(Damaged, match=f"written in format {version}"):
        DataDirectory.open(tmp_path)
    assert read_format(tmp_path) == version


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"backtrail_data": "1"}', "\x00"])
def test_a_format_file_that_is_not_ours_is_named(tmp_path: Path, content: str) -> None:
    """With what it should hold."""
    (tmp_path / "format.json").write_text(content)
    with pytest.raises(Damaged, match=r"format\.json"):
        read_format(tmp_path)


def test_upgrades_run_in_order_and_are_written_down_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crash in the second upgrade repeats the second, not the first."""
    DataDirectory.open(tmp_path).close()
    ran: list[int] = []

    def fails_once(path: Path) -> None:
        ran.append(2)
        if ran.count(2) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(datadir, "FORMAT_VERSION", 3)
    monkeypatch.setattr(datadir, "UPGRADES", {1: lambda path: ran.append(1), 2: fails_once})
    with pytest.raises(KeyboardInterrupt):
        DataDirectory.open(tmp_path)
    DataDirectory.open(tmp_path).close()
    assert (ran, read_format(tmp_path)) == ([1, 2, 2], 3)


def test_nothing_here_is_said_without_making_anything(tmp_path: Path) -> None:
    """A reader does not create what it does not find."""
    with pytest.raises(FileNotFoundError, match="no data here"):
        check_readable(tmp_path / "absent")
    assert list(tmp_path.iterdir()) == []


def test_an_atomic_write_leaves_one_file(tmp_path: Path) -> None:
    """The new content under the old name, nothing beside it."""
    write_atomically(tmp_path / "f", b"1")
    write_atomically(tmp_path / "f", b"2")
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("f", b"2")]
