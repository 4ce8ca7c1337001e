"""What settings and installed packages say before anything is tried."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from tracing.doctor.findings import Finding
from tracing.instrumentation.libraries import installed
from tracing.instrumentation.table import ENTRIES
from tracing.settings import Settings
from tracing.sink import UNKNOWN_SERVICE

EXTRA: Final = "pip install 'backtrail[instrumentation]'"


def setting_findings(settings: Settings, env: Mapping[str, str]) -> Iterator[Finding]:
    """What the settings themselves lose, or may be a surprise."""
    if not settings.enabled:
        yield Finding(
            state="bad",
            what="tracing is switched off: nothing is recorded and nothing carried",
            where=_variable("enabled", env),
            advice="take TRACING_ENABLED=false away",
        )
    if settings.service == UNKNOWN_SERVICE:
        yield Finding(
            state="note",
            what="the program has no name in traces",
            advice='tracing.configure(service="…") or TRACING_SERVICE',
        )
    if settings.exporter != "spool":
        yield Finding(
            state="note",
            what=f"exporter {settings.exporter!r}: lines do not go to a collector of ours by themselves",
            where=_variable("exporter", env),
        )
    else:
        yield from _spool(settings)
    if not settings.ship and settings.exporter == "spool":
        yield Finding(
            state="note",
            what="nothing is shipped by the program itself",
            where=_variable("ship", env),
            advice="`backtrail agent` must run on this machine",
        )
    share = _share_of_spans(settings)
    if share < 1.0:
        yield Finding(
            state="note",
            what=f"{share:.0%} of traces have spans (log lines are always written)",
            where=_variable("sampler", env) or _variable("sampler_arg", env),
            advice="chains of the others are made of log lines alone",
        )
    if "tracecontext" not in settings.propagators:
        yield Finding(
            state="bad",
            what=f"propagators {', '.join(settings.propagators)}: W3C's traceparent is not sent",
            where=_variable("propagators", env),
            advice='put "tracecontext" among them: services that know no other format begin new traces',
        )
    if not settings.trust_remote_ids:
        yield Finding(
            state="note",
            what="ids of callers are not adopted: each service begins its own traces",
            where=_variable("trust_remote_ids", env),
        )


def missing_instrumentation() -> dict[str, str]:
    """Libraries that are installed while what carries the context through them is not: name -> module."""
    return {
        entry.name: entry.library
        for entry in ENTRIES
        if entry.patches is None and installed(entry.library) and not installed(entry.module)
    }


def _variable(field: str, env: Mapping[str, str]) -> str | None:
    name = f"TRACING_{field.upper()}"
    return name if name in env else None


def _spool(settings: Settings) -> Iterator[Finding]:
    path = settings.spool_dir
    try:
        existing = next(parent for parent in (path, *path.parents) if parent.exists())
        if not os.access(existing, os.W_OK | os.X_OK):
            raise PermissionError(f"this user may not write to {existing}")
        with tempfile.NamedTemporaryFile(dir=existing, prefix=".backtrail-doctor-"):
            pass
    except OSError as error:
        yield Finding(
            state="bad",
            what=f"spool {path}: {error.strerror or error}; lines die with the program",
            where="TRACING_SPOOL_DIR",
            advice="name a directory that the program's user may write to",
        )
        return
    yield Finding(state="good", what=f"spool {path}: writable")


def _share_of_spans(settings: Settings) -> float:
    if settings.sampler.endswith("always_off"):
        return 0.0
    return settings.sampler_arg if settings.sampler.endswith("ratio") else 1.0


def spool_of(directory: Path) -> dict[str, str]:
    """Variables that keep what probes write in a directory of the doctor's own, until it ships that."""
    return {
        "TRACING_ENABLED": "true",
        "TRACING_EXPORTER": "spool",
        "TRACING_SPOOL_DIR": str(directory),
        "TRACING_SHIP": "false",
        "TRACING_SERVICE": "backtrail-doctor",
        "TRACING_LEVEL": "INFO",
        "TRACING_SAMPLER": "always_on",  # what is sampled away proves nothing
        "TRACING_CAPTURE_LOGS": "true",
        "TRACING_EXCLUDED_PATHS": "",
    }
