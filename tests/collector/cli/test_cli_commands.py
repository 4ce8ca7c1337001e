"""The commands from argument to exit status: on a data directory and on a running collector alike."""

from __future__ import annotations

import gzip
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from collector.cli import NOT_THERE, NOTHING, OK, USAGE, main

WINDOW = ("--start", "2026-11-24T05:30:00Z", "--end", "2026-11-24T05:35:00Z")
UNKNOWN_TRACE = "0" * 31 + "1"


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BACKTRAIL_URL", "BACKTRAIL_DATA_DIR", "BACKTRAIL_TOKEN"):
        monkeypatch.delenv(name, raising=False)


def ask(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """Run a command in this process; its status and its output."""
    capsys.readouterr()
    status = main(list(arguments))
    return status, capsys.readouterr().out


COMMANDS = [
    ("trace", "5f3c" * 8),
    ("why", "5f3c" * 8),
    ("services",),
    ("services", "orders"),
    ("map",),
    ("search", "service:inventory"),
    ("search", "--traces", "level:ERROR"),
    ("rates", *WINDOW),
    ("rates", "orders", *WINDOW, "--step", "2m"),
    ("templates", *WINDOW),
    ("templates", "level:ERROR", *WINDOW),
    ("search", "--traces", "--failed", "--min-duration", "1ms", "service:gateway >> service:inventory"),
    ("why", *WINDOW),
    ("search", "level:>=INFO", "--by", "service"),
]
# What the order was not part of: no record, whichever way it is asked.
NOTHING_THERE = [
    ("search", "--environment", "nowhere"),
    ("search", "--traces", "--ok"),
    ("search", "--by", "no.such.field"),
    ("search", "--traces", "service:inventory >> service:gateway"),
    ("map", "--environment", "nowhere"),
    ("services", "--version", "9"),
    ("services", "nobody"),
    ("why", *WINDOW, "--version", "9"),
    ("tail", "--environment", "nowhere"),
    ("rates", *WINDOW, "--environment", "nowhere"),
    ("templates", *WINDOW, "--version", "9"),
]


@pytest.mark.parametrize(
    "command", [*COMMANDS, *(one for one in NOTHING_THERE if one[0] != "tail")], ids=" ".join
)
def test_a_directory_and_a_collector_answer_alike(
    command: tuple[str, ...], data_dir: Path, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same question, the same status, the same objects, whichever way."""
    status, here = ask(capsys, *command, "--data-dir", str(data_dir), "--json")
    also_status, there = ask(capsys, *command, "--url", url, "--json")
    assert status == also_status
    assert json.loads(here) == json.loads(there)


@pytest.mark.parametrize("command", [*COMMANDS, ("stats",)], ids=" ".join)
def test_every_answer_can_be_drawn(
    command: tuple[str, ...], data_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is not JSON is plain text when nobody looks: no colour, no escape."""
    _, text = ask(capsys, *command, "--data-dir", str(data_dir))
    assert text.strip()
    assert "\x1b" not in text


@pytest.mark.parametrize("command", NOTHING_THERE, ids=" ".join)
def test_nothing_is_said_in_words(
    command: tuple[str, ...], data_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And by the status; an empty screen leaves people wondering."""
    assert main([*command, "--data-dir", str(data_dir)]) == NOTHING
    output, error = capsys.readouterr()
    assert output.strip() or error.strip()


@pytest.mark.parametrize(
    ("command", "hint"),
    [
        (("search", "servce:orders"), "servce is no field of ours; did you mean 'service'?"),
        (("search", "leel:ERROR", "service:orders"), "leel is no field of ours; did you mean 'level'?"),
        (("search", "timestamp:>15m"), "nothing found"),
        (("services", "inventry"), "did you mean 'inventory'?"),
        (("search", "a ("), "(at character 4)"),
        (("search", "--traces", "a >>"), "nothing stands behind >> (at character 5)"),
    ],
)
def test_a_slip_is_recognised(
    command: tuple[str, ...], hint: str, data_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing found is often something misspelt."""
    assert main([*command, "--data-dir", str(data_dir)]) in (NOTHING, USAGE)
    assert hint in capsys.readouterr().err


def test_a_search_is_saved_as_a_link(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever follows it gets the same answer, also later: its times are absolute."""
    asked = (
        "search",
        "--traces",
        "--failed",
        "--start",
        "2026-11-24",
        "-n",
        "3",
        "level:ERROR",
        "--url",
        url,
    )
    link = ask(capsys, *asked, "--link")[1].strip()
    assert "start=2026-11-24T00%3A00%3A00" in link
    assert json.loads(urlopen(link).read()) == json.loads(ask(capsys, *asked, "--json")[1])
    assert "15m" not in ask(capsys, "search", "--start", "15m", "--link", "--url", url)[1]
    assert main(["search", "x", "--link", "--data-dir", "here"]) == USAGE


def test_no_password_is_shown(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Settings are pasted into tickets."""
    monkeypatch.setenv("BACKTRAIL_STORE", "https://elastic:hunter2@search:9200")
    monkeypatch.setenv("BACKTRAIL_READ_TOKEN", "hunter2")
    for form in ((), ("--json",)):
        _, text = ask(capsys, "config", "check", *form)
        assert "https://search:9200" in text
        assert "hunter2" not in text


def test_settings_fit_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """What each is for is told when it is asked for; a program gets it anyway."""
    meaning = "directory of all that is kept"
    assert meaning not in ask(capsys, "config", "check")[1]
    assert meaning in ask(capsys, "config", "check", "--full")[1]
    assert meaning in ask(capsys, "config", "check", "--json")[1]


def test_stats_counts_records(data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Logs and spans, each once."""
    status, text = ask(capsys, "stats", "--data-dir", str(data_dir), "--json")
    stats = json.loads(text)
    assert (status, stats["records"], stats["spans"], stats["logs"]) == (OK, 8, 5, 3)


def test_the_environment_names_the_place(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A variable stands for the flag, and the flag goes before it."""
    monkeypatch.setenv("BACKTRAIL_DATA_DIR", str(data_dir))
    assert ask(capsys, "services")[0] == OK
    assert ask(capsys, "services", "--data-dir", "/nonexistent")[0] == NOT_THERE
    monkeypatch.setenv("BACKTRAIL_URL", "http://127.0.0.1:1")
    assert ask(capsys, "services")[0] == NOT_THERE


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["trace", UNKNOWN_TRACE], NOTHING, "nothing is stored under this id"),
        (["trace", "xyz"], USAGE, "32 hexadecimal digits"),
        (["why"], USAGE, "name a trace, `why TRACE_ID`, or a time range, `why --start 15m`"),
        (["why", UNKNOWN_TRACE, "--start", "15m"], USAGE, "TRACE_ID and --start: name one of them, not both"),
        (["search", "service:nobody"], NOTHING, "nothing found"),
        (["search", "level:("], USAGE, ""),
        (["search", "--start", "yesterdy"], USAGE, "yesterdy"),
        (["serach"], USAGE, "Did you mean 'search'?"),
        (["trace"], USAGE, "Missing argument"),
        (["demo", "--fault", "crahs"], USAGE, "did you mean 'crash'?"),
        (["serve", "--prot", "1"], USAGE, "did you mean '--port'?"),
        (["serve", "--port", "99999"], USAGE, "port = 99999 (flag): must be less than or equal to 65535"),
        (["serve", "--commit-interval-s"], USAGE, "a value must follow"),
        (["serve", "--commit-interval-s", "soon"], USAGE, "commit_interval_s"),
        (["eval", "/nonexistent"], USAGE, "no labels.json"),
        (["stats", "--url", "http://127.0.0.1:1"], NOT_THERE, "nobody listens there"),
        (["stats", "--data-dir", "/nonexistent"], NOT_THERE, "no such directory"),
        (["stats", "--data-dir", "/tmp", "--url", "http://x"], USAGE, "one of them, not both"),
    ],
)
def test_what_is_wrong_is_said_with_a_status(
    arguments: list[str], status: int, said: str, data_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each error is one message that says what to do, and a documented exit status; never a traceback."""
    place = (
        []
        if {"--url", "--data-dir", "serve", "demo", "eval", "serach"} & set(arguments)
        else [
            "--data-dir",
            str(data_dir),
        ]
    )
    capsys.readouterr()
    assert main([*arguments, *place]) == status
    complaint = capsys.readouterr().err
    assert said in complaint
    assert "Traceback" not in complaint


def test_import_counts_what_it_cannot_read(
    recorded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Broken lines are counted by reason and shown; the good lines beside them are stored."""
    file = tmp_path / "mixed.ndjson.gz"
    file.write_bytes(gzip.compress(b"{broken\n" + recorded.read_bytes() + b'{"timestamp": "noon"}\n'))
    data = str(tmp_path / "data")
    status, text = ask(capsys, "import", str(file), str(tmp_path / "absent"), "--data-dir", data)
    assert status == NOTHING
    assert "8 records added." in text
    assert "2 lines and 1 file could not be read:" in text
    assert f"{file}:1: " in text
    assert f"{tmp_path / 'absent'}: " in text
    assert json.loads(ask(capsys, "stats", "--data-dir", data, "--json")[1])["records"] == 8


def test_import_reads_standard_input_and_is_harmless_twice(
    recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`zcat logs.gz | backtrail import -` works, and the same lines again add nothing."""
    data = str(tmp_path / "data")
    for added in (8, 0):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(recorded.read_bytes())))
        status, text = ask(capsys, "import", "-", "--data-dir", data, "--json")
        report = json.loads(text)
        assert (status, report["stored"], report["already_stored"]) == (OK, added, 8 - added)


def test_a_reader_that_stops_early_is_no_error(data_dir: Path) -> None:
    """`backtrail trace … | head -1` ends quietly."""
    command = [sys.executable, "-m", "collector", "trace", "5f3c" * 8, "--json", "--data-dir", str(data_dir)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""


def test_help_is_quick_because_it_imports_nothing_heavy() -> None:
    """The list of commands needs neither the store, nor the network, nor the diagnosis."""
    program = (
        "import sys; from collector.cli import main; main(['--help']); "
        "sys.stderr.write(' '.join(sorted(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert "search" in done.stdout
    heavy = {"tantivy", "starlette", "uvicorn", "grpc", "celery", "pydantic_settings", "rich.console"}
    assert not heavy & set(done.stderr.split())


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("backtrail se", {"serve", "search", "services"}),
        ("backtrail demo --fault cr", {"crash", "crash-loop"}),
    ],
)
def test_the_shell_completes_commands_and_values(words: str, offered: set[str]) -> None:
    """What `backtrail --install-completion` installs asks the program itself."""
    place = str(len(words.split()) - 1)
    environment = {
        **os.environ,
        "_BACKTRAIL_COMPLETE": "complete_bash",
        "COMP_WORDS": words,
        "COMP_CWORD": place,
    }
    program = "from tracing.launch import main; main([])"
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert set(done.stdout.split()) == offered


@pytest.mark.parametrize("form", ["ndjson", "csv", "chrome-trace"])
def test_a_directory_and_a_collector_export_alike(
    form: str, data_dir: Path, url: str, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """The same bytes, whichever way (`otlp-json` would also say when each of the two was received)."""
    exports = []
    for place in (("--data-dir", str(data_dir)), ("--url", url)):
        capfdbinary.readouterr()
        assert main(["export", "--format", form, "--trace-id", "5f3c" * 8, *place]) == OK
        exports.append(capfdbinary.readouterr().out)
    assert exports[0] == exports[1]
    assert b"check credit" in exports[0]


def test_what_is_exported_can_be_imported(
    data_dir: Path, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """Out of one directory and into another: every record."""
    assert main(["export", "--data-dir", str(data_dir)]) == OK
    file = tmp_path / "all.ndjson"
    file.write_bytes(capfdbinary.readouterr().out)
    assert main(["import", str(file), "--data-dir", str(tmp_path / "copy"), "--json"]) == OK
    assert json.loads(capfdbinary.readouterr().out)["stored"] == 8


def test_delete_asks_first(
    recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing goes without a yes, by word or by flag; and nobody deletes everything by leaving out what."""
    data = ("--data-dir", str(tmp_path / "data"))
    assert main(["import", str(recorded), *data]) == OK
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    assert main(["delete", "service:inventory", *data]) == NOTHING
    assert "Delete 1 record from" in capsys.readouterr().out
    assert main(["delete", "--yes", *data]) == USAGE
    status, text = ask(capsys, "delete", "service:inventory", "--yes", *data)
    assert (status, text.strip()) == (OK, "1 record deleted.")
    assert json.loads(ask(capsys, "stats", "--json", *data)[1])["records"] == 7


def test_the_canary_is_heard(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What it writes it finds, once."""
    status, text = ask(capsys, "canary", "--rounds", "2", "--interval-s", "0.01", "--url", url)
    assert status == OK, text
    assert "round 2: found after" in text


def test_the_canary_complains_without_a_collector(capsys: pytest.CaptureFixture[str]) -> None:
    """A collector that is away is what it is there to notice."""
    status, text = ask(capsys, "canary", "--rounds", "1", "--url", "http://127.0.0.1:1")
    assert (status, "not well" in text) == (NOTHING, True)


def test_whoever_runs_a_collector_gets_json_too(
    url: str, data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """From every command, so that a script never reads what is made for people."""

    def told(*arguments: str) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(ask(capsys, *arguments, "--json")[1])
        return answer

    assert {"state", "what", "advice"} == set(told("check", "--url", url)["findings"][0])
    settings = told("config", "check")["settings"]
    assert {"name": "port", "value": "4318", "from": "default"}.items() <= next(
        setting.items() for setting in settings if setting["name"] == "port"
    )
    rounds = told("canary", "--rounds", "1", "--url", url)
    assert (rounds["round"], rounds["is_well"], rounds["lost"]) == (1, True, 0)
    copy = told("backup", str(tmp_path / "copy"), "--data-dir", str(data_dir))
    back = told("restore", str(tmp_path / "copy"), "--data-dir", str(tmp_path / "back"))
    assert copy["bytes"] == back["bytes"] > 0
    assert json.loads(ask(capsys, "stats", "--data-dir", back["target"], "--json")[1])["records"] == 8


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("backtrail se", {"search", "services", "serve"}),
        ("backtrail search --min", {"--min-duration"}),
        ("backtrail export --format c", {"csv", "chrome-trace"}),
    ],
)
def test_a_shell_completes(typed: str, offered: set[str]) -> None:
    """Commands, options and their values."""
    words = {"COMP_WORDS": typed, "COMP_CWORD": str(len(typed.split()) - 1)}
    answer = subprocess.run(
        [sys.executable, "-m", "tracing.launch"],
        env=os.environ | {"_BACKTRAIL_COMPLETE": "complete_bash"} | words,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert set(answer.stdout.split()) == offered


def test_a_folder_is_not_imported(recorded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is said how its files are named, before a data directory is made."""
    data = tmp_path / "data"
    assert main(["import", str(recorded), str(tmp_path), "--data-dir", str(data)]) == USAGE
    complaint = capsys.readouterr().err
    assert f"{tmp_path}: a folder; name its files" in complaint
    assert f"{tmp_path}/*.ndjson" in complaint
    assert not data.exists()
