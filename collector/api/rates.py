"""Rate, errors and duration of what a condition asks for, step by step."""

from __future__ import annotations

from typing import Final, cast

from collector.api import shapes
from collector.errors import QueryError
from collector.store.conditions import And, Condition, Equals, Or
from collector.store.contract import MINUTE_NS, Store, Timeline
from tracing.line import format_timestamp

STEPS_DEFAULT_MAX: Final = 120  # as many points as a chart shows apart
# Spans that something outside the service was waiting for, or had sent.
REQUESTS: Final[Condition] = And(
    (Equals("kind", "span"), Or((Equals("span_kind", "SERVER"), Equals("span_kind", "CONSUMER"))))
)


def rates(
    store: Store, condition: Condition, start_ns: int, end_ns: int, step_ns: int | None
) -> shapes.RatesObject:
    """What happened in each step between two times.

    Args:
        step_ns: whole minutes; `None`: the shortest that gives no more than `STEPS_DEFAULT_MAX` steps.
    Raises:
        QueryError: there would be too many steps, or this store cannot say.
    """
    if not hasattr(store, "rates"):
        raise QueryError("this store does not count by the minute; its own dashboards do")
    if step_ns is None:
        minutes = -(-(end_ns - start_ns) // (STEPS_DEFAULT_MAX * MINUTE_NS))
        step_ns = minutes * MINUTE_NS
    found = cast(Timeline, store).rates(condition, start_ns=start_ns, end_ns=end_ns, step_ns=step_ns)
    return shapes.RatesObject(
        start=format_timestamp(start_ns),
        end=format_timestamp(end_ns),
        step_ns=step_ns,
        steps=[
            shapes.RateObject(
                start=format_timestamp(rate.start_ns),
                spans=rate.spans,
                logs=rate.logs,
                errors=rate.errors,
                duration_p50_ns=rate.duration_p50_ns,
                duration_p95_ns=rate.duration_p95_ns,
            )
            for rate in found
        ],
    )
