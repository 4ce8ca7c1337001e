"""`backtrail doctor`: the command line, and the order in which things are looked at."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, TextIO

from tracing.doctor.arrival import Collector
from tracing.doctor.findings import Finding, HopResult
from tracing.doctor.groups import BROKERS, GROUPS
from tracing.doctor.page import page, summary
from tracing.doctor.surroundings import missing_instrumentation, setting_findings, spool_of
from tracing.doctor.trying import Program, import_app, try_all
from tracing.errors import ConfigurationError
from tracing.handoff import HANDOFFS
from tracing.instrumentation.libraries import available
from tracing.instrumentation.table import ENTRIES
from tracing.settings import Settings

EXIT_KEPT: Final = 0
EXIT_LOST: Final = 1
EXIT_CANNOT: Final = 2
FIND_TIMEOUT_S: Final = 10.0  # from "taken" to "found", as the canary has it

BOOTSTRAP: Final = Path(__file__).resolve().parents[1] / "bootstrap"  # as `backtrail run` puts it first

# What a program may give to `configure()` instead of a variable, and what matters for hops.
_CARRIED: Final = ("propagators", "trust_remote_ids", "baggage_fields")

_WHAT: Final = """\
Send a probe over each hop that the installed libraries offer (threads, queues, processes, clients, servers,
brokers, log libraries) and say hop by hop whether the context was kept and whether the record arrived in the
collector; of what is lost, what to change. Run it with the interpreter, in the environment and as the user
of the program."""
_SEE_ALSO: Final = """\
`backtrail check` looks at the machine (disks, ports, clock), `backtrail canary` at a collector in use;
`backtrail context-losses` asks a collector what a running system loses. Probes are recorded as service
backtrail-doctor. Exit status: 0 all is kept, 1 something is lost, 2 it cannot be told."""


@dataclass(slots=True)
class Examination:
    """What was found; `headings` say where on the page."""

    findings: list[tuple[str, Finding]]
    hops: list[HopResult]

    @property
    def is_whole(self) -> bool:
        """Whether nothing was lost."""
        tried = [hop for hop in self.hops if hop.not_tried is None]
        return all(hop.is_kept and hop.arrived is not False for hop in tried) and not any(
            finding.state == "bad" for _, finding in self.findings
        )

    def shape(self) -> dict[str, Any]:
        """As `--json` prints it."""
        return {
            "kept": self.is_whole,
            "findings": [{"about": heading, **finding.shape()} for heading, finding in self.findings],
            "hops": [hop.shape() for hop in self.hops],
            "summary": summary([finding for _, finding in self.findings], self.hops),
        }


def main(argv: Sequence[str] | None = None, out: TextIO | None = None) -> int:
    """Examine; exit status 0: all is kept, 1: something is lost, 2: it cannot be told."""
    options = _parser().parse_args(argv)
    out = out or sys.stdout
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the program warns itself
            settings = Settings.from_env(os.environ, collector_url=options.url)
        found = examine(options, settings)
    except ConfigurationError as error:
        sys.stderr.write(f"backtrail: {error}\n")
        return EXIT_CANNOT
    if options.json:
        out.write(f"{json.dumps(found.shape(), indent=2, ensure_ascii=False)}\n")
    else:
        width = shutil.get_terminal_size().columns
        out.writelines(f"{line}\n" for line in page(found.findings, found.hops, width))
    return EXIT_KEPT if found.is_whole else EXIT_LOST


def examine(options: argparse.Namespace, settings: Settings) -> Examination:
    """Look at everything that was asked for.

    Raises:
        ConfigurationError: the program cannot be imported.
    """
    env = dict(os.environ)
    found = Examination([], [])
    program = _here(settings)
    if options.app:
        app = import_app(options.app, _under_run(env) if options.run else env)
        if "failed" in app:
            raise ConfigurationError(app["failed"])
        found.findings += [("The program", Finding(**one)) for one in app["findings"]]
        settings = _settings_of(app["settings"], options.url)
        program = _program(app, settings)
    found.findings += [("Settings", finding) for finding in setting_findings(settings, env)]
    with tempfile.TemporaryDirectory(prefix="backtrail-doctor-") as directory:
        spool_dir = Path(directory) / "spool"
        left_out = sorted(_offered() - program.instrumented)
        variables = {**program.variables, **spool_of(spool_dir)}
        variables["TRACING_INSTRUMENT_EXCLUDE"] = ",".join(left_out)
        groups = [group for group in GROUPS if not options.only or group.name in options.only]
        given = vars(options)
        addresses = {broker.option: broker.address(given, env) for broker in BROKERS}
        found.hops = try_all(groups, addresses, {**env, **variables}, program)
        if not options.only:
            found.findings += [("Settings", finding) for finding in _not_tried(program, found.hops)]
        if not options.offline:
            findings, found.hops = _arrived(
                Collector(settings.collector_url, settings.token, settings.tls_files), spool_dir, found.hops
            )
            found.findings += [("The way to the collector", finding) for finding in findings]
    return found


def _not_tried(program: Program, hops: Sequence[HopResult]) -> Iterator[Finding]:
    """What is on and no hop goes through, so that nobody takes a whole page for more than it is."""
    tried = {name for hop in hops for name in hop.by} | {name for broker in BROKERS for name in broker.by}
    rest = sorted(program.instrumented - tried)
    if rest:
        yield Finding(
            state="note",
            what=f"turned on, and not tried here: {', '.join(rest)}",
            advice="docs/context-matrix.md has what was tried of them on real servers",
        )


def _arrived(
    collector: Collector, spool_dir: Path, hops: Sequence[HopResult]
) -> tuple[list[Finding], list[HopResult]]:
    shipped = collector.ship(spool_dir)
    findings = [shipped, *filter(None, [collector.clock()])]
    if shipped.state == "bad":
        return findings, list(hops)
    try:
        there = collector.found([hop.trace_id for hop in hops if hop.trace_id], FIND_TIMEOUT_S)
    except PermissionError as error:
        note = Finding(state="note", what=f"{error}: whether records arrived cannot be told")
        return [*findings, note], list(hops)
    return findings, [replace(hop, arrived=there.get(hop.trace_id or "")) for hop in hops]


# ---------------------------------------------------------------- what is known of the program


def _offered() -> frozenset[str]:
    """All names that `instrument()` would turn on here."""
    return frozenset([*HANDOFFS, *(entry.name for entry in ENTRIES if available(entry))])


def _here(settings: Settings) -> Program:
    """A program of which only the environment is known."""
    left_out = frozenset(settings.instrument_exclude)
    return Program(instrumented=_offered() - left_out, left_out=left_out, missing=missing_instrumentation())


def _program(app: Mapping[str, Any], settings: Settings) -> Program:
    return Program(
        instrumented=frozenset(app["instrumented"]),
        left_out=frozenset(settings.instrument_exclude),
        missing=missing_instrumentation(),
        instrument_at=app["instrument_at"],
        configure_at=app["configure_at"],
        variables={f"TRACING_{name.upper()}": _text(getattr(settings, name)) for name in _CARRIED},
    )


def _text(value: Any) -> str:
    return ",".join(value) if isinstance(value, tuple) else str(value).lower()


def _settings_of(given: Mapping[str, Any], url: str | None) -> Settings:
    """The program's settings again, from JSON."""
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in given.items()
    }
    for name in ("spool_dir", "export_file"):
        values[name] = Path(values[name]) if values[name] is not None else None
    return Settings(**values | ({"collector_url": url} if url else {}))


def _under_run(env: Mapping[str, str]) -> dict[str, str]:
    """The environment that `backtrail run` gives to a program."""
    paths = [str(BOOTSTRAP), *filter(None, [env.get("PYTHONPATH")])]
    return {**env, "PYTHONPATH": os.pathsep.join(paths)}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="backtrail doctor",
        description=_WHAT,
        epilog=_SEE_ALSO,
    )
    parser.add_argument(
        "--app",
        action="append",
        metavar="MODULE",
        help="import this module of the program, as a worker would, and look at what it has bound, turned on "
        "and left out; may be given more than once",
    )
    parser.add_argument("--run", action="store_true", help="the program is started by `backtrail run`")
    parser.add_argument("--url", help="the collector (TRACING_COLLECTOR_URL)")
    parser.add_argument("--offline", action="store_true", help="ask no collector")
    parser.add_argument(
        "--only", action="append", choices=[group.name for group in GROUPS], help="only this group of hops"
    )
    for broker in BROKERS:
        variables = f" ({', '.join(broker.variables)})" if broker.variables else ""
        parser.add_argument(f"--{broker.option}", metavar="URL", help=f"such as {broker.example}{variables}")
    parser.add_argument("--json", action="store_true", help="everything, as JSON")
    return parser
