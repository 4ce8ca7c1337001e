"""`backtrail`: the console script. `run`, `agent` and `doctor` are here; the rest is the collector's.

The collector is found through the entry points of the group `backtrail.commands`, so that the library never
imports it and `pip install backtrail` alone gives a script that can trace a program.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Final, TextIO

from tracing import agent
from tracing.errors import ConfigurationError, RetryableExportError, TracingError
from tracing.settings import Settings
from tracing.sink import UNKNOWN_SERVICE
from tracing.spool import ShipperLimits, drain
from tracing.spool.transport import Transport

COMMANDS_GROUP: Final = "backtrail.commands"
EXIT_USAGE: Final = 2  # what argparse says too: nothing has been started
EXIT_CANNOT_EXECUTE: Final = 126  # as a shell has it
EXIT_NOT_FOUND: Final = 127
DRAIN_TIMEOUT_S: Final = 5.0
DRAIN_FAILURES_MAX: Final = 3  # a collector that is away shall not hold up every short job
BOOTSTRAP: Final = Path(__file__).resolve().parent / "bootstrap"

_PYTHON: Final = re.compile(r"(python|pypy)[\d.]*(\.exe)?")

# What a supervisor or a person sends to a program; the rest is about this process itself.
_FORWARDED: Final = ("SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM", "SIGUSR1", "SIGUSR2")
_SI_KERNEL: Final = 0x80  # si_code of what the terminal sends to the whole group, the program included

_HELP: Final = """\
usage: backtrail COMMAND …

  run      trace a Python program without touching its code
  agent    ship what the programs of this machine have logged
  doctor   say hop by hop whether the context is kept in this environment
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit status is that of the program, the agent or the collector's command."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    command = arguments[0] if arguments else "--help"
    if command == "run":
        return run(arguments[1:])
    if command == "agent":
        return agent.main(arguments[1:])
    if command == "doctor":
        from tracing.doctor import command as doctor

        return doctor.main(arguments[1:])
    collector = _collector_command()
    if collector is not None:
        return collector(arguments)
    if command in ("-h", "--help"):
        sys.stdout.write(f"{_HELP}\n{_missing('the other commands')}")
        return 0
    sys.stderr.write(f"{_HELP}\nbacktrail: {_missing(repr(command))}")
    return EXIT_USAGE


def run(argv: Sequence[str]) -> int:
    """`backtrail run`: start a program with tracing turned on, wait for it, ship what it left.

    Returns:
        The program's exit status; 2 when a setting is malformed, before anything is started. A program
        that a signal has ended ends this process by the same signal.
    """
    options = _run_parser().parse_args(argv)
    command = options.command[1:] if options.command[:1] == ["--"] else options.command
    if not command:
        _run_parser().error("a program to run is missing: backtrail run -- python app.py")
    env = _environment(os.environ, options)
    try:
        settings = _settings(env)
        if settings.service == UNKNOWN_SERVICE:
            env["TRACING_SERVICE"] = _service_of(command)
    except ConfigurationError as error:
        sys.stderr.write(f"backtrail: {error}\n")
        return EXIT_USAGE
    try:
        status = _start_and_wait(command, env)
    except OSError as error:
        hint = f"; a script is run as: backtrail run -- python {command[0]}" if _is_script(command[0]) else ""
        sys.stderr.write(f"backtrail: {command[0]}: {error.strerror}{hint}\n")
        return EXIT_NOT_FOUND if isinstance(error, FileNotFoundError) else EXIT_CANNOT_EXECUTE
    if settings.enabled and settings.exporter == "spool":
        _drain(settings, options.drain_timeout, sys.stderr)
    return status if status >= 0 else _end_by(-status)


def _is_script(name: str) -> bool:
    return name.endswith(".py")


def _service_of(command: Sequence[str]) -> str:
    """A name for a program that was given none: that of its script, of its module, or of the command."""
    name = Path(command[0]).name
    if _PYTHON.fullmatch(name):
        arguments = iter(command[1:])
        for argument in arguments:
            if argument == "-c":
                break
            if argument in ("-m", "-X", "-W"):
                value = next(arguments, "")
                if argument == "-m":
                    name = value
                    break
            elif not argument.startswith("-"):
                name = Path(argument).name
                break
    return name.removesuffix(".py") or UNKNOWN_SERVICE


def _run_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="backtrail run",
        usage="%(prog)s [options] -- program …",
        description="Trace a Python program without touching its code: its log lines get trace ids, and the "
        "installed web frameworks and clients are instrumented. Python programs that it starts are too.",
        epilog="Settings are TRACING_* variables; the options here are short for some of them.",
    )
    parser.add_argument(
        "--service", help="name of the program in traces (TRACING_SERVICE; default: that of the script)"
    )
    parser.add_argument("--url", help="the collector (TRACING_COLLECTOR_URL)")
    parser.add_argument("--spool-dir", help="where lines wait to be sent (TRACING_SPOOL_DIR)")
    parser.add_argument(
        "--drain-timeout",
        type=float,
        default=DRAIN_TIMEOUT_S,
        metavar="SECONDS",
        help="how long to ship what the program has left, after its end (default: %(default)s)",
    )
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="-- program …")
    return parser


def _environment(outer: Mapping[str, str], options: argparse.Namespace) -> dict[str, str]:
    """Return the program's environment: ours, the options, and the bootstrap before all other paths."""
    env = dict(outer)
    given = {
        "TRACING_SERVICE": options.service,
        "TRACING_COLLECTOR_URL": options.url,
        "TRACING_SPOOL_DIR": options.spool_dir,
    }
    env |= {name: value for name, value in given.items() if value is not None}
    paths = [path for path in env.get("PYTHONPATH", "").split(os.pathsep) if path and path != str(BOOTSTRAP)]
    env["PYTHONPATH"] = os.pathsep.join([str(BOOTSTRAP), *paths])
    return env


def _settings(env: Mapping[str, str]) -> Settings:
    """Read the settings as the program will.

    Raises:
        ConfigurationError: a value is malformed.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the program warns itself
        return Settings.from_env(env)


def _start_and_wait(command: Sequence[str], env: Mapping[str, str]) -> int:
    """Start a program, pass signals on to it, and wait for its end.

    Returns:
        Its exit status, or minus the signal that has ended it.
    Raises:
        OSError: it cannot be started.
    """
    if not hasattr(os, "posix_spawnp") or not hasattr(signal, "pthread_sigmask"):
        import subprocess  # Windows: a console sends its signals to both by itself

        return subprocess.run(command, env=dict(env), check=False).returncode
    # nohup and the like have signals ignored; what is ignored stays ignored, in the program too.
    forwarded = {
        getattr(signal, name)
        for name in _FORWARDED
        if signal.getsignal(getattr(signal, name)) is not signal.SIG_IGN
    }
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # were it ignored, there would be no exit status to read
    waited = forwarded | {signal.SIGCHLD}
    # Blocked before the program starts, so that none of them can slip through between start and wait.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, waited)
    try:
        pid = os.posix_spawnp(
            command[0],
            list(command),
            dict(env),
            setsigmask=before,
            setsigdef=[signal.SIGPIPE, signal.SIGXFSZ],  # Python ignores these two in itself
        )
        return _wait(pid, waited)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _wait(pid: int, waited: Iterable[signal.Signals]) -> int:
    while True:
        number, is_from_terminal = _next_signal(waited)
        if number == signal.SIGCHLD:
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                return os.waitstatus_to_exitcode(status)
        elif not is_from_terminal:
            os.kill(pid, number)


def _next_signal(waited: Iterable[signal.Signals]) -> tuple[int, bool]:
    """Wait for a signal; return it, and whether the program has got it from the terminal by itself."""
    if hasattr(signal, "sigwaitinfo"):
        info = signal.sigwaitinfo(waited)
        return info.si_signo, info.si_code == _SI_KERNEL
    number = signal.sigwait(waited)  # macOS: no word about the sender, so a terminal is taken for it
    return number, number in (signal.SIGINT, signal.SIGQUIT) and sys.stdin.isatty()


def _drain(settings: Settings, timeout_s: float, err: TextIO) -> None:
    """Ship what the program, and others before it, have left; what cannot be sent now stays on disk."""
    failures: list[RetryableExportError] = []
    try:
        is_all_sent = drain(
            settings.spool_dir,
            Transport(settings.collector_url, settings.token, ShipperLimits(), settings.tls_files),
            timeout_s=timeout_s,
            failures_max=DRAIN_FAILURES_MAX,
            tell=failures.append,
        )
    except (TracingError, OSError, KeyboardInterrupt) as error:
        err.write(f"backtrail: not all was sent: {type(error).__name__}: {error}\n")
        return
    if not is_all_sent:
        left = agent.left_behind(settings, failures[-1] if failures else None)
        err.write(f"backtrail: {left} for the next run, or for `backtrail agent`\n")


def _end_by(number: int) -> int:
    """End this process by a signal, so that whoever waits for it sees what became of the program."""
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    except (ImportError, ValueError, OSError):
        pass
    if number not in (signal.SIGKILL, signal.SIGSTOP):
        signal.signal(number, signal.SIG_DFL)
    sys.stdout.flush()
    os.kill(os.getpid(), number)
    return 128 + number  # for a signal whose default is not the end


def _collector_command() -> Callable[[list[str]], int] | None:
    """Find who knows the other commands; `None` when that is not installed, or lacks its dependencies."""
    for point in entry_points(group=COMMANDS_GROUP):
        try:
            command: Callable[[list[str]], int] = point.load()
        except ImportError:
            continue
        return command
    return None


def _missing(what: str) -> str:
    return f"{what}: part of the collector, which is not installed here: pip install 'backtrail[collector]'\n"


if __name__ == "__main__":
    sys.exit(main())
