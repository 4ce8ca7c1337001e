"""Dead letters of a running collector."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from urllib.parse import quote

from collector.client.wire import JsonObject, Wire

_PATH = "/api/v1/dead-letters"
_HEADERS = {"Content-Type": "application/json"}


class DeadLetterClient:
    """Has the methods of `collector.api.letters.DeadLetterAnswers`; `CollectorClient` makes it.

    Args:
        wire: the client's connection, whose thread this belongs to, too.
        token: to look at them; `ingest_token` to send them again, `admin_token` to drop them.
    """

    def __init__(
        self, wire: Wire, *, token: str | None, ingest_token: str | None, admin_token: str | None
    ) -> None:
        self._wire = wire
        self._token = token
        self._ingest_token = ingest_token
        self._admin_token = admin_token

    def list(self, *, limit: int = 50, cursor: str | None = None) -> JsonObject:
        """Dead letters in the order they came, a page at a time."""
        return self._wire.call("GET", _PATH, query={"limit": limit, "cursor": cursor}, token=self._token)

    def show(self, uid: str) -> JsonObject:
        """One dead letter, with what was sent.

        Raises:
            NotFound: there is none for this record.
        """
        return self._wire.call("GET", f"{_PATH}/{quote(uid, safe='')}", token=self._token)

    def replay(
        self, uids: Collection[str] | None = None, *, records: Sequence[JsonObject] = ()
    ) -> JsonObject:
        """Send dead letters again; what is stored is no longer one.

        Args:
            uids: of the records; `None` means all, or those of `records` where there are some.
            records: to be sent instead of what the letters hold, each whole and under the letter's `uid`.
        Raises:
            NotFound, Refused: nothing was sent; the message says which uid or field.
            Overloaded: the cluster is away; what it took before that is no longer a dead letter.
        """
        given: JsonObject = {} if uids is None else {"uids": [*uids]}
        return self._order("replay", given | ({"records": [*records]} if records else {}), self._ingest_token)

    def drop(self, uids: Collection[str]) -> JsonObject:
        """Give dead letters up for good: their records are lost.

        Raises:
            NotFound: there is none for a uid; nothing was dropped.
        """
        return self._order("drop", {"uids": [*uids]}, self._admin_token)

    def _order(self, name: str, body: JsonObject, token: str | None) -> JsonObject:
        sent = json.dumps(body).encode()
        return self._wire.call("POST", f"{_PATH}/{name}", body=sent, headers=_HEADERS, token=token)
