"""What every protocol but our own is decoded into: the fields of record lines, with their resource."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from tracing.errors import InvalidLine


class Foreign(msgspec.Struct, frozen=True):
    """One record of a foreign sender, before admission."""

    fields: dict[str, Any]  # by the keys of a record line; `timestamp` epoch nanoseconds, None: not stated
    resource: dict[str, Any]  # the same object for neighbours that share it
    uid: str | None = None  # when the sender has an identity for it; a span is known by its content


class Unreadable(msgspec.Struct, frozen=True):
    """One record that could not be decoded; its neighbours could."""

    problem: InvalidLine


Decoded = Iterator[Foreign | Unreadable]
"""The records of one request in their order, which the same bytes always give."""
