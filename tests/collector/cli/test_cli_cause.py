"""Commands about causes, on the recorded sample: why, its page, its baseline; eval; changes."""

from __future__ import annotations

import json
import re
import shutil
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from collector.cli import NOT_THERE, NOTHING, OK, USAGE, main
from collector.diagnose.engine import SIGNALS

PATIENCE_S = 20.0
WINDOW = ["--start", "2023-01-29T09:42:00Z", "--end", "2023-01-29T09:45:00Z"]


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Path:
    """A copy of the recorded sample."""
    to = tmp_path_factory.mktemp("cause") / "sample"
    return Path(shutil.copytree(repository / "tests" / "data" / "rca-sample", to))


@pytest.fixture(scope="module")
def faulty(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with a fault, and nothing healthy."""
    path = tmp_path_factory.mktemp("faulty") / "data"
    assert main(["import", str(sample / "094226.ndjson.zst"), "--data-dir", str(path)]) == OK
    return path


@pytest.fixture(scope="module")
def baseline(sample: Path) -> Path:
    """What is normal there."""
    path = sample / "normal.baseline"
    assert main(["baseline", "build", str(path), str(sample / "normal.ndjson.zst")]) == OK
    return path


def asked(faulty: Path, baseline: Path, *more: str) -> list[str]:
    """The command that names the cause."""
    return ["why", "--data-dir", str(faulty), "--baseline", str(baseline), *WINDOW, *more]


def test_a_baseline_from_a_file_measures(
    faulty: Path, baseline: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without it there is nothing to compare with."""
    assert main(asked(faulty, baseline, "--json")) == OK
    verdict = json.loads(capsys.readouterr().out)
    assert verdict["services"][0] == "ts-verification-code-service"
    assert verdict["traces_compared"] >= 5
    assert verdict["measured_by"] == "given_baseline"
    main(["why", "--data-dir", str(faulty), *WINDOW, "--json"])
    assert json.loads(capsys.readouterr().out)["traces_compared"] == 0


def test_explain_shows_numbers_baseline_and_rank_of_each_signal(
    faulty: Path, baseline: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And three to ten records as a person would quote them."""
    assert main(asked(faulty, baseline, "--explain", "--json")) == OK
    verdict = json.loads(capsys.readouterr().out)
    assert 3 <= len(verdict["causes"][0]["evidence"]) <= 10
    explanation = verdict["explanation"]
    assert [item["signal"] for item in explanation["signals"]] == list(SIGNALS)
    assert [item["rank"] for item in explanation["noticed"]] == list(
        range(1, len(explanation["noticed"]) + 1)
    )
    first = explanation["noticed"][0]
    figures = {figure["name"]: figure for figure in first["figures"]}
    assert figures["runs"]["window"] > 0
    assert figures["runs"]["baseline"] > 0
    assert main(asked(faulty, baseline, "--explain")) == OK
    shown = capsys.readouterr().out
    for part in ("What each signal saw", "decades", "here", "healthy", first["summary"][:40]):
        assert part in shown
    assert main(asked(faulty, baseline)) == OK
    shown = capsys.readouterr().out
    assert "What each signal saw" not in shown
    assert f"taken for healthy, of {baseline}" in " ".join(shown.split())


class Page(HTMLParser):
    """What a page consists of."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_stands_alone(
    faulty: Path, baseline: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Chain, distributions and evidence in one file; no script, nothing from anywhere else."""
    file = tmp_path / "why.html"
    assert main(asked(faulty, baseline, "--html", str(file))) == OK
    assert str(file) in capsys.readouterr().err
    written = file.read_text(encoding="utf-8")
    page = Page(written)
    assert {"svg", "rect", "blockquote", "table", "h1"} <= page.tags
    assert not {"script", "link", "img", "iframe", "object", "form"} & page.tags
    assert not {"src", "href", "onload", "onclick", "action"} & page.attributes
    assert not re.search(r"https?://(?!www\.w3\.org)|url\(|@import", written)
    for part in ("Evidence", "Here and in healthy traces", "The chain of trace", "What each signal saw"):
        assert part in page.text
    assert "ts-verification-code-service" in page.text


def test_a_page_that_cannot_be_written_is_a_wrong_command(
    faulty: Path, baseline: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Which option, which file, and why."""
    for file, reason in ((tmp_path / "absent" / "why.html", "No such file"), (tmp_path, "Is a directory")):
        assert main(asked(faulty, baseline, "--html", str(file))) == USAGE
        assert f"--html {file}: cannot be written: {reason}" in capsys.readouterr().err


def test_a_page_without_a_cause_is_a_page(faulty: Path, tmp_path: Path) -> None:
    """It says what is lacking."""
    file = tmp_path / "none.html"
    window = ["--start", "2024-01-01T00:00:00Z", "--end", "2024-01-01T01:00:00Z"]
    assert main(["why", "--data-dir", str(faulty), *window, "--html", str(file)]) == NOTHING
    assert "no trace began in this time" in Page(file.read_text()).text


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["why", "a" * 32, "--baseline", "x", "--url", "http://127.0.0.1:9"], USAGE, "--data-dir"),
        (["baseline", "show", "/nonexistent"], NOTHING, "baseline build"),
        (["baseline", "build", "/tmp/never-written"], USAGE, "running collector"),
        (["change", "flag", "orders", "--url", "http://127.0.0.1:9"], NOT_THERE, "127.0.0.1:9"),
        (["eval", "/nonexistent", "--false-alarms"], NOTHING, "normal.ndjson.zst"),
    ],
)
def test_what_cannot_be_done_is_explained(
    arguments: list[str],
    status: int,
    said: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With what to do instead."""
    monkeypatch.delenv("BACKTRAIL_DATA_DIR", raising=False)
    assert main(arguments) == status
    assert said in capsys.readouterr().err


def test_a_file_that_is_no_baseline_is_named(
    faulty: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rather than taken for an empty one."""
    file = tmp_path / "other"
    for data in (b"\x93hello", b'"""A program."""'):
        file.write_bytes(data)
        assert main(asked(faulty, file)) == NOT_THERE
        complaint = capsys.readouterr().err
        assert f"{file}: not a baseline; `backtrail baseline build` makes one" in complaint
        assert "Expected" not in complaint


def test_a_baseline_is_built_from_a_data_directory_and_shown(
    faulty: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A stretch of time of it."""
    file = tmp_path / "b"
    command = ["baseline", "build", str(file), "--data-dir", str(faulty)]
    assert main([*command, *WINDOW, "--json"]) == OK
    built = json.loads(capsys.readouterr().out)
    assert built["traces"] >= 3
    assert main(["baseline", "show", str(file), "--json"]) == OK
    assert json.loads(capsys.readouterr().out) == built
    assert main(["baseline", "show", str(file)]) == OK
    assert "entry point" in capsys.readouterr().out
    empty = tmp_path / "empty"
    assert main(["baseline", "build", str(empty), "--data-dir", str(faulty), "--start", "1h"]) == NOTHING
    assert not empty.exists()


def test_eval_prints_what_is_asked_for(
    sample: Path, baseline: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Class table, code regions, calibration; measured by a file."""
    assert main(["eval", str(sample), "--class", "--inner", "--calibration"]) == OK
    shown = capsys.readouterr().out
    assert "as@1  100.0 %" in shown
    for part in ("class", "region", "it lies at", "confidence", "said", "right"):
        assert part in shown
    assert main(["eval", str(sample)]) == OK
    assert "it lies at" not in capsys.readouterr().out
    assert main(["eval", str(sample), "--baseline", str(baseline), "--json"]) == OK
    score: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert score["as@1"] == 1.0
    assert {"by_class", "calibration", "inner", "per_case"} <= set(score)
    assert all({"region", "cited", "inner"} <= set(case) for case in score["per_case"])
    assert sum(row["cases"] for row in score["calibration"]) == score["cases"]


def test_eval_of_healthy_minutes(sample: Path, baseline: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No alarm; exit status 1 when there is one."""
    assert main(["eval", str(sample), "--false-alarms", "--json"]) == OK
    healthy = json.loads(capsys.readouterr().out)
    assert healthy["windows"] >= 2
    assert healthy["false_alarms"] == 0
    fault = sample.parent / "fault-as-normal"
    fault.mkdir()
    shutil.copy(sample / "094226.ndjson.zst", fault / "normal.ndjson.zst")
    assert main(["eval", str(fault), "--false-alarms", "--baseline", str(baseline)]) == NOTHING
    assert "false alarm" in capsys.readouterr().out


def test_changes_are_told_and_listed(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """By a pipeline, to a running collector."""
    told = ["change", "deployment", "orders", "--old", "1.4.1", "--new", "1.4.2", "--url", url]
    assert main([*told, "--at", "2026-11-24T05:31:00Z"]) == OK
    assert "Recorded as" in capsys.readouterr().out
    deadline = time.monotonic() + PATIENCE_S
    while main(["changes", "--url", url]) != OK:
        assert time.monotonic() < deadline, "the change cannot be found"
        time.sleep(0.1)
    assert "deployment changed from 1.4.1 to 1.4.2" in capsys.readouterr().out
    assert main(["changes", "--service", "nobody", "--url", url]) == NOTHING
    assert main(["findings", "--url", url]) == NOTHING
    assert main([*told, "--at", "yesterday"]) == NOT_THERE
    assert "RFC 3339" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("changes", "no change told; `backtrail change` tells one"),
        (
            "findings",
            "nothing unusual told; the watch tells nothing before it knows 10 minutes and 200 traces",
        ),
    ],
)
def test_no_change_and_no_finding_are_said_in_words(
    command: str, said: str, faulty: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Silence would read as `all is well`."""
    assert main([command, "--data-dir", str(faulty)]) == NOTHING
    assert said in capsys.readouterr().err
