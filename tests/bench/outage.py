"""What arrives when the store is unreachable for a minute: ours, rsyslog and the OpenTelemetry Collector.

`python -m tests.bench.outage [--records N] [--rate N] [--outage-s S] [--only TEXT]`: the same numbered
records at the same rate through each way (`outage_ways.py`), once as it is and once with the middle killed
(-9) halfway through the outage and started again. Everything is counted where it is stored: arrived, lost,
refused to the sender's face, stored twice. The table is printed and kept in `bench-results/outage.json`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from tests.bench.harness import RESULTS, machine
from tests.bench.outage_ways import Elasticsearch, OpenTelemetry, Ours, Rsyslog, ServerUnavailable, Way
from tests.chaos.proxy import Weather

BEFORE_SHARE: Final = 1 / 6  # of the records are sent before the outage begins: 15 s of 90
STILL_S: Final = 30.0  # without anything new, nothing more is expected to arrive
ARRIVAL_TIMEOUT_S: Final = 400.0  # rsyslog waits up to half a minute between two attempts, and longer later
POLL_S: Final = 2.0
ELASTICSEARCH: Final = "9.4.3"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outage:
    """What every way goes through."""

    records: int
    rate: float  # records/s
    outage_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What came of one way."""

    way: str
    killed: bool
    sent: int
    refused: int  # the sender was told that they are not taken
    arrived: int  # distinct
    lost: int  # neither
    twice: int
    caught_up_s: float  # from the end of both outage and sending to the last arrival, to about 2 s


def go_through(way: Way, outage: Outage, directory: Path, *, kill: bool) -> Figures:
    """Send through a way that breaks off in the middle, and count."""
    kind, target, request_records = way.sender
    sender = [sys.executable, str(Path(__file__).with_name("outage_sender.py")), kind, target]
    sender += [str(outage.records), str(outage.rate), str(request_records)]
    env = {
        **os.environ,
        "PYTHONPATH": str(RESULTS.parent),
        "TRACING_SPOOL_DIR": str(directory / "spool"),
    }
    started_s = time.monotonic()
    outage_begins_s = started_s + BEFORE_SHARE * outage.records / outage.rate
    with subprocess.Popen(sender, env=env, stdout=subprocess.PIPE, text=True) as process:
        _sleep_until(outage_begins_s)
        way.proxy.change(Weather.UNREACHABLE)
        if kill:
            _sleep_until(outage_begins_s + outage.outage_s / 2)
            way.middle.kill()
            way.middle.start()
        _sleep_until(outage_begins_s + outage.outage_s)
        way.proxy.change(Weather.FINE)
        said, _ = process.communicate()
        over_s = time.monotonic()
    if process.returncode:
        raise RuntimeError(f"the sender of {way.name} failed")
    told = json.loads(said)
    expected = told["sent"] - told["refused"]
    changed_s, before = time.monotonic(), -1
    while True:
        found = way.arrived()
        now_s = time.monotonic()
        if len(found) != before:
            changed_s, before = now_s, len(found)
        if len(found) >= expected or now_s - changed_s > STILL_S or now_s - over_s > ARRIVAL_TIMEOUT_S:
            break
        time.sleep(POLL_S)
    return Figures(
        way=way.name,
        killed=kill,
        sent=told["sent"],
        refused=told["refused"],
        arrived=len(found),
        lost=max(0, expected - len(found)),
        twice=sum(count > 1 for count in found.values()),
        caught_up_s=round(max(0.0, changed_s - over_s), 1),
    )


def ways(server: Elasticsearch | None) -> Iterator[tuple[str, Callable[[Path], Way]]]:
    """Each way by its short name, and what makes it."""
    if server is not None:
        yield "backtrail", lambda directory: Ours(server, directory)
        yield "rsyslog", lambda directory: Rsyslog(server, directory, queue_on_disk=False)
        yield "rsyslog disk", lambda directory: Rsyslog(server, directory, queue_on_disk=True)
    for request_records in (100, 20):
        yield f"otel {request_records}", lambda _, n=request_records: OpenTelemetry(n, queue_on_disk=False)
        yield (
            f"otel disk {request_records}",
            lambda _, n=request_records: OpenTelemetry(n, queue_on_disk=True),
        )


def table(figures: list[Figures]) -> str:
    """Side by side, for Markdown."""
    lines = [
        "| way | killed | sent | refused | arrived | lost | twice | caught up after |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {one.way} | {'-9' if one.killed else 'no'} | {one.sent} | {one.refused} | {one.arrived} |"
        f" {one.lost} | {one.twice} | {one.caught_up_s:.0f} s |"
        for one in figures
    ]
    return "\n".join(lines)


def main() -> int:
    """Run every way, with and without a kill; exit status 1 when ours lost or doubled anything."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.outage", description=__doc__.split("\n")[0])
    parser.add_argument("--records", type=int, default=90_000)
    parser.add_argument("--rate", type=float, default=1_000.0, help="records/s (default: %(default)g)")
    parser.add_argument("--outage-s", type=float, default=60.0)
    parser.add_argument("--only", default="", help="ways whose short name has this: backtrail, rsyslog, otel")
    options = parser.parse_args()
    outage = Outage(records=options.records, rate=options.rate, outage_s=options.outage_s)
    figures: list[Figures] = []
    skipped: list[str] = []
    with ExitStack() as ending:
        server = None
        if not options.only.startswith("otel"):
            try:
                server = ending.enter_context(Elasticsearch(ELASTICSEARCH, heap_mb=512))
            except ServerUnavailable as error:
                skipped.append(f"SKIPPED everything with Elasticsearch: {error}")
        for short, make in ways(server):
            if options.only not in short:
                continue
            for kill in (False, True):
                try:
                    with tempfile.TemporaryDirectory(prefix="backtrail-outage-") as directory:
                        figures.append(_one(make, outage, Path(directory), kill=kill))
                except ServerUnavailable as error:
                    skipped.append(f"SKIPPED {short}: {error}")
                    break
                print(f"{figures[-1]}", file=sys.stderr, flush=True)
    print(f"{outage}\n\n{table(figures)}")
    print("\n".join(skipped))
    RESULTS.mkdir(exist_ok=True)
    kept = {"machine": machine(), "outage": asdict(outage), "ways": [asdict(one) for one in figures]}
    (RESULTS / "outage.json").write_text(json.dumps({**kept, "skipped": skipped}, indent=1))
    return int(any(one.lost or one.twice for one in figures if one.way == "backtrail"))


def _one(make: Callable[[Path], Way], outage: Outage, directory: Path, *, kill: bool) -> Figures:
    way = make(directory)
    try:
        return go_through(way, outage, directory, kill=kill)
    finally:
        way.close()


def _sleep_until(moment_s: float) -> None:
    time.sleep(max(0.0, moment_s - time.monotonic()))


if __name__ == "__main__":
    sys.exit(main())
