"""The least privileges that suffice, as role descriptors for an API key or a role. Pure.

Three kinds of key, so that the one that lies on a collector's disk can do the least harm: it adds records
and reads them. It cannot change or delete one, nor touch anything of anybody else's.
"""

from __future__ import annotations

from typing import Any

from collector.store.elastic.names import Names


def reader_role(names: Names) -> dict[str, Any]:
    """Enough to search, to see traces and to count."""
    return {
        "cluster": ["monitor"],
        "indices": [{"names": patterns(names), "privileges": ["read", "view_index_metadata", "monitor"]}],
    }


def collector_role(names: Names) -> dict[str, Any]:
    """Enough to take records in, once the templates are there."""
    role = reader_role(names)
    role["indices"][0]["privileges"] += ["auto_configure", "create_doc", "maintenance"]
    return role


def operator_role(names: Names) -> dict[str, Any]:
    """Enough for everything: to make the templates, to delete records, to roll over and to drop indices."""
    role = collector_role(names)
    role["cluster"].append("manage_index_templates")
    role["indices"][0]["privileges"] += ["delete", "manage"]
    return role


def patterns(names: Names) -> list[str]:
    """Our streams, in every namespace."""
    return [names.pattern_of(stream) for stream in names.streams]
