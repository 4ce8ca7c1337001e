"""The promises of `Timeline`: for stores that also tell how records come over time."""

from __future__ import annotations

from typing import Protocol

import pytest

from collector.errors import QueryError
from collector.store.conditions import Equals, Exists
from collector.store.contract import MINUTE_NS, STEPS_MAX, Rate, Store, Timeline
from collector.testing.store_counts import rounded
from collector.testing.store_samples import DAY_NS, SECOND_NS, START_NS, log, loss, span, span_start


class TimedStore(Store, Timeline, Protocol):
    """A store that keeps the promises of both."""


def rate(
    minute: int, *, spans: int = 0, logs: int = 0, errors: int = 0, durations: tuple[int, int] | None = None
) -> Rate:
    """A rate of a minute after the start."""
    p50, p95 = durations or (None, None)
    return Rate(
        start_ns=START_NS + minute * MINUTE_NS,
        spans=spans,
        logs=logs,
        errors=errors,
        duration_p50_ns=None if p50 is None else rounded(p50),
        duration_p95_ns=None if p95 is None else rounded(p95),
    )


class TimelineContract:
    """Subclass it beside `StoreContract`; it takes the same fixture."""

    def test_rates_count_by_the_minute(self, store: TimedStore) -> None:
        """Empty minutes too; a minute begins with its first nanosecond; starts and losses count nowhere."""
        store.append(
            [
                log(0),
                log(59, level="ERROR", received_ns=START_NS + DAY_NS),
                log(0, uid="last", timestamp_ns=START_NS + MINUTE_NS - 1),
                log(60, uid="first"),
                span(125, duration_ns=5_000),
                span(130, duration_ns=7_000_000, error=True),
                span_start(131),
                loss(132),
                log(240),
            ]
        )
        store.commit()
        found = store.rates(start_ns=START_NS, end_ns=START_NS + 4 * MINUTE_NS)
        assert found == [
            rate(0, logs=3, errors=1),
            rate(1, logs=1),
            rate(2, spans=2, errors=1, durations=(5_000, 7_000_000)),
            rate(3),
        ]

    def test_rates_of_longer_steps_are_those_of_their_minutes(self, store: TimedStore) -> None:
        """Steps lie at multiples since 1970, and the ends are cut where the time is."""
        store.append([span(n * 60, duration_ns=1_000 * (n + 1)) for n in range(20)])
        store.commit()
        start_ns, end_ns = START_NS + 3 * MINUTE_NS, START_NS + 12 * MINUTE_NS
        found = store.rates(start_ns=start_ns, end_ns=end_ns, step_ns=5 * MINUTE_NS)
        assert found == [
            rate(0, spans=2, durations=(4_000, 5_000)),
            rate(5, spans=5, durations=(8_000, 10_000)),
            rate(10, spans=2, durations=(11_000, 12_000)),
        ]
        hour = store.rates(start_ns=START_NS, end_ns=START_NS + DAY_NS, step_ns=DAY_NS)
        assert [one.spans for one in hour] == [20]

    def test_rates_of_a_condition(self, store: TimedStore) -> None:
        """Only of the records that fulfil it."""
        store.append([log(1), log(2, service="pay"), span(70, service="pay", duration_ns=9_000)])
        store.commit()
        window = {"start_ns": START_NS, "end_ns": START_NS + 2 * MINUTE_NS}
        found = store.rates(Equals("service", "pay"), **window)
        assert found == [rate(0, logs=1), rate(1, spans=1, durations=(9_000, 9_000))]
        assert store.rates(Equals("service", "none"), **window) == [rate(0), rate(1)]
        # Asked for by their kind they are found, and still count as nothing.
        store.append([span_start(3, error=True), loss(4)])
        store.commit()
        assert store.rates(Exists("kind"), **window)[0] == rate(0, logs=2)

    def test_rates_have_a_limit_and_whole_minutes(self, store: TimedStore) -> None:
        """A question for too much is refused before it is answered."""
        end_ns = START_NS + STEPS_MAX * MINUTE_NS
        assert len(store.rates(start_ns=START_NS, end_ns=end_ns)) == STEPS_MAX
        assert store.rates(start_ns=START_NS, end_ns=START_NS) == []
        for step_ns in (0, -MINUTE_NS, 30 * SECOND_NS, 90 * SECOND_NS):
            with pytest.raises(QueryError):
                store.rates(start_ns=START_NS, end_ns=end_ns, step_ns=step_ns)
        with pytest.raises(QueryError):
            store.rates(start_ns=START_NS, end_ns=end_ns + 1)
