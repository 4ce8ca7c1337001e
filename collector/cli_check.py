"""`backtrail check`: what on this machine would keep the collector or a traced program from working.

Each check is a function that gives findings; `check_lines` writes them. Nothing is changed.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
import socket
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Final, Literal
from urllib.parse import urlsplit

from rich.text import Text

from collector.cli_spools import look_into
from collector.cli_tables import bytes_text
from collector.cli_text import duration, wrapped
from collector.errors import CollectorError
from collector.settings import Settings

State = Literal["good", "warning", "bad"]

DISK_FREE_FRACTION_MIN: Final = 0.05
CLOCK_OFF_S_MAX: Final = 2.0  # HTTP's Date has whole seconds, so a smaller difference proves nothing
ANSWER_TIMEOUT_S: Final = 2.0
BACKLOG_AGE_S_MAX: Final = 3600.0  # a living program with a collector is seconds behind
_MARKS: Final = {"good": ("✓", "green"), "warning": ("⚠", "yellow"), "bad": ("✗", "bold red")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one check has seen, and if it is not good, what to do."""

    state: State
    what: str
    advice: str | None = None


def check_machine(settings: Settings, *, url: str, spool_dir: Path) -> list[Finding]:
    """Look at everything; a check that fails itself is a finding too.

    Args:
        settings: of the collector that runs or would run here.
        url: where programs of this machine send to.
        spool_dir: where programs of this machine keep what is not sent yet.
    """
    checks: tuple[Callable[[], Iterator[Finding]], ...] = (
        _versions,
        lambda: _directory("data directory", settings.data_dir, needs_bytes=settings.wal_bytes_max),
        lambda: _directory("spool directory", spool_dir, needs_bytes=0),
        lambda: _backlog(spool_dir),
        lambda: _collector(url),
        lambda: _port(settings, url),
    )
    findings: list[Finding] = []
    for check in checks:
        try:
            findings.extend(check())
        except (OSError, CollectorError) as error:
            findings.append(Finding(state="bad", what=str(error)))
    return findings


def check_lines(findings: list[Finding], *, width: int | None = None) -> list[Text]:
    """The findings for a person, a mark before each."""
    lines: list[Text] = []
    for finding in findings:
        mark, style = _MARKS[finding.state]
        lines += wrapped(finding.what, width=width, indent=2, first=Text(f"{mark} ", style=style))
        if finding.advice:
            lines += wrapped(f"→ {finding.advice}", width=width, indent=4, style="dim")
    return lines


def _versions() -> Iterator[Finding]:
    version = importlib.metadata.version("backtrail")
    yield Finding(state="good", what=f"backtrail {version} on Python {sys.version.split()[0]}")
    missing = [
        name for name in ("starlette", "uvicorn", "tantivy", "grpc") if importlib.util.find_spec(name) is None
    ]
    if missing:
        yield Finding(
            state="bad",
            what=f"not installed: {', '.join(missing)}",
            advice="pip install 'backtrail[collector]'",
        )


def _directory(what: str, path: Path, *, needs_bytes: int) -> Iterator[Finding]:
    existing = next(parent for parent in (path, *path.parents) if parent.exists())
    if not os.access(existing, os.W_OK | os.X_OK):
        yield Finding(
            state="bad",
            what=f"{what} {path}: this user may not write to {existing}",
            advice="run as its owner, or name another directory",
        )
        return
    if path.exists() and stat.S_IMODE(path.stat().st_mode) & 0o077:
        yield Finding(
            state="warning",
            what=f"{what} {path}: other users can read what was logged",
            advice=f"chmod 700 {path}",
        )
    disk = shutil.disk_usage(existing)
    free = f"{disk.free / 1e9:.1f} GB free on its disk"
    if disk.free < max(needs_bytes, DISK_FREE_FRACTION_MIN * disk.total):
        yield Finding(
            state="warning",
            what=f"{what} {path}: only {free}",
            advice="make room, or set a smaller wal_bytes_max and a retention",
        )
    else:
        yield Finding(state="good", what=f"{what} {path}: writable, {free}")
    yield from _file_clock(existing)


def _file_clock(directory: Path) -> Iterator[Finding]:
    """Whether files get this machine's time; a network disk gives its server's."""
    with tempfile.NamedTemporaryFile(dir=directory, prefix=".backtrail-check-") as file:
        off_s = Path(file.name).stat().st_mtime - time.time()
    if abs(off_s) > CLOCK_OFF_S_MAX:
        yield Finding(
            state="warning",
            what=f"{directory}: its clock is {duration(round(off_s * 1e9))} off ours; a network disk?",
            advice="keep spools and data on a local disk: locks and times are not safe on a network's",
        )


def _backlog(spool_dir: Path) -> Iterator[Finding]:
    backlog = look_into(spool_dir)
    if backlog is None:
        return
    size, age = bytes_text(backlog.size_bytes), duration(round(backlog.age_s * 1e9))
    what = f"{size} in the spools of {', '.join(backlog.services)}, oldest {age} old"
    if backlog.ended:
        names = ", ".join(backlog.ended)
        advice = f"processes of {names} ended with lines behind them: `backtrail agent --once` ships them"
        yield Finding(state="warning", what=what, advice=advice)
    elif backlog.age_s < BACKLOG_AGE_S_MAX:
        yield Finding(state="good", what=what)
    else:
        advice = "if the collector lacks them: `backtrail agent` ships what living programs do not"
        yield Finding(state="warning", what=what, advice=advice)


def _collector(url: str) -> Iterator[Finding]:
    target = urlsplit(url)
    connection = HTTPConnection(target.hostname or "127.0.0.1", target.port, timeout=ANSWER_TIMEOUT_S)
    try:
        before = time.time()
        connection.request("GET", "/readyz")
        response = connection.getresponse()
        body = response.read()
        now = (before + time.time()) / 2
    except (OSError, HTTPException) as error:
        yield Finding(
            state="warning",
            what=f"no collector answers at {url}: {error or type(error).__name__}",
            advice="backtrail serve; until then programs keep what they log in their spools",
        )
        return
    finally:
        connection.close()
    if response.status == 200:
        yield Finding(state="good", what=f"the collector at {url} is ready")
    else:
        said = body[:200].decode("utf-8", "replace")
        yield Finding(state="bad", what=f"the collector at {url} is not ready: {response.status} {said}")
    if date := response.getheader("Date"):
        off_s = now - parsedate_to_datetime(date).timestamp() - 0.5  # its seconds are cut, half on average
        if abs(off_s) > CLOCK_OFF_S_MAX:
            yield Finding(
                state="warning",
                what=f"this machine's clock is {duration(round(off_s * 1e9))} off the collector's",
                advice="chains are corrected for it; an NTP client on both machines makes that unnecessary",
            )


def _port(settings: Settings, url: str) -> Iterator[Finding]:
    if urlsplit(url).port == settings.port:
        return  # asked already
    try:
        with socket.create_server((settings.host, settings.port)):
            yield Finding(state="good", what=f"port {settings.port} on {settings.host} is free")
    except OSError as error:
        yield Finding(
            state="warning",
            what=f"port {settings.port} on {settings.host} cannot be listened on: {error.strerror}",
            advice="another collector? `backtrail serve --port N` takes another one",
        )
