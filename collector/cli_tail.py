"""`backtrail tail`: the newest records, then every new one as it becomes visible."""

from __future__ import annotations

import json
from typing import Any

from rich.text import Text

from collector.api.filters import RecordFilters
from collector.cli_app import complain_of_nothing
from collector.cli_source import Place, UsageError
from collector.cli_tables import RecordDrawing
from collector.cli_text import Screen, count
from collector.errors import Unreachable

JsonObject = dict[str, Any]


def show_tail(
    place: Place,
    query: str,
    filters: RecordFilters,
    *,
    limit: int,
    follow: bool,
    as_json: bool,
    screen: Screen,
) -> int:
    """Show the newest records, then with `follow` every new one until Ctrl-C.

    Args:
        query, filters: what the records must be.
        limit: how many of those that are there already.
        as_json: one record a line.
    Returns:
        0, or 1 when without `follow` nothing was there.
    """
    if follow and place.url is None:
        raise UsageError("--follow needs a running collector (--url); a data directory alone does not change")
    writer = _Writer(screen, as_json=as_json)
    # The stream is opened before the page is asked for, so that nothing falls between the two.
    stream = place.client().tail(query, **filters) if follow else None
    with place.answers() as answers:
        page = answers.logs(query, limit=limit, **filters) if limit else {"records": []}
    for record in reversed(page["records"]):
        writer.record(record)
    if stream is None:
        if not page["records"]:
            complain_of_nothing(place, query)
        return 0 if page["records"] else 1
    shown = {record["uid"] for record in page["records"]}
    for name, data in stream:
        if name == "dropped":
            writer.note(f"{count(data['count'], 'record')} not shown: they came faster than this reads")
        elif data["uid"] not in shown:
            writer.record(data)
    raise Unreachable(f"{place.url}: the collector ended the stream")


class _Writer:
    def __init__(self, screen: Screen, *, as_json: bool) -> None:
        self._screen = screen
        self._as_json = as_json
        self._drawing = RecordDrawing(screen.width)

    def record(self, record: JsonObject) -> None:
        self._screen.show([json.dumps(record)] if self._as_json else self._drawing.lines(record))

    def note(self, text: str) -> None:
        self._screen.show(
            [json.dumps({"note": text}) if self._as_json else Text(f"⚠ {text}", style="yellow")]
        )
