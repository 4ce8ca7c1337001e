"""What the programs of this machine have written and nobody has deleted yet: a look into their spools."""

from __future__ import annotations

import contextlib
import os
import shlex
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

from tracing.errors import ConfigurationError
from tracing.settings import Settings
from tracing.spool.format import LOCK_FILE
from tracing.spool.locks import is_held


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """What lies in the spools of one machine; living programs always have a little there."""

    size_bytes: int
    age_s: float  # of the segment that was written to longest ago
    services: list[str]
    ended: list[str]  # services among them with a process that is gone, and so ships nothing itself


def look_into(spool_dir: Path) -> Backlog | None:
    """See what lies under a spool root, without taking any of it; `None`: nothing."""
    size_bytes = 0
    services: set[str] = set()
    ended: set[str] = set()
    oldest_s = now_s = time.time()
    for segment in spool_dir.glob("*/*/*.ndjson"):
        with contextlib.suppress(OSError):  # shipped and deleted while we look
            found = segment.stat()
            size_bytes += found.st_size
            oldest_s = min(oldest_s, found.st_mtime)
            services.add(segment.parent.parent.name)
            if not is_held(segment.with_name(LOCK_FILE)):
                ended.add(segment.parent.parent.name)
    if not services:
        return None
    return Backlog(
        size_bytes=size_bytes, age_s=now_s - oldest_s, services=sorted(services), ended=sorted(ended)
    )


def waiting_hint(url: str | None) -> str:
    """What to do where a collector lacks what an ended program of this machine still has in its spool.

    Args:
        url: of the collector; `None`: a data directory, to which nothing is shipped.
    Returns:
        Words to append to a message; empty where nothing waits, or the programs' settings are malformed.
    """
    if url is None:
        return ""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # settings of the programs are not to be judged here
            program = Settings.from_env(os.environ)
        backlog = look_into(program.spool_dir)
    except (ConfigurationError, OSError):
        return ""
    if backlog is None or not backlog.ended:
        return ""
    names = ", ".join(backlog.ended)
    option = "" if url.rstrip("/") == program.collector_url.rstrip("/") else f" --url {shlex.quote(url)}"
    return f"lines of {names} wait in local spools: `backtrail agent --once{option}` ships them"
