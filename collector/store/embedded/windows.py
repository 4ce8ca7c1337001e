"""Looking back in time window by window.

To sort by time tantivy visits every record that a query finds. Of a large partition only some minutes
are asked for first, by the index, and then those before: the newest fifty of millions cost a
millisecond, and going through all of them visits each once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

import tantivy

from collector.store.contract import MINUTE_NS
from collector.store.embedded import schema as sc
from collector.store.embedded.snapshot import Snapshot
from collector.store.embedded.translate import EVERY, minutes_query

LARGE_RECORDS_MIN: Final = 20_000  # a smaller partition is looked at as a whole
# A window holds so many times the records that are wanted: enough for one in fifty to fulfil the query.
_RESERVE: Final = 64
_MINUTES_MAX: Final = 2_000  # of more minutes their set is no help any more


@dataclass(frozen=True, slots=True)
class Window:
    """Some minutes of a partition."""

    query: tantivy.Query
    minutes: int
    floor: int | None  # the earliest time (`order`) in it; `None`: it reaches to the oldest record

    @classmethod
    def first(cls, snapshot: Snapshot, edge: int | None, wanted: int) -> Self:
        """The newest minutes, up to an edge, that may hold as many records as are wanted."""
        bounds, documents = snapshot.bounds, snapshot.documents
        if bounds is None or documents < LARGE_RECORDS_MIN:
            return cls(EVERY, 0, None)
        minutes = sc.minute_of(bounds[1]) - sc.minute_of(bounds[0]) + 1
        newest = bounds[1] if edge is None else min(edge, bounds[1])
        return cls._reaching(snapshot, newest, 1 + minutes * wanted * _RESERVE // documents)

    def before(self, snapshot: Snapshot, *, hardly_any: bool) -> Self:
        """The window before this one, which has to have a floor.

        Args:
            hardly_any: this one held so few records that all that are left cannot be many.
        """
        if hardly_any or self.floor is None:
            return type(self)(EVERY, 0, None)
        return self._reaching(snapshot, self.floor - 1, self.minutes)

    @classmethod
    def _reaching(cls, snapshot: Snapshot, newest: int, minutes: int) -> Self:
        last = sc.minute_of(newest)
        first = last - minutes + 1
        if minutes > _MINUTES_MAX or snapshot.bounds is None or first <= sc.minute_of(snapshot.bounds[0]):
            return cls(EVERY, minutes, None)
        return cls(minutes_query(first, last), minutes, first * MINUTE_NS)
