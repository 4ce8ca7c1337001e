"""What the watch costs: one look at a minute of an embedded store, quiet and busy.

    python -m tests.bench.bench_watch [--traces 100 1000 5000]

Beyond `TRACES_READ_MAX` traces a minute is sampled, so a look costs the same however busy the minute was.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from collector.model import Record
from collector.store.contract import MINUTE_NS
from collector.store.embedded import EmbeddedStore
from collector.watch import Watch
from collector.watch.kept import WARM_MINUTES
from collector.watch.minute import TRACES_READ_MAX

START_NS: Final = 1_800_000_000_000_000_000
SPANS: Final = 20  # of one trace, and as many log lines
SERVICES: Final = 8
MEASURED_MINUTES: Final = 3


def minute(start_ns: int, traces: int, seq: int) -> Iterator[Record]:
    """The records of a minute: requests that go through every service, with a line in each span."""
    for number in range(traces):
        trace_id = hashlib.sha256(f"{start_ns} {number}".encode()).hexdigest()[:32]
        begin_ns = start_ns + number * (MINUTE_NS - 1_000_000_000) // traces
        for at in range(SPANS):
            span_id = f"{at + 1:016x}"
            service = f"service-{at % SERVICES}"
            seq += 2
            length_ns = (SPANS - at) * 1_000_000 + (number * 7919 + at) % 300_000
            yield Record(
                uid=f"{trace_id}-{at}",
                seq=seq - 1,
                kind="span",
                timestamp_ns=begin_ns + at * 400_000,
                duration_ns=length_ns,
                level="INFO",
                severity_number=9,
                service=service,
                trace_id=trace_id,
                span_id=span_id,
                parent_span_id=f"{at:016x}" if at else None,
                name=f"step {at}",
                span_kind="SERVER",
            )
            yield Record(
                uid=f"{trace_id}-{at}-log",
                seq=seq,
                timestamp_ns=begin_ns + at * 400_000 + 100_000,
                level="INFO",
                severity_number=9,
                service=service,
                trace_id=trace_id,
                span_id=span_id,
                message=f"step {at} of order {number} is done",
                logger=f"shop.{service}",
            )


def look_s(traces: int) -> tuple[float, float]:
    """Seconds of processor that a look takes while learning only, and when it measures too; the least."""
    with tempfile.TemporaryDirectory() as directory:
        store = EmbeddedStore.open(Path(directory) / "store")
        watch = Watch(store, Path(directory) / "baseline", lambda uid, line: None)
        taken: list[float] = []
        seq = 0
        for number in range(WARM_MINUTES + MEASURED_MINUTES):
            start_ns = START_NS + number * MINUTE_NS
            records = list(minute(start_ns, traces, seq))
            seq += len(records)
            for at in range(0, len(records), 10_000):
                store.append(records[at : at + 10_000])
            store.commit()
            begun_s = time.process_time()
            told = watch.look_at(start_ns)
            taken.append(time.process_time() - begun_s)
            if told:
                print(f"a healthy minute was told: {told[0].summary}", file=sys.stderr)
        store.close()
    return min(taken[1:WARM_MINUTES]), min(taken[WARM_MINUTES:])


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--traces", type=int, nargs="+", default=[100, 500, 2_000])
    options = parser.parse_args()
    print(
        f"{'traces a minute':>16}{'records':>10}{'read':>7}{'learn s':>9}{'look s':>8}{'of a processor':>16}"
    )
    for traces in options.traces:
        learn_s, whole_s = look_s(traces)
        share = whole_s / 60
        print(
            f"{traces:>16}{traces * SPANS * 2:>10}{min(traces, TRACES_READ_MAX):>7}"
            f"{learn_s:>9.2f}{whole_s:>8.2f}{share:>15.1%}",
            flush=True,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
