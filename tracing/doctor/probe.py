"""Tries the hops of one group, in a process of its own: `python -m tracing.doctor.probe GROUP`.

Whoever starts it has set `TRACING_SPOOL_DIR` to a directory of its own, which nobody ships meanwhile. Prints
a JSON object a line: the names of all hops first, then each hop as soon as it was tried, so that what is
known is known when a later one hangs.
"""

from __future__ import annotations

import faulthandler
import importlib
import json
import os
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import tracing
from tracing.doctor import trial
from tracing.doctor.hop import Hop
from tracing.instrumentation.libraries import installed
from tracing.spool.adoption import services, spools
from tracing.spool.reader import read_lines

CONTEXTS_MAX: Final = 4  # at once: enough to see them mixed up, few enough to wait for
GROUP_TIMEOUT_S: Final = 180.0  # half a minute on a machine that has nothing else to do


def main() -> None:
    """Try one group."""
    faulthandler.dump_traceback_later(GROUP_TIMEOUT_S, exit=True)
    handle = tracing.configure()
    tracing.instrument()
    hops: list[Hop] = importlib.import_module(f"tracing.doctor.hops.{sys.argv[1]}").HOPS
    _say({"hops": [{"hop": hop.name, "by": hop.by} for hop in hops]})
    for hop in hops:
        _say({"hop": hop.name, **_tried(hop, handle.settings.spool_dir)})
    handle.shutdown(0)  # nothing is shipped from here, and the spool is to say that it has ended in order
    sys.stdout.flush()
    os._exit(0)  # greenlets and threads of others need not be waited for


def _tried(hop: Hop, spool_dir: Path) -> dict[str, Any]:
    missing = [module for module in hop.needs if not installed(module)]
    if missing:
        return {"missing": missing}
    try:
        hop.run(trial.scenario(hop, hop.visit or trial.visit, hop.fail or trial.fail, CONTEXTS_MAX))
    except BaseException as error:
        traceback.print_exc()
        return {"broken": f"{type(error).__name__}: {error}"[:200]}
    lines = trial.Lines(_written(spool_dir))
    asked = lines.by_name[f"request {hop.slug}/plain"]
    return {"cells": trial.verdict(hop, lines, CONTEXTS_MAX), "trace_id": asked["trace_id"]}


def _written(spool_dir: Path) -> Iterator[dict[str, Any]]:
    """Every line that this process and those that it started have written so far."""
    for service in services(spool_dir):
        for spool in spools(service):
            for _, line in read_lines(spool):
                yield json.loads(line)


def _say(found: dict[str, Any]) -> None:
    sys.stdout.write(f"{json.dumps(found)}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
