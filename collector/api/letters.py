"""Dead letters for people and programs: shown, sent again, dropped.

`CollectorClient.dead_letters` has the same methods with the same arguments, results and errors.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final, Self

import msgspec

from collector.api import shapes, views
from collector.api.shapes import JsonObject, plain
from collector.errors import NotFound, QueryError, Refused
from collector.model import Record
from collector.receive.lines import record_from_line
from collector.store.contract import Appended, Store
from collector.store.deadletters import DeadLetter, DeadLetters, KeepsDeadLetters
from tracing.errors import InvalidLine

PAGE_LETTERS_MAX: Final = 1_000


class DeadLetterAnswers:
    """Questions about what a store was refused, and orders to try again.

    Args:
        letters: the file; `None`: this store keeps none, because nothing refuses it a record.
        store: that takes them when they go again; `None`: they are only looked at.
    """

    def __init__(self, letters: DeadLetters | None, store: KeepsDeadLetters | None = None) -> None:
        self._letters = letters
        self._store = store

    @classmethod
    def of(cls, store: Store) -> Self:
        """Those of a store, of whatever kind."""
        if not isinstance(store, KeepsDeadLetters):
            return cls(None)
        return cls(store.dead_letters, store)

    def list(self, *, limit: int = 50, cursor: str | None = None) -> JsonObject:
        """Dead letters in the order they came, a page at a time (`shapes.DeadLettersObject`).

        Raises:
            QueryError: what the cursor stands for has been dealt with since; begin again.
        """
        if self._letters is None:
            return plain(shapes.DeadLettersObject(total=0, dead_letters=[], cursor=None))
        limit = min(limit, PAGE_LETTERS_MAX)
        try:
            found = self._letters.page(limit=limit + 1, after=cursor)
        except NotFound as error:
            raise QueryError(f"cursor: {error}; begin again without it") from None
        page = found[:limit]
        return plain(
            shapes.DeadLettersObject(
                total=len(self._letters),
                dead_letters=[shapes.DeadLetterObject(**_fields(letter)) for letter in page],
                cursor=page[-1].uid if len(found) > limit and page else None,
            )
        )

    def show(self, uid: str) -> JsonObject:
        """One dead letter, with what was sent (`shapes.WholeDeadLetterObject`).

        Raises:
            NotFound: there is none for this record.
        """
        letter = self._kept([uid]).get(uid)
        return plain(shapes.WholeDeadLetterObject(**_fields(letter), document=letter.document))

    def replay(
        self, uids: Collection[str] | None = None, *, records: Sequence[JsonObject] = ()
    ) -> JsonObject:
        """Send dead letters again; what is stored is no longer one (`shapes.ReplayedObject`).

        Args:
            uids: of the records; `None` means all, or those of `records` where there are some.
            records: to be sent instead of what the letters hold, each whole and under the letter's `uid`.
        Raises:
            NotFound: there is no dead letter for a uid; nothing was sent.
            Refused: one of `records` is none; nothing was sent.
            StoreFailed: the cluster is away; what it took before that is no longer a dead letter.
        """
        edited = {record.uid: record for record in map(_record_of, records)}
        chosen = [*(uids or ()), *edited] if uids is not None or edited else None
        if self._letters is None and chosen is None:
            return plain(_replayed(Appended(stored=0, already_stored=0), left=0))
        letters = self._kept(chosen or ())
        if self._store is None:
            raise QueryError("dead letters are sent again by the running collector; name it with its URL")
        appended = self._store.replay(chosen, edit=lambda record: _edited(record, edited))
        return plain(_replayed(appended, left=len(letters)))

    def drop(self, uids: Collection[str]) -> JsonObject:
        """Give dead letters up for good: their records are lost (`shapes.DroppedObject`).

        Raises:
            NotFound: there is none for a uid; nothing was dropped.
        """
        letters = self._kept(uids)
        letters.remove(uids)
        return plain(shapes.DroppedObject(dropped=len(set(uids)), left=len(letters)))

    def _kept(self, uids: Collection[str]) -> DeadLetters:
        """The letters, all of these uids among them."""
        missing = [uid for uid in uids if self._letters is None or uid not in self._letters]
        if missing or self._letters is None:
            named = f" for record {missing[0]!r:.120}" if missing else "s here"
            raise NotFound(
                f"there is no dead letter{named}; `backtrail dead-letters list` shows those there are"
            )
        return self._letters


def _fields(letter: DeadLetter) -> JsonObject:
    return {
        "uid": letter.uid,
        "refused": views.time_text(letter.refused_ns),
        "stream": letter.stream,
        "reason": letter.reason,
        "field": letter.field,
        "message": letter.message,
        "record": views.record_view(letter.as_record()),
    }


def _record_of(fields: JsonObject) -> Record:
    uid = fields.get("uid")
    if not isinstance(uid, str) or not uid:
        raise Refused("bad_id", "each record needs the uid of its dead letter", field="uid")
    try:
        return record_from_line(msgspec.json.encode(fields), uid=uid, resource={})
    except InvalidLine as error:
        raise Refused(error.reason, f"record {uid}: {error}", field=error.field) from None


def _edited(record: Record, edited: dict[str, Record]) -> Record:
    instead = edited.get(record.uid)
    return record if instead is None else msgspec.structs.replace(instead, received_ns=record.received_ns)


def _replayed(appended: Appended, *, left: int) -> shapes.ReplayedObject:
    return shapes.ReplayedObject(
        stored=appended.stored,
        already_stored=appended.already_stored,
        refused=[shapes.RefusedAgainObject(uid=one.uid, reason=reason) for one, reason in appended.refused],
        left=left,
    )
