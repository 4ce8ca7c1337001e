"""Changes and findings of a running collector."""

from __future__ import annotations

import json
from typing import Any, Final

from collector.client.wire import JsonObject, Wire
from tracing.line import format_timestamp

Time = str | int | None  # in human words, or epoch nanoseconds

_CHANGES: Final = "/api/v1/changes"
_FINDINGS: Final = "/api/v1/findings"
_HEADERS: Final = {"Content-Type": "application/json"}


class ChangeClient:
    """Changes made on purpose; `CollectorClient` makes it.

    Args:
        wire: the client's connection, whose thread this belongs to, too.
        token: to list them; `ingest_token` to tell one.
    """

    def __init__(self, wire: Wire, *, token: str | None, ingest_token: str | None) -> None:
        self._wire = wire
        self._token = token
        self._ingest_token = ingest_token

    def list(
        self,
        *,
        start: Time = None,
        end: Time = None,
        service: str | None = None,
        kind: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> JsonObject:
        """Changes, newest first, a page at a time; see `collector.api.events.ChangeAnswers.list`."""
        query = {"service": service, "kind": kind, "limit": limit, "cursor": cursor}
        query |= {"start": _time(start), "end": _time(end)}
        return self._wire.call("GET", _CHANGES, query=query, token=self._token)

    def record(
        self,
        kind: str,
        service: str,
        *,
        name: str | None = None,
        old: str | float | bool | None = None,
        new: str | float | bool | None = None,
        timestamp: str | int | None = None,
        message: str | None = None,
        attributes: dict[str, Any] | None = None,
    ) -> JsonObject:
        """Tell that something was changed on purpose; it is durable when this returns.

        Args:
            kind: `deployment`, `config`, `flag`, `infrastructure`, or a word of your own.
            service: whom it concerns; `*`: everybody.
            name: what was changed.
            old, new: values before and after.
            timestamp: RFC 3339 or epoch nanoseconds; with one, telling it twice is harmless; by default now.
            message: one sentence, by default made of the rest.
            attributes: whatever else is worth knowing.
        Raises:
            Refused, Overloaded: it was not taken.
        """
        told = {
            "kind": kind,
            "service": service,
            "name": name,
            "old": old,
            "new": new,
            "timestamp": _time(timestamp),
            "message": message,
            "attributes": attributes or {},
        }
        body = json.dumps({key: value for key, value in told.items() if value is not None}).encode()
        return self._wire.call("POST", _CHANGES, body=body, headers=_HEADERS, token=self._ingest_token)


class FindingClient:
    """What the watch has found; `CollectorClient` makes it."""

    def __init__(self, wire: Wire, *, token: str | None) -> None:
        self._wire = wire
        self._token = token

    def list(
        self,
        *,
        start: Time = None,
        end: Time = None,
        service: str | None = None,
        state: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> JsonObject:
        """Findings, newest first, a page at a time; see `collector.api.events.FindingAnswers.list`."""
        query = {"service": service, "state": state, "limit": limit, "cursor": cursor}
        query |= {"start": _time(start), "end": _time(end)}
        return self._wire.call("GET", _FINDINGS, query=query, token=self._token)


def _time(value: Time) -> str | None:
    """A bare number would be taken for seconds or milliseconds, as people write them."""
    return format_timestamp(value) if isinstance(value, int) else value
