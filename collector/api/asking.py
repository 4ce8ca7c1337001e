"""What people ask with -> conditions, times and limits; `Answers` stands on it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Unpack

from collector.api.filters import RecordFilters
from collector.api.words import read_filters, read_time
from collector.errors import QueryError
from collector.store.conditions import And, Condition, Range
from collector.store.contract import EVERYTHING, MINUTE_NS

WINDOW_DEFAULT_NS: Final = 60 * MINUTE_NS  # of a stretch of time whose beginning nobody named


class Asking:
    """Reads searches, filters, times in human words and limits.

    Args:
        clock_ns: now, epoch nanoseconds, for times such as `15m`.
        page_records_max: the largest limit.
    """

    def __init__(self, clock_ns: Callable[[], int], *, page_records_max: int) -> None:
        self._clock_ns = clock_ns
        self._page_records_max = page_records_max

    def to_delete(
        self,
        q: str = "",
        *,
        start: str | int | None = None,
        end: str | int | None = None,
        **filters: Unpack[RecordFilters],
    ) -> Condition:
        """What a request to delete means; the arguments are those of `logs`.

        Raises:
            QueryError: one cannot be understood, or all are empty: nobody deletes everything by mistake.
        """
        condition = self.condition(q, **filters)
        start_ns, end_ns = self._times(start, end)
        if condition == EVERYTHING and start_ns is None and end_ns is None:
            raise QueryError("name what is to be deleted: a search, a service, a trace, or a time range")
        if start_ns is None and end_ns is None:
            return condition
        return And((condition, Range("timestamp_ns", low=start_ns, high=end_ns, high_included=False)))

    def condition(
        self, q: str = "", *, operation: str | None = None, **filters: Unpack[RecordFilters]
    ) -> Condition:
        """What a record must fulfil: a search text and the most usual fields.

        Raises:
            QueryError: one cannot be understood.
        """
        return read_filters(q, self._clock_ns(), operation=operation, **filters)

    def _window(
        self, start: str | int | None, end: str | int | None, default_ns: int = WINDOW_DEFAULT_NS
    ) -> tuple[int, int]:
        """A stretch of time with both its ends; by default it ends now, and is `default_ns` long."""
        start_ns, end_ns = self._times(start, end)
        end_ns = self._clock_ns() if end_ns is None else end_ns
        start_ns = end_ns - default_ns if start_ns is None else start_ns
        if start_ns >= end_ns:
            raise QueryError("the time range is empty; start must be before end")
        return start_ns, end_ns

    def _times(self, start: str | int | None, end: str | int | None) -> tuple[int | None, int | None]:
        now_ns = self._clock_ns()
        return read_time(start, now_ns), read_time(end, now_ns)

    def _checked_limit(self, limit: int) -> int:
        if not 1 <= limit <= self._page_records_max:
            raise QueryError(f"limit {limit}: must be in 1..{self._page_records_max}")
        return limit
