"""A record -> a document of a partition: what it is called by, who called it, and its bytes."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Final

import tantivy

from collector.model import Record
from collector.store.codec import pack
from collector.store.embedded import schema as sc
from collector.store.embedded.parents import Parents
from collector.store.embedded.partition import Partition
from collector.store.embedded.profiles import profile_of

UNSTORABLE: Final = "unstorable"  # the one reason for a refusal; the log says more

_log: Final = logging.getLogger(__name__)


class Adder:
    """Adds records to partitions, and remembers which service their parents are of."""

    def __init__(self, parents_max: int) -> None:
        """Remember so many spans."""
        self._parents = Parents(parents_max)

    def remember(self, records: Iterable[Record]) -> None:
        """Look at records that are about to be added, because a child may come before its parent."""
        for record in records:
            if record.kind in ("span", "span_start") and record.trace_id and record.span_id:
                self._parents.remember(sc.span_hash(record.trace_id, record.span_id), record.service)

    def add(self, record: Record, partition: Partition) -> str | None:
        """Write one record; the reason why it can never be written, if that is so.

        Raises:
            StoreFailed: the disk is full or failed.
        """
        body, record = pack(record)
        caller, unknown = self._caller_of(record)
        dictionary = partition.dictionary
        resource = dictionary.resource_id(record.resource)
        fields = sc.fields_of_record(
            record,
            body,
            profile=dictionary.profile_id(profile_of(record, caller)),
            resource=resource,
            parent_unknown=unknown,
        )
        try:
            document = tantivy.Document.from_dict(fields, sc.SCHEMA)
        except (ValueError, TypeError, OverflowError) as error:
            _log.warning("record %s does not fit the index: %s", record.uid, error)
            return UNSTORABLE
        partition.add(document, order=fields[sc.ORDER], record=record, body=body, resource=resource)
        return None

    def _caller_of(self, record: Record) -> tuple[str | None, bool]:
        """The service that called a span, if it is known and another one; and whether it is not known."""
        if record.kind != "span" or record.trace_id is None or record.parent_span_id is None:
            return None, False
        service = self._parents.service_of(sc.span_hash(record.trace_id, record.parent_span_id))
        if service is None:
            return None, True
        return (None if service == record.service else service), False
