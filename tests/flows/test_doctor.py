"""`backtrail doctor` in real processes: what is kept, what a program has lost and where that is said."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from collector.client import CollectorClient

TIMEOUT_S = 300.0  # a starved machine starts a process in seconds

LATE = """\
import logging

import grpc
from grpc import insecure_channel as dial

import tracing

channel = grpc.insecure_channel("localhost:1")
log = logging.getLogger(__name__)

tracing.configure(service="shop", exporter="none")
tracing.instrument()
later = grpc.insecure_channel("localhost:1")
"""


class Told(NamedTuple):
    """What the doctor said."""

    status: int
    out: str
    err: str

    @property
    def answer(self) -> dict[str, Any]:
        """Of `--json`."""
        found: dict[str, Any] = json.loads(self.out)
        return found

    def hop(self, name: str) -> dict[str, Any]:
        """One hop of the answer."""
        [found] = [hop for hop in self.answer["hops"] if hop["hop"] == name]
        return dict(found)

    def said(self, about: str) -> list[dict[str, Any]]:
        """What was found under one heading and is not good."""
        found = self.answer["findings"]
        return [one for one in found if one["about"] == about and one["state"] != "good"]


@pytest.fixture
def doctor(tmp_path: Path) -> Callable[..., Told]:
    """Calls `backtrail doctor` as a user does, in a directory of its own."""

    def call(*arguments: str, **variables: str) -> Told:
        ours = {
            name: value
            for name, value in os.environ.items()
            if not name.upper().startswith(("TRACING_", "OTEL_", "BACKTRAIL_"))
            and not name.upper().endswith(("_PROXY", "_URL"))
        }
        done = subprocess.run(
            [sys.executable, "-m", "tracing.launch", "doctor", *arguments],
            env={**ours, "TRACING_SPOOL_DIR": str(tmp_path / "spool"), "COLUMNS": "100", **variables},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
        )
        return Told(done.returncode, done.stdout, done.stderr)

    return call


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Callable[[str], str]]:
    """Writes a program of one module; gives the module's name."""

    def write(text: str) -> str:
        (tmp_path / "shop.py").write_text(text)
        return "shop"

    yield write


def test_each_hop_is_a_line_and_its_record_arrives(
    doctor: Callable[..., Told], shared_collector: Any
) -> None:
    """Kept, arrived, exit status 0; the collector can be asked for what the probes wrote."""
    told = doctor("--url", shared_collector.url, "--only", "threads", "--only", "logs", "--json")
    assert told.status == 0, told.out + told.err
    assert told.answer["kept"] is True
    assert {hop["arrived"] for hop in told.answer["hops"]} == {True}
    assert {hop["state"] for hop in told.answer["hops"]} == {"kept"}
    assert told.hop("threading.Thread")["cells"]["concurrent"] == "4 of 4"
    with CollectorClient(shared_collector.url) as client:
        trace = client.trace(told.hop("loguru")["trace_id"])
    assert trace["records"] == 3, "two spans and a line"


def test_a_person_gets_a_page(doctor: Callable[..., Told]) -> None:
    """A heading a layer, a line a hop, the sum at the end."""
    told = doctor("--offline", "--only", "queues", "--only", "redis")
    lines = told.out.splitlines()
    assert told.status == 0, told.out + told.err
    assert lines.index("Settings") < lines.index("Inside the process") < lines.index("Messages")
    assert f"  ✓ {'queue.Queue':<38} kept" in lines
    assert f"  – {'redis':<38} not tried: give --redis redis://HOST:6379" in lines
    assert lines[-1] == "6 of 6 hops kept, 1 not tried"


def test_what_a_variable_leaves_out_is_lost_and_the_variable_is_named(doctor: Callable[..., Told]) -> None:
    """The hop is lost, its neighbours are not, and what is to be changed is said."""
    told = doctor("--offline", "--only", "threads", "--json", TRACING_INSTRUMENT_EXCLUDE="threads")
    assert told.status == 1
    lost = told.hop("threading.Thread")
    assert (lost["state"], lost["where"]) == ("lost", "TRACING_INSTRUMENT_EXCLUDE")
    assert {lost["cells"][column] for column in ("log ids", "parent", "baggage")} == {"lost"}
    assert told.hop("ThreadPoolExecutor.submit")["state"] == "kept"
    assert told.hop("asyncio.to_thread")["state"] == "kept", "what Python itself carries"


def test_a_collector_that_is_away_is_said(doctor: Callable[..., Told], free_port: Callable[[], int]) -> None:
    """The hops are kept, and still it is not all well."""
    told = doctor("--url", f"http://127.0.0.1:{free_port()}", "--only", "logs", "--json")
    assert told.status == 1
    [bad] = told.said("The way to the collector")
    assert "did not take what the probes wrote" in bad["what"]
    assert {hop["state"] for hop in told.answer["hops"]} == {"kept"}


def test_what_was_bound_too_early_has_its_line(
    doctor: Callable[..., Told], program: Callable[[str], str]
) -> None:
    """A name that was taken, and what was made, before `instrument()`; what was made later is fine."""
    told = doctor("--offline", "--only", "logs", "--json", "--app", program(LATE))
    assert told.status == 1, told.out + told.err
    assert [one["where"] for one in told.said("The program") if one["state"] == "bad"] == [
        "shop.py:4",
        "shop.py:8",
    ]
    assert "`from grpc import insecure_channel as dial`" in told.said("The program")[0]["what"]


def test_under_run_nothing_is_bound_too_early(
    doctor: Callable[..., Told], program: Callable[[str], str]
) -> None:
    """`backtrail run` turns tracing on before the program's first import."""
    told = doctor("--offline", "--only", "logs", "--json", "--run", "--app", program(LATE))
    assert [one for one in told.said("The program") if one["state"] == "bad"] == []
    assert told.status == 0, told.out + told.err


def test_a_program_that_leaves_something_out_is_told_the_line(
    doctor: Callable[..., Told], program: Callable[[str], str]
) -> None:
    """The probes are as the program is, and what it left out has the line of the call."""
    name = program(
        'import tracing\ntracing.configure(service="shop")\ntracing.instrument(exclude=["queues"])\n'
    )
    told = doctor("--offline", "--only", "queues", "--json", "--app", name)
    assert told.status == 1
    assert (told.hop("queue.Queue")["state"], told.hop("queue.Queue")["where"]) == ("lost", "shop.py:3")
    assert told.hop("asyncio.Queue")["state"] == "kept"


def test_loggers_that_a_configuration_has_disabled(
    doctor: Callable[..., Told], program: Callable[[str], str]
) -> None:
    """`disable_existing_loggers` silences what was there before; the call that did it is named."""
    name = program(
        "import logging.config\nimport tracing\n"
        'log = logging.getLogger("shop.orders")\n'
        'tracing.configure(service="shop")\ntracing.instrument()\n'
        'logging.config.dictConfig({"version": 1})\n'
    )
    told = doctor("--offline", "--only", "logs", "--json", "--app", name)
    [bad] = [one for one in told.said("The program") if one["state"] == "bad"]
    assert (told.status, bad["where"]) == (1, "shop.py:6")
    assert "recorded: shop.orders" in bad["what"]


@pytest.mark.parametrize(
    ("text", "said"),
    [("raise SystemExit(3)\n", "SystemExit: 3"), ("import nowhere\n", "No module named 'nowhere'")],
)
def test_a_program_that_cannot_be_imported(
    doctor: Callable[..., Told], program: Callable[[str], str], text: str, said: str
) -> None:
    """Nothing can be told then: exit status 2, and the reason."""
    told = doctor("--offline", "--app", program(text))
    assert (told.status, told.out) == (2, "")
    assert said in told.err


def test_a_malformed_setting_is_no_diagnosis(doctor: Callable[..., Told]) -> None:
    """The program would not start either: exit status 2, with the variable's name."""
    told = doctor("--offline", TRACING_SPOOL_MODE="quick")
    assert (told.status, told.out) == (2, "")
    assert "TRACING_SPOOL_MODE" in told.err


def test_a_spool_that_cannot_be_written_and_spans_that_are_dropped(
    doctor: Callable[..., Told], tmp_path: Path
) -> None:
    """Settings that lose something are said, with the variable."""
    (tmp_path / "file").write_text("")
    told = doctor(
        "--offline",
        "--only",
        "logs",
        "--json",
        TRACING_SPOOL_DIR=str(tmp_path / "file" / "spool"),
        TRACING_SAMPLER="always_off",
        TRACING_SERVICE="shop",
    )
    said = {one["where"]: one["state"] for one in told.said("Settings")}
    assert (told.status, said) == (1, {"TRACING_SPOOL_DIR": "bad", "TRACING_SAMPLER": "note"})
