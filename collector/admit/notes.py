"""What a sender says about its own lines: `loss` and `close`, in short."""

from __future__ import annotations

import msgspec


class Loss(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A `loss` line, in short: the sender says itself what it did not keep."""

    reason: str
    count: int
    start: int | None = None  # logical offsets in the spool, the end not included
    end: int | None = None
    written_ns: int = 0  # when the sender wrote the line


class Close(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A `close` line, in short: how a spool ended."""

    ended: str  # `exit`, `shutdown`, or `killed` when somebody else had to say it
    end_offset: int | None = None
    count: int | None = None
