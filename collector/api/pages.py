"""Long answers of a store, a page at a time."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from collector.model import Record
from collector.store.conditions import Condition
from collector.store.contract import Store


def newest_pages(
    store: Store,
    condition: Condition,
    *,
    start_ns: int | None,
    end_ns: int | None,
    limit: int | None,
    page_records_max: int,
) -> Iterator[list[Record]]:
    """The records that match, newest first; the first page is there even when it is empty.

    Args:
        limit: how many records in all; `None`: as many as there are.
    """
    left = sys.maxsize if limit is None else limit
    cursor = None
    while left > 0:
        size = min(left, page_records_max)
        page = store.search(condition, start_ns=start_ns, end_ns=end_ns, limit=size, cursor=cursor)
        yield page.records
        left -= len(page.records)
        cursor = page.cursor
        if cursor is None:
            return
