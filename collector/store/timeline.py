"""Steps of time and what is counted in them. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from collector.errors import QueryError
from collector.model import Record
from collector.store.contract import MINUTE_NS, STEPS_MAX, Rate
from collector.store.durations import bucket_of, percentile_ns
from collector.store.summaries import Tally


def steps_between(start_ns: int, end_ns: int, step_ns: int) -> range:
    """The beginnings of the steps that reach into a time.

    Raises:
        QueryError: the step is not whole minutes, or there would be too many.
    """
    if step_ns < MINUTE_NS or step_ns % MINUTE_NS:
        raise QueryError(f"a step of {step_ns / MINUTE_NS:g} minutes; steps are whole minutes")
    first = start_ns // step_ns * step_ns
    steps = range(first, max(first, end_ns), step_ns) if end_ns > start_ns else range(0)
    if len(steps) > STEPS_MAX:
        raise QueryError(f"{len(steps)} steps; at most {STEPS_MAX}: take longer steps or a shorter time")
    return steps


def tally_by_step(records: Iterable[Record], step_ns: int) -> dict[int, Tally]:
    """Logs and spans counted by the beginning of their step."""
    tallies: dict[int, Tally] = {}
    for record in records:
        tally = tallies.setdefault(record.timestamp_ns // step_ns * step_ns, Tally())
        if record.kind == "span":
            tally.spans += 1
            tally.durations[bucket_of(record.duration_ns or 0)] += 1
        elif record.kind == "log":
            tally.logs += 1
        else:
            continue
        tally.errors += record.is_error
    return tallies


def rates_of(steps: range, tallies: Mapping[int, Tally]) -> list[Rate]:
    """A rate for each step, zero where nothing was counted."""
    nothing = Tally(durations=Counter())
    rates = []
    for start_ns in steps:
        tally = tallies.get(start_ns, nothing)
        rates.append(
            Rate(
                start_ns=start_ns,
                spans=tally.spans,
                logs=tally.logs,
                errors=tally.errors,
                duration_p50_ns=percentile_ns(tally.durations, 0.50),
                duration_p95_ns=percentile_ns(tally.durations, 0.95),
            )
        )
    return rates
