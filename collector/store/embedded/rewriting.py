"""A partition without what was deleted from it.

A deletion only marks records; their bytes stay in the index until a merge happens to take them along,
and in the dictionary for ever. Rewriting reads what is left and writes it anew. The result stands beside
the partition under another name and says in its note which one it replaces, so that at every moment
of a crash one of the two is whole and it is known which one counts.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import tantivy

from collector.store.codec import pack
from collector.store.conditions import Everything
from collector.store.embedded import schema as sc
from collector.store.embedded.partition import INDEX, Partition
from collector.store.embedded.reading import Plan, plan


def has_deletions(partition: Path) -> bool:
    """Whether records were deleted whose bytes are still there."""
    meta = msgspec.json.decode((partition / INDEX / "meta.json").read_bytes())
    return any(segment.get("deletes") for segment in meta["segments"])


def rewritten(partition: Partition, target: Path, *, heap_bytes: int) -> Partition:
    """Write what is left of a partition into a new one, which is whole when this returns.

    Args:
        target: where it grows, unseen; whoever puts it in place renames it.
    Raises:
        StoreFailed: the disk is full or failed.
        OSError: likewise.
    """
    made = Partition.create(target, keep_records=partition.keeps_records, replaces=partition.name)
    try:
        made.open_writer(heap_bytes)
        _copy(plan(partition.snapshot, Everything()), made)
        made.commit()
    finally:
        made.close_writer()
    return made


def _copy(everything: Plan, made: Partition) -> None:
    snapshot = everything.snapshot
    profiles = snapshot.dictionary.profiles
    for hits in everything.hits():
        addresses = [address for _, address in hits]
        numbers = snapshot.column(sc.PROFILE, addresses)
        parents = snapshot.column(sc.PARENT, addresses)
        for record, number, parent in zip(snapshot.records(addresses), numbers, parents, strict=True):
            body = pack(record)[0]
            resource = made.dictionary.resource_id(record.resource)
            fields = sc.fields_of_record(
                record,
                body,
                profile=made.dictionary.profile_id(profiles[number or 0]),
                resource=resource,
                parent_unknown=parent is not None,
            )
            document = tantivy.Document.from_dict(fields, sc.SCHEMA)
            made.add(document, order=fields[sc.ORDER], record=record, body=body, resource=resource)


__all__ = ["has_deletions", "rewritten"]
