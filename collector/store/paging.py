"""The order of records, and cursors that mean a place in it. Pure.

A cursor names the last record that was given, not a number of records to skip: pages stay whole
while new records arrive.
"""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode

from collector.errors import QueryError
from collector.model import Record
from collector.store.contract import Place, TraceSummary


def place_of(record: Record) -> Place:
    """Where a record stands in every ordered answer: `(timestamp_ns, uid)`."""
    return record.timestamp_ns, record.uid


def place_of_trace(summary: TraceSummary) -> Place:
    """Where a trace stands in every list of traces: `(start_ns, trace_id)`."""
    return summary.start_ns, summary.trace_id


def write_cursor(place: Place) -> str:
    """A cursor for what comes after this place, fit for a URL."""
    return urlsafe_b64encode(f"{place[0]}:{place[1]}".encode()).decode().rstrip("=")


def read_cursor(cursor: str) -> Place:
    """The place that a cursor names.

    Raises:
        QueryError: it is not one of ours.
    """
    try:
        text = urlsafe_b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4)).decode()
        timestamp, separator, uid = text.partition(":")
        if separator:
            return int(timestamp), uid
    except ValueError:  # covers bad base64, bad UTF-8 and a bad number
        pass
    raise QueryError(f"not a cursor of ours: {cursor[:64]!r}; use the one the page before gave")
