"""`backtrail tail -f`: records as they become visible, over the collector's server-sent events."""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Iterator
from typing import IO, Any, Final, NamedTuple
from urllib.parse import urlencode, urlsplit

from rich.text import Text

from collector.cli_source import Place, UsageError
from collector.cli_tables import RecordDrawing
from collector.cli_text import Screen, count
from collector.errors import QueryError, Unreachable

JsonObject = dict[str, Any]

# The collector sends a sign of life every 15 s; three missing ones mean that nobody is there any more.
SILENCE_S_MAX: Final = 50.0
EVENT_BYTES_MAX: Final = 4 * 1024 * 1024


class Event(NamedTuple):
    """One server-sent event."""

    name: str
    data: JsonObject


def show_tail(place: Place, query: str, *, limit: int, follow: bool, as_json: bool, screen: Screen) -> int:
    """Show the newest records, then with `follow` every new one until Ctrl-C.

    Args:
        limit: how many of those that are there already.
        as_json: one record a line.
    Returns:
        0, or 1 when without `follow` nothing was there.
    """
    if follow and place.url is None:
        raise UsageError("--follow needs a running collector (--url); a data directory alone does not change")
    writer = _Writer(screen, as_json=as_json)
    # The stream is opened before the page is asked for, so that nothing falls between the two.
    stream = _open_stream(place, query) if follow else None
    with place.answers() as answers:
        page = answers.logs(query, limit=limit) if limit else {"records": []}
    for record in reversed(page["records"]):
        writer.record(record)
    if stream is None:
        return 0 if page["records"] else 1
    shown = {record["uid"] for record in page["records"]}
    for event in events(stream):
        if event.name == "dropped":
            writer.note(f"{count(event.data['count'], 'record')} not shown: they came faster than this reads")
        elif event.data["uid"] not in shown:
            writer.record(event.data)
    raise Unreachable(f"{place.url}: the collector ended the stream")


def events(stream: IO[bytes]) -> Iterator[Event]:
    """Read server-sent events until the stream ends; comments are passed over.

    Source: WHATWG HTML, "Server-sent events"; what we send has one `event` and one `data` line each.
    """
    name, data = "message", b""
    while line := stream.readline(EVENT_BYTES_MAX):
        key, _, value = line.rstrip(b"\r\n").partition(b": ")
        if key == b"event":
            name = value.decode()
        elif key == b"data":
            data = value
        elif not line.strip():
            if data:
                yield Event(name, json.loads(data))
            name, data = "message", b""


def _open_stream(place: Place, query: str) -> IO[bytes]:
    """Begin to watch.

    Raises:
        Unreachable: nobody is there, or it is not a collector.
        QueryError: the collector does not understand the query.
    """
    target = urlsplit(place.url or "")
    connection: http.client.HTTPConnection
    if target.scheme == "https":
        context = ssl.create_default_context()
        connection = http.client.HTTPSConnection(target.netloc, timeout=SILENCE_S_MAX, context=context)
    else:
        connection = http.client.HTTPConnection(target.netloc, timeout=SILENCE_S_MAX)
    headers = {"Accept": "text/event-stream"}
    if place.token:
        headers["Authorization"] = f"Bearer {place.token}"
    try:
        connection.request(
            "GET", f"{target.path.rstrip('/')}/api/v1/logs/tail?{urlencode({'q': query})}", headers=headers
        )
        response = connection.getresponse()
        if response.status == 200:
            return response
        body = response.read(EVENT_BYTES_MAX)
    except (OSError, http.client.HTTPException) as error:
        raise Unreachable(f"{place.url}: {error or type(error).__name__}") from error
    try:
        said = str(json.loads(body)["detail"])
    except (ValueError, KeyError, TypeError):
        said = f"HTTP status {response.status}"
    if response.status in (400, 422):
        raise QueryError(said)
    raise Unreachable(f"{place.url}: {said}")


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
