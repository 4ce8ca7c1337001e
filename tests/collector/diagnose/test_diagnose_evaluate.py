"""The score: strict ranks, healthy cases counted apart, labels read as leniently as promised."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import zstandard

from collector.diagnose.baseline import Baseline
from collector.diagnose.engine import SIGNALS
from collector.diagnose.evaluate import Label, evaluate, false_alarms, rank_of, read_traces
from collector.errors import NotFound
from collector.model import Cause, Verdict


@pytest.fixture
def sample(tmp_path: Path, repository: Path) -> Path:
    """A copy of the recorded sample, to be written to."""
    return Path(shutil.copytree(repository / "tests" / "data" / "rca-sample", tmp_path / "sample"))


def relabelled(folder: Path, *labels: dict[str, Any]) -> Path:
    (folder / "labels.json").write_text(json.dumps(labels))
    return folder


def cause(rank: int, service: str) -> Cause:
    return Cause(
        rank=rank, service=service, fault="slow", summary="", confidence=0.5, evidence=[], signals=[]
    )


def test_the_sample_is_scored(sample: Path) -> None:
    """Two faults are named, the healthy case raises no alarm."""
    score = evaluate(sample)
    assert (score["cases"], score["healthy_cases"], score["false_alarms"]) == (2, 1, 0)
    assert (score["as@1"], score["as@3"], score["as@5"]) == (1.0, 1.0, 1.0)
    assert [case["case"] for case in score["per_case"]] == [
        "094226.ndjson.zst",
        "142331.ndjson.zst",
        "110405-healthy-part.ndjson.zst",
    ]
    assert all({"case", "service", "rank", "ranking"} <= set(case) for case in score["per_case"])
    assert score["seconds"] > 0


@pytest.mark.parametrize(
    ("services", "label", "rank"),
    [
        ([(1, "a"), (2, "b")], Label(case="c", service="a"), 1),
        ([(1, "a"), (2, "b")], Label(case="c", service="b"), 2),
        ([(1, "a"), (2, "a"), (3, "b")], Label(case="c", service="b"), 2),  # distinct services
        ([(1, "a"), (1, "b"), (2, "c")], Label(case="c", service="a"), 2),  # a tie counts as its worst
        ([(1, "a"), (1, "b"), (2, "c")], Label(case="c", service="c"), 3),
        ([(1, "a")], Label(case="c", service="z"), None),
        ([(1, "a"), (2, "b")], Label(case="c", service="z", also_accepted=["b"]), 2),
        ([], Label(case="c", service="a"), None),
        ([(1, "a")], Label(case="c", service=None), None),
    ],
)
def test_the_rank_is_the_strict_one(services: list[tuple[int, str]], label: Label, rank: int | None) -> None:
    """Position among the distinct services, ties at their worst, missing is a miss."""
    assert rank_of(label, Verdict(causes=[cause(*pair) for pair in services])) == rank


def test_a_wrong_label_is_a_miss(sample: Path) -> None:
    """The score can be nought: it is computed, not promised."""
    score = evaluate(relabelled(sample, {"case": "094226.ndjson.zst", "service": "somebody-else"}))
    assert (score["cases"], score["as@1"], score["as@5"]) == (1, 0.0, 0.0)
    assert score["per_case"][0]["rank"] is None


def test_a_cause_named_in_a_healthy_case_is_a_false_alarm(sample: Path) -> None:
    """Counted apart, and not among the faults."""
    score = evaluate(relabelled(sample, {"case": "094226.ndjson.zst", "service": None}))
    assert (score["cases"], score["healthy_cases"], score["false_alarms"]) == (0, 1, 1)
    assert score["as@1"] is None


def test_also_accepted_services_count(sample: Path) -> None:
    """Any of them is right."""
    label = {"case": "094226.ndjson.zst", "service": "x", "also_accepted": ["ts-verification-code-service"]}
    assert evaluate(relabelled(sample, label))["as@1"] == 1.0


def test_keys_that_are_not_known_and_keys_that_are_null_do_not_matter(sample: Path) -> None:
    """Any but `case` may be null, and more may be there."""
    label = {
        "case": "094226.ndjson.zst",
        "service": "ts-verification-code-service",
        "also_accepted": None,
        "fault_type": None,
        "inner": None,
        "instance": None,
        "weather": {"sunny": True},
    }
    score = evaluate(relabelled(sample, label))
    assert (score["as@1"], score["inner"]) == (1.0, None)


def test_the_labels_do_not_influence_the_verdict(sample: Path) -> None:
    """The same ranking whatever they say."""
    first = evaluate(sample)["per_case"]
    lies = [{"case": case["case"], "service": "nobody"} for case in first]
    second = evaluate(relabelled(sample, *lies))["per_case"]
    assert [case["ranking"] for case in first] == [case["ranking"] for case in second]


def test_a_baseline_of_ones_own_takes_the_place_of_the_recording(sample: Path) -> None:
    """The fault-free file is then not even read."""
    baseline = Baseline()
    baseline.learn(read_traces(sample / "normal.ndjson.zst"))
    (sample / "normal.ndjson.zst").unlink()
    assert evaluate(sample, baseline=baseline)["as@1"] == 1.0


@pytest.mark.parametrize("missing", ["labels.json", "normal.ndjson.zst", "094226.ndjson.zst"])
def test_a_file_that_is_not_there_is_named(sample: Path, missing: str) -> None:
    """Whichever it is."""
    (sample / missing).unlink()
    with pytest.raises(NotFound, match=missing):
        evaluate(sample)


def test_labels_that_are_no_labels_are_named(sample: Path) -> None:
    """With what is wrong about them."""
    (sample / "labels.json").write_text('[{"service": "a"}]')
    with pytest.raises(ValueError, match="case"):
        evaluate(sample)


def test_by_class_and_calibration_add_up(sample: Path) -> None:
    """The tables are about the same cases as the score."""
    score = evaluate(sample)
    assert sum(row["cases"] for row in score["by_class"].values()) == score["cases"]
    assert sum(row["cases"] for row in score["calibration"]) == score["cases"]


# ------------------------------------------------------------------ the recorded systems


@pytest.mark.shared
@pytest.mark.parametrize(
    ("system", "first", "third", "inner"),
    [
        ("trainticket-2023-01-29", 0.93, 1.0, 0.7),
        ("onlineboutique-2022-08-23", 0.85, 0.92, 0.0),  # its code regions are lines of logs it has not
    ],
)
def test_recorded_faults_are_named(
    shared_rca: Path, system: str, first: float, third: float, inner: float
) -> None:
    """The same code and settings for both systems."""
    score = evaluate(shared_rca / system)
    assert score["as@1"] >= first
    assert score["as@3"] >= third
    assert score["inner"] >= inner


@pytest.mark.shared
@pytest.mark.parametrize("system", ["trainticket-2023-01-29", "onlineboutique-2022-08-23"])
def test_fault_free_halves_raise_no_alarm(shared_rca: Path, system: str) -> None:
    """Baseline from one half of the fault-free recording, window from the other, both ways."""
    halves = false_alarms(shared_rca / system, parts=2)
    assert halves == {"windows": 2, "false_alarms": 0, "named": [[], []]}


def test_a_fault_in_the_fault_free_recording_is_an_alarm(sample: Path) -> None:
    """The count of false alarms is a count, not a nought."""
    faulty = zstandard.ZstdDecompressor().stream_reader((sample / "094226.ndjson.zst").read_bytes()).read()
    normal = zstandard.ZstdDecompressor().stream_reader((sample / "normal.ndjson.zst").read_bytes()).read()
    (sample / "normal.ndjson.zst").write_bytes(zstandard.compress(normal + faulty))
    found = false_alarms(sample)
    assert found["false_alarms"] >= 1
    assert any("Code not found" in summary for causes in found["named"] for summary in causes)


def test_the_ablation_table_has_every_signal_removed_and_alone(sample: Path, repository: Path) -> None:
    """It is printed by one command; alone and removed differ from all where a signal decides."""
    file = sample / "scores.json"
    command = [sys.executable, "-m", "tests.bench.ablation", "--json", str(file), str(sample)]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr
    scores = json.loads(file.read_text())["sample"]
    for name in SIGNALS:
        assert f"without {name}" in done.stdout
        assert f"{name} alone" in done.stdout
    assert scores["all signals"]["as@1"] == 1.0
    assert scores["errors alone"]["as@1"] > scores["repeats alone"]["as@1"]


def test_healthy_minutes_may_be_measured_by_a_baseline_of_ones_own(sample: Path) -> None:
    """Each part then by the same; a recording of less than a minute has two."""
    baseline = Baseline()
    baseline.learn(read_traces(sample / "normal.ndjson.zst"))
    assert false_alarms(sample, baseline=baseline)["false_alarms"] == 0
    assert false_alarms(sample, baseline=baseline, parts=3)["windows"] == 3
    shutil.copy(sample / "094226.ndjson.zst", sample / "normal.ndjson.zst")  # a fault from end to end
    assert false_alarms(sample, baseline=baseline)["false_alarms"] >= 1
    assert false_alarms(sample)["false_alarms"] == 0
