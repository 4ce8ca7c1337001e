"""`backtrail run`: the program behaves as it would alone, and is traced."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Sequence
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import orjson
import pytest

from tracing import launch
from tracing.spool.adoption import spools
from tracing.spool.reader import read_lines

# Nobody listens there, so that what is left stays on disk for the test to look at.
NOBODY = "http://127.0.0.1:9"


def environment(root: Path, **more: str) -> dict[str, str]:
    """What a program is started with."""
    outer = {name: value for name, value in os.environ.items() if not name.startswith(("TRACING_", "OTEL_"))}
    ours = {"TRACING_SPOOL_DIR": str(root), "TRACING_COLLECTOR_URL": NOBODY, "TRACING_SERVICE": "orders"}
    return outer | ours | more


def backtrail_run(
    root: Path, *command: str, options: Sequence[str] = ("--drain-timeout", "0"), **more: str
) -> subprocess.CompletedProcess[str]:
    """Run `backtrail run` as a person would."""
    return subprocess.run(
        [sys.executable, "-m", "tracing.launch", "run", *options, "--", *command],
        env=environment(root, **more),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def python(code: str) -> list[str]:
    """A Python program as a command."""
    return [sys.executable, "-c", textwrap.dedent(code)]


def logged(root: Path, service: str = "orders") -> list[dict[str, Any]]:
    """All lines of a service, decoded."""
    return [orjson.loads(line) for path in spools(root / service) for _, line in read_lines(path)]


def test_a_program_is_traced_without_a_change(tmp_path: Path) -> None:
    """Its log lines are in the spool, its output and its exit status are its own."""
    done = backtrail_run(
        tmp_path,
        *python("""
            import logging, sys
            logging.getLogger("shop").error("from the program")
            print("output")
            sys.exit(7)
        """),
    )
    assert (done.returncode, done.stdout) == (7, "output\n")
    assert done.stderr.startswith("from the program\n")
    lines = logged(tmp_path)
    assert [line["message"] for line in lines if "kind" not in line] == ["from the program"]
    assert lines[-1]["close"]["ended"] == "exit"


def test_programs_that_it_starts_are_traced_too(tmp_path: Path) -> None:
    """A server that executes its workers has them traced."""
    inner = "import logging; logging.getLogger('shop').error('inner')"
    done = backtrail_run(
        tmp_path, *python(f"import subprocess, sys; subprocess.run([sys.executable, '-c', {inner!r}])")
    )
    assert done.returncode == 0
    assert "inner" in [line.get("message") for line in logged(tmp_path)]


def test_options_are_settings_of_the_program(tmp_path: Path) -> None:
    """They win over the environment, as what is nearer does."""
    root = tmp_path / "elsewhere"
    done = backtrail_run(
        tmp_path,
        *python("import logging; logging.getLogger('shop').error('m')"),
        options=("--service", "billing", "--spool-dir", str(root), "--url", NOBODY, "--drain-timeout", "0"),
    )
    assert done.returncode == 0
    assert [line["service"] for line in logged(root, "billing") if "message" in line] == ["billing"]


def test_the_sitecustomize_of_the_machine_is_run_first(tmp_path: Path) -> None:
    """Python imports one only; ours hands on to the one that would have been imported without us."""
    own = tmp_path / "site"
    own.mkdir()
    (own / "sitecustomize.py").write_text("import sys; sys.stdout.write('customized\\n')\n")
    done = backtrail_run(tmp_path / "spool", *python("print('program')"), PYTHONPATH=str(own))
    # Once in `backtrail run`, which is a Python program too, and once in the program.
    assert (done.returncode, done.stdout) == (0, "customized\ncustomized\nprogram\n")


def test_a_sitecustomize_that_fails_fails_as_it_would_alone(tmp_path: Path) -> None:
    """Python reports it and goes on; the program is traced all the same."""
    own = tmp_path / "site"
    own.mkdir()
    (own / "sitecustomize.py").write_text("1 / 0\n")
    root = tmp_path / "spool"
    program = python("import logging; logging.getLogger('shop').error('m')")
    done = backtrail_run(root, *program, PYTHONPATH=str(own))
    assert done.returncode == 0
    assert "ZeroDivisionError" in done.stderr
    assert "m" in [line.get("message") for line in logged(root)]


def test_a_malformed_setting_stops_the_start(tmp_path: Path) -> None:
    """Exit status 2, a message that names it, and no program was started."""
    witness = tmp_path / "witness"
    done = backtrail_run(tmp_path, *python(f"open({str(witness)!r}, 'w')"), TRACING_SAMPLER_ARG="lots")
    assert done.returncode == 2
    assert "TRACING_SAMPLER_ARG" in done.stderr
    assert "lots" in done.stderr
    assert not witness.exists()


def test_an_unknown_setting_is_one_warning(tmp_path: Path) -> None:
    """With the name that was probably meant; the program runs."""
    done = backtrail_run(tmp_path, *python("pass"), TRACING_SERVICES="orders")
    assert done.returncode == 0
    assert done.stderr.count("TRACING_SERVICES") == 1
    assert "TRACING_SERVICE" in done.stderr.replace("TRACING_SERVICES", "")


def test_tracing_can_be_switched_off(tmp_path: Path) -> None:
    """Then nothing is written."""
    program = python("import logging; logging.getLogger('shop').error('m')")
    done = backtrail_run(tmp_path, *program, TRACING_ENABLED="false")
    assert (done.returncode, done.stderr) == (0, "m\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGABRT])
def test_a_program_that_a_signal_ended_is_seen_as_one(tmp_path: Path, number: int) -> None:
    """A supervisor must be able to tell a crash from an exit status."""
    done = backtrail_run(tmp_path, *python(f"import os; os.kill(os.getpid(), {int(number)})"))
    assert done.returncode == -number


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1])
def test_signals_are_passed_on(tmp_path: Path, number: int) -> None:
    """What a supervisor sends to `backtrail run` is meant for the program."""
    ready = tmp_path / "ready"
    program = python(f"""
        import pathlib, signal, sys, time
        signal.signal({int(number)}, lambda *_: sys.exit(42))
        pathlib.Path({str(ready)!r}).touch()
        while True:
            time.sleep(0.01)
    """)
    process = subprocess.Popen(
        [sys.executable, "-m", "tracing.launch", "run", "--drain-timeout", "0", "--", *program],
        env=environment(tmp_path / "spool"),
        start_new_session=True,
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),  # under nohup, SIGHUP is ignored by all
    )
    deadline_s = time.monotonic() + 30
    while not ready.exists():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)
    process.send_signal(number)
    assert process.wait(timeout=30) == 42


def test_what_the_terminal_sends_arrives_once(tmp_path: Path) -> None:
    """Ctrl-C reaches every process in the foreground: passed on, it would reach the program twice."""
    program = python("""
        import signal, sys
        waited = {signal.SIGINT, signal.SIGTERM}
        signal.pthread_sigmask(signal.SIG_BLOCK, waited)
        print("ready", flush=True)
        interrupts = 0
        while signal.sigwait(waited) == signal.SIGINT:
            interrupts += 1
            print("interrupted", interrupts, flush=True)
        sys.exit(40 + interrupts)
    """)
    pid, terminal = pty.fork()
    if pid == 0:
        command = [sys.executable, "-m", "tracing.launch", "run", "--drain-timeout", "0", "--", *program]
        os.execve(sys.executable, command, environment(tmp_path))
    read_until(terminal, b"ready")
    for number in range(1, 6):  # a second signal may fall into one with the first, but not every time
        os.write(terminal, b"\x03")
        read_until(terminal, b"interrupted %d" % number)
    os.kill(pid, signal.SIGTERM)  # in order after the other: one that was passed on is there by now
    _, status = os.waitpid(pid, 0)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == 45


def read_until(terminal: int, wanted: bytes) -> None:
    """Read what is printed until something is."""
    seen = b""
    while wanted not in seen:
        seen += os.read(terminal, 1024)


def test_what_is_ignored_stays_ignored(tmp_path: Path) -> None:
    """Under nohup, SIGHUP reaches nobody."""
    program = python("""
        import os, signal
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        os.kill(os.getppid(), signal.SIGHUP)
        print("alive")
    """)
    done = subprocess.run(
        [sys.executable, "-m", "tracing.launch", "run", "--drain-timeout", "0", "--", *program],
        env=environment(tmp_path),
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "alive\n")


def test_an_exit_status_is_read_although_children_are_ignored(tmp_path: Path) -> None:
    """Started by a parent that ignores SIGCHLD, as some init systems do."""
    done = subprocess.run(
        [sys.executable, "-m", "tracing.launch", "run", "--drain-timeout", "0", "--", *python("exit(9)")],
        env=environment(tmp_path),
        preexec_fn=lambda: signal.signal(signal.SIGCHLD, signal.SIG_IGN),
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 9


def test_signals_of_the_program_are_as_they_would_be_alone(tmp_path: Path) -> None:
    """Nothing that we block or ignore for ourselves is inherited."""
    program = ["grep", "-E", "^Sig(Blk|Ign|Cgt)", "/proc/self/status"]
    alone = subprocess.run(program, capture_output=True, text=True, check=True)
    assert masks(backtrail_run(tmp_path, *program).stdout) == masks(alone.stdout)


def masks(status: str) -> dict[str, int]:
    """Signal masks by name, without the two internal ones of glibc, whose posix_spawn ignores them."""
    return {
        name: int(mask, 16) & ~(0b11 << 31) for name, mask in (line.split() for line in status.splitlines())
    }


def test_a_program_that_cannot_be_started_is_told(tmp_path: Path) -> None:
    """With the exit statuses of a shell."""
    done = backtrail_run(tmp_path, "no-such-program")
    assert done.returncode == 127
    assert "no-such-program: No such file or directory" in done.stderr
    script = tmp_path / "script"
    script.write_text("echo")
    done = backtrail_run(tmp_path, str(script))
    assert done.returncode == 126
    assert "Permission denied" in done.stderr


def test_a_script_is_no_command(tmp_path: Path) -> None:
    """The message shows how it is run."""
    script = tmp_path / "app.py"
    script.write_text("print(1)")
    done = backtrail_run(tmp_path, str(script))
    assert f"backtrail run -- python {script}" in done.stderr


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("python app.py", "app"),
        ("/usr/bin/python3.11 -X dev -u shop/orders.py --port 7", "orders"),
        ("python -m shop.worker -v", "shop.worker"),
        ("python -c pass", "python"),
        ("python", "python"),
        ("gunicorn app:application", "gunicorn"),
    ],
)
def test_a_program_without_a_name_gets_that_of_its_script(command: str, name: str) -> None:
    """Better than all programs under one name."""
    assert launch._service_of(command.split()) == name


def test_a_name_that_was_given_stays(tmp_path: Path) -> None:
    """By a variable of ours or of OpenTelemetry's, or as an attribute; else that of the script."""
    script = tmp_path / "billing.py"
    script.write_text("import logging; logging.getLogger('shop').error('m')")
    for variables, name in (
        ({"TRACING_SERVICE": "given"}, "given"),
        ({"TRACING_SERVICE": "", "OTEL_SERVICE_NAME": "otel"}, "otel"),
        ({"TRACING_SERVICE": "", "OTEL_RESOURCE_ATTRIBUTES": "service.name=attribute"}, "attribute"),
        ({"TRACING_SERVICE": ""}, "billing"),
    ):
        backtrail_run(tmp_path / "spool", sys.executable, str(script), **variables)
        assert [line["message"] for line in logged(tmp_path / "spool", name) if "kind" not in line] == ["m"]


def test_a_command_is_needed(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing to run is a mistake, and the message shows how."""
    with pytest.raises(SystemExit) as caught:
        launch.main(["run", "--"])
    assert caught.value.code == 2
    assert "backtrail run -- python app.py" in capsys.readouterr().err


def test_options_of_the_program_are_its_own(tmp_path: Path) -> None:
    """Also without `--`, what follows the program's name is not ours."""
    done = subprocess.run(
        [
            *[sys.executable, "-m", "tracing.launch", "run", "--drain-timeout", "0"],
            *[sys.executable, "-c", "import sys; print(sys.argv[1:])", "--service", "x", "--", "y"],
        ],
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == "['--service', 'x', '--', 'y']\n"


# ---- the other commands ----


def test_without_the_collector_the_message_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The script is there with the base install, which has no collector."""
    monkeypatch.setattr(launch, "entry_points", lambda **_: [])
    assert launch.main(["serve"]) == 2
    assert "pip install 'backtrail[collector]'" in capsys.readouterr().err
    assert launch.main(["--help"]) == 0
    assert "run" in capsys.readouterr().out


def test_a_collector_whose_dependencies_are_missing_is_not_installed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The package is always there; what it imports is what the extra brings."""
    broken = EntryPoint("collector", "no_such_module:main", launch.COMMANDS_GROUP)
    monkeypatch.setattr(launch, "entry_points", lambda **_: [broken])
    assert launch.main(["serve"]) == 2
    assert "backtrail[collector]" in capsys.readouterr().err


def test_other_commands_are_the_collectors(monkeypatch: pytest.MonkeyPatch) -> None:
    """It gets the whole command line, and its exit status is ours."""
    seen: list[list[str]] = []

    class Point:
        def load(self) -> Any:
            return lambda argv: seen.append(argv) or 5

    monkeypatch.setattr(launch, "entry_points", lambda **_: [Point()])
    assert launch.main(["trace", "abc", "--json"]) == 5
    assert launch.main([]) == 5
    assert seen == [["trace", "abc", "--json"], []]


def test_the_entry_point_is_the_one_that_the_package_declares() -> None:
    """The collector is found in an installation, not only in this test's imagination."""
    from importlib.metadata import entry_points

    assert [point.value for point in entry_points(group=launch.COMMANDS_GROUP)] == ["collector.cli:main"]
