"""Tries the groups, each in a process of its own, and says of what is lost why, as far as that is known."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from tracing.doctor.brokers import URL_VARIABLE
from tracing.doctor.findings import HopResult
from tracing.doctor.groups import Group
from tracing.doctor.probe import GROUP_TIMEOUT_S
from tracing.doctor.surroundings import EXTRA
from tracing.instrumentation.libraries import installed

AT_ONCE: Final = 2  # groups; more would only wait for each other on a small machine
APP_TIMEOUT_S: Final = 60.0
SAID_CHARS_MAX: Final = 300  # of what a process that died said last


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """What is known of the program that the doctor is called for.

    Attributes:
        instrumented: names that are on; what is not is left out in the probes too.
        left_out: names that a setting leaves out.
        missing: names whose library is installed and whose instrumentation is not.
        instrument_at: `file:line` of calls of `instrument()` that leave something out.
        configure_at: `file:line` of calls of `configure()`.
        variables: settings that the program gave itself, as the environment has them.
    """

    instrumented: frozenset[str]
    left_out: frozenset[str] = frozenset()
    missing: Mapping[str, str] = field(default_factory=dict)
    instrument_at: Sequence[str] = ()
    configure_at: Sequence[str] = ()
    variables: Mapping[str, str] = field(default_factory=dict)


def try_all(
    groups: Sequence[Group], addresses: Mapping[str, str | None], env: Mapping[str, str], program: Program
) -> list[HopResult]:
    """Try every group that can be tried here.

    Args:
        addresses: of brokers, by the name of their option.
        env: for the probes; a spool directory of the doctor's own among it.
    """
    with ThreadPoolExecutor(AT_ONCE) as executor:
        found = executor.map(lambda group: list(_try(group, addresses, env, program)), groups)
        return [hop for hops in found for hop in hops]


def import_app(modules: Sequence[str], env: Mapping[str, str]) -> dict[str, Any]:
    """Have a program imported and looked at; `failed` says why that was not possible."""
    with tempfile.TemporaryDirectory(prefix="backtrail-doctor-") as directory:
        out = Path(directory) / "app.json"
        try:
            done = _run(["tracing.doctor.app", str(out), *modules], env, APP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            return {"failed": f"importing {', '.join(modules)} took longer than {APP_TIMEOUT_S:.0f} s"}
        if not out.exists():
            return {"failed": f"importing {', '.join(modules)} ended the process: {_last(done.stderr)}"}
        found: dict[str, Any] = json.loads(out.read_text())
        return found


def _try(
    group: Group, addresses: Mapping[str, str | None], env: Mapping[str, str], program: Program
) -> Iterator[HopResult]:
    whole = HopResult(hop=group.name, layer=group.layer)
    if group.needs and not installed(group.needs):
        return  # a library that is not there needs no line
    if group.broker is not None:
        url = addresses.get(group.broker.option)
        if url is None:
            option = f"--{group.broker.option} {group.broker.example}"
            yield replace(whole, not_tried=f"give {option}")
            return
        env = {**env, URL_VARIABLE: url}
    said, stderr = _probed(group, env)
    known = {hop["hop"]: tuple(hop["by"]) for line in said for hop in line.get("hops", ())}
    tried = {line["hop"]: line for line in said if "hop" in line}
    if not known:
        yield replace(whole, broken=_last(stderr))
    for name, by in known.items():
        line = tried.get(name, {"broken": _unfinished(stderr)})
        if "missing" not in line:
            yield _explained(_result(name, group.layer, by, line), program)


def _result(name: str, layer: str, by: tuple[str, ...], line: Mapping[str, Any]) -> HopResult:
    return HopResult(
        hop=name,
        layer=layer,
        by=by,
        cells=line.get("cells", {}),
        broken=line.get("broken"),
        trace_id=line.get("trace_id"),
    )


def _probed(group: Group, env: Mapping[str, str]) -> tuple[list[dict[str, Any]], str]:
    try:
        done = _run(["tracing.doctor.probe", group.name], env, GROUP_TIMEOUT_S + 10.0)
        out, err = done.stdout, done.stderr
    except subprocess.TimeoutExpired as late:
        out, err = (
            part.decode() if isinstance(part, bytes) else part or "" for part in (late.stdout, late.stderr)
        )
    return [json.loads(text) for text in out.splitlines() if text.startswith('{"hop')], err


def _run(
    arguments: Sequence[str], env: Mapping[str, str], timeout_s: float
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        env=dict(env),
        capture_output=True,
        text=True,
        errors="replace",
        timeout=timeout_s,
        check=False,
    )


def _unfinished(said: str) -> str:
    """Why nothing is known of a hop; `faulthandler` says it where the time was up."""
    if "Timeout (" in said:
        return f"the time was up: {GROUP_TIMEOUT_S:.0f} s for the group"
    return f"the process ended: {_last(said)}"


def _last(said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return lines[-1][:SAID_CHARS_MAX] if lines else "without a word"


def _explained(hop: HopResult, program: Program) -> HopResult:
    """Say of a hop that lost something why."""
    if hop.is_kept:
        return hop
    off = [name for name in hop.by if name not in program.instrumented]
    for name in off:
        if name in program.missing:
            reason = f"{program.missing[name]} is installed, what carries the context through it is not"
            return replace(hop, reason=reason, advice=EXTRA)
        if name in program.left_out:
            variable = "TRACING_INSTRUMENT_EXCLUDE"
            where = variable if variable in os.environ else next(iter(program.configure_at), None)
            reason = f"{name!r} is left out by instrument_exclude"
            return replace(hop, reason=reason, where=where, advice=f"take {name} out of it")
        return replace(
            hop,
            reason=f"{name!r} is not among what instrument() was told to turn on",
            where=next(iter(program.instrument_at), None),
            advice=f"tracing.instrument() without names, or with {name!r} too",
        )
    if hop.broken is not None:
        return hop
    return replace(hop, reason="turned on, and lost all the same", advice="--json has the details")
