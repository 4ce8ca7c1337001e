"""`python -m tests.chaos --seed N --minutes M`: one or more runs; exit status 1 when a promise was broken."""

from __future__ import annotations

import argparse
import random
import signal
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from tests.chaos.run import FAULTS, STORE_FAULTS, run
from tests.chaos.scene import Elasticsearch
from tests.chaos.schedule import plan


def main() -> int:
    """Run, print, judge."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, nargs="+", help="default: one that is drawn, and printed")
    parser.add_argument("--minutes", type=float, default=30.0, help="of each seed (default: %(default)s)")
    parser.add_argument("--only", nargs="+", metavar="FAULT", help="names of faults to draw from")
    parser.add_argument(
        "--elasticsearch",
        metavar="VERSION",
        help="a server of its own for each run, which suffers as well; default: the embedded store",
    )
    parser.add_argument("--list", action="store_true", help="print the schedule, and do nothing")
    parser.add_argument("--directory", type=Path, help="where a run's files are kept; default: not at all")
    options = parser.parse_args()
    known = [*FAULTS, *(STORE_FAULTS if options.elasticsearch else ())]
    faults = [fault for fault in known if not options.only or fault.name() in options.only]
    if options.only and len(faults) != len(set(options.only)):
        parser.error(f"faults are {', '.join(fault.name() for fault in known)}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # disks are given back
    broken = 0
    for seed in options.seed or [random.SystemRandom().randrange(1_000_000)]:
        length_s = options.minutes * 60
        if options.list:
            for planned in plan(seed, length_s, faults):
                print(planned)
            continue
        with ExitStack() as ending:
            temporary = ending.enter_context(tempfile.TemporaryDirectory(prefix="backtrail-chaos-"))
            server = None
            if options.elasticsearch:
                server = ending.enter_context(Elasticsearch(options.elasticsearch, heap_mb=512))
            directory = (options.directory or Path(temporary)) / f"seed-{seed}"
            started_s = time.monotonic()
            result = run(directory, seed=seed, length_s=length_s, faults=faults, server=server, tell=say)
        counts = ", ".join(f"{name} {count}" for name, count in sorted(result.injected.items()))
        say(f"faults: {counts or 'none'}; {time.monotonic() - started_s:.0f} s in all")
        say(f"seed {seed}: {'every promise was kept' if result.verdict.ok else 'A PROMISE WAS BROKEN'}")
        broken += not result.verdict.ok
    return 1 if broken else 0


def say(line: str) -> None:
    """At once, for whoever watches a run of half an hour."""
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
