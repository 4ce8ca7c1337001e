"""What a reader sees of one partition: never changed by a commit, a merge or the partition's removal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, Final, TypeVar, cast

import msgspec
import tantivy

from collector.deadline import check_deadline
from collector.errors import Damaged
from collector.model import Record
from collector.store.codec import unpack
from collector.store.embedded import schema as sc
from collector.store.embedded.profiles import Dictionary

GROUPS_MAX: Final = 65_000  # tantivy counts no more groups than this at once

Bounds = tuple[int, int]
Hit = tuple[int, tantivy.DocAddress]
_T = TypeVar("_T")


class Unreadable(Damaged):
    """tantivy could not read the files of a partition."""


class TooManyGroups(Exception):
    """A question has to be asked in parts; never leaves the store."""


class Figures(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is known of a partition without looking: kept in `state.json`, and by a writer as it adds."""

    documents: int
    bounds: Bounds | None = None  # smallest and largest `order`
    kinds: dict[str, int] | None = None  # records by kind


def is_panic(error: BaseException) -> bool:
    """Whether tantivy panicked, which is how it meets bytes that make no sense.

    The binding's PanicException is made to pass by `except Exception` on purpose, and it cannot be
    imported. Here a panic means one damaged partition, not a broken process.
    """
    return type(error).__name__ == "PanicException"


def guarded(partition: str, read: Callable[[], _T]) -> _T:
    """Run a call into tantivy; damage it stumbles over becomes our error.

    Raises:
        Unreadable: tantivy panicked or could not read.
    """
    try:
        return read()
    except BaseException as error:
        if isinstance(error, OSError | ValueError) or is_panic(error):
            raise Unreadable(f"partition {partition}: {error}") from error
        raise


class Snapshot:
    """The records of a partition at one moment."""

    def __init__(
        self,
        name: str,
        searcher: tantivy.Searcher,
        dictionary: Dictionary,
        known: Figures | None = None,
    ) -> None:
        """Look at a partition.

        Args:
            known: is believed when it is about as many records as there are; the rest is looked up when
                it is asked for.
        """
        self.name = name
        self.searcher = searcher
        self.dictionary = dictionary
        believed = known is not None and known.documents == searcher.num_docs
        self._known = known if known is not None and believed else Figures(searcher.num_docs)

    @property
    def documents(self) -> int:
        """Records of any kind."""
        return self._known.documents

    @cached_property
    def bounds(self) -> Bounds | None:
        """Smallest and largest `order`; `None` when there is nothing."""
        if self._known.bounds is not None:
            return self._known.bounds
        oldest = self.top_by(sc.ORDER, 1, newest_first=False)
        newest = self.top_by(sc.ORDER, 1)
        return (oldest[0][0], newest[0][0]) if oldest and newest else None

    @cached_property
    def kinds(self) -> Counter[str]:
        """Records by kind."""
        if self._known.kinds is not None:
            return Counter(self._known.kinds)
        counts: Counter[str] = Counter()
        for profile, count in self.group_counts(tantivy.Query.all_query(), sc.PROFILE).items():
            counts[self.dictionary.profiles[profile].kind] += count
        return counts

    def figures(self) -> Figures:
        """What is known by now, without looking for more."""
        found = vars(self)  # where `cached_property` keeps what it has computed
        kinds = dict(found["kinds"]) if "kinds" in found else self._known.kinds
        return Figures(self.documents, found.get("bounds", self._known.bounds), kinds)

    def count(self, query: tantivy.Query) -> int:
        """How many records fulfil a query."""
        check_deadline()
        # A limit of one, because tantivy takes none of zero.
        count: int = self.searcher.search(query, 1, count=True).count  # type: ignore[attr-defined]  # not in its stubs
        return count

    def group_counts(self, query: tantivy.Query, field: str) -> dict[int, int]:
        """How many records of a query have each value of a number field.

        Raises:
            TooManyGroups: it has more than `GROUPS_MAX` values.
        """
        return {int(group["key"]): group["doc_count"] for group in self.groups(query, field)}

    def groups(
        self, query: tantivy.Query, field: str, measures: dict[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        """The records of a query by the value of a number field, as tantivy's `terms` aggregation says it.

        Args:
            measures: aggregations to make of each group.
        Raises:
            TooManyGroups: it has more than `GROUPS_MAX` values, or `measures` has with them.
        """
        found = self._aggregated(query, {"terms": {"field": field, "size": GROUPS_MAX}}, measures)
        if found["sum_other_doc_count"]:
            raise TooManyGroups(f"{field} has more than {GROUPS_MAX} values")
        groups: list[dict[str, Any]] = found["buckets"]
        return groups

    def steps(
        self, query: tantivy.Query, field: str, length: int, measures: dict[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        """The records of a query by steps of a number field, which begin at multiples of their length.

        Steps without a record are left out.

        Args:
            measures: aggregations to make of each step.
        Raises:
            TooManyGroups: there are more than `GROUPS_MAX` steps, or groups in them.
        """
        wanted = {"histogram": {"field": field, "interval": length, "min_doc_count": 1}}
        steps: list[dict[str, Any]] = self._aggregated(query, wanted, measures)["buckets"]
        return steps

    def _aggregated(
        self, query: tantivy.Query, wanted: dict[str, Any], measures: dict[str, Any] | None
    ) -> dict[str, Any]:
        if measures is not None:
            wanted = {**wanted, "aggs": measures}
        check_deadline()
        try:
            found: dict[str, Any] = self.searcher.aggregate(query, {"groups": wanted})["groups"]
        except ValueError as error:
            if "bucket limit" in str(error):
                raise TooManyGroups(str(error)) from None
            raise
        return found

    def top_by(
        self, field: str, limit: int, query: tantivy.Query | None = None, *, newest_first: bool = True
    ) -> list[Hit]:
        """The records of a query with the greatest (or smallest) values of a column, with the values."""
        check_deadline()
        order = tantivy.Order.Desc if newest_first else tantivy.Order.Asc
        if query is None:
            query = tantivy.Query.all_query()
        hits: list[Hit] = self.searcher.search(
            query, limit, count=False, order_by_field=field, order=order
        ).hits
        return hits

    def column(self, field: str, addresses: Sequence[tantivy.DocAddress]) -> list[int | None]:
        """The values of a number column for some records, in their order."""
        values: list[int | None] = self.searcher.fast_field_values(field, list(addresses))  # type: ignore[assignment]
        return values

    def records(self, addresses: Sequence[tantivy.DocAddress]) -> list[Record]:
        """The records themselves, in the order of the addresses."""
        check_deadline()
        resources = self.dictionary.resources
        document = self.searcher.doc
        return [
            unpack(cast("bytes", document(address).get_first(sc.BODY)), resources[number or 0])
            for address, number in zip(addresses, self.column(sc.RESOURCE, addresses), strict=True)
        ]
