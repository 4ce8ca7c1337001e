"""What is known of one sender, and how each frame of the write-ahead log changes it. Pure.

Offsets are the logical byte offsets of a spool (ARCHITECTURE.md, "Spool"). Times are the sender's own
clock unless the name says `received`.
"""

from __future__ import annotations

from typing import Final

import msgspec

from collector.admit import Close
from collector.wal import Envelope
from tracing import semconv as sc

# A spool with more holes than this is in such a state that one wide hole says as much as many.
HOLES_MAX: Final = 64


class Hole(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Lines of a spool that are not here, and when the sender would have written them."""

    start: int  # offsets, the end not included
    end: int
    after_ns: int = 0  # written after this; 0: not known
    before_ns: int = 0  # written before this; 0: not known
    reason: str | None = None  # as the sender's `loss` line says; None: it has said nothing
    count: int | None = None  # lines, where the sender counted them

    def may_touch(self, start_ns: int, end_ns: int) -> bool:
        """Whether something that happened in a time range may be among the lines."""
        return self.after_ns <= end_ns and (not self.before_ns or self.before_ns >= start_ns)


class SpoolState(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One incarnation of a process: what arrived, what is missing, how it ended."""

    spool_id: str
    service: str = ""
    instance: str | None = None
    host: str | None = None
    pid: int | None = None
    parent: str | None = None  # spool id of the process it was forked from
    start: int = 0  # offset of the first line that was ever offered
    mark: int = 0  # every line before it is durable, or in one of the holes
    missing: list[Hole] = []  # nobody has explained these; what arrives late fills them
    losses: list[Hole] = []  # the sender says itself that it does not have these
    lines: int = 0
    refused: dict[str, int] = {}
    close: Close | None = None
    last_written_ns: int = 0
    first_received_ns: int = 0
    last_received_ns: int = 0

    @property
    def is_known(self) -> bool:
        """Whether anything of the spool ever arrived."""
        return self.first_received_ns > 0

    def wanted(self, start: int, end: int) -> list[tuple[int, int]]:
        """Which parts of an offered stretch are not here yet."""
        parts = [
            (max(start, hole.start), min(end, hole.end))
            for hole in self.missing
            if hole.start < end and hole.end > start
        ]
        if end > self.mark:
            parts.append((max(start, self.mark), end))
        return parts

    def acknowledged(self, offset: int) -> int:
        """The first offset from here on that is not yet durable."""
        if not self.is_known:
            return offset
        for hole in self.missing:
            if hole.start <= offset < hole.end:
                return offset
            if hole.start > offset:
                return hole.start
        return max(offset, self.mark)

    def apply(self, envelope: Envelope, lines: int) -> None:
        """Take note of a durable frame."""
        if not self.is_known:
            self._introduce(envelope)
        if envelope.first > self.mark:
            self._note_missing(
                Hole(
                    start=self.mark,
                    end=envelope.first,
                    after_ns=self.last_written_ns,
                    before_ns=envelope.first_written_ns,
                )
            )
        else:
            self.missing = _without(self.missing, envelope.first, envelope.end)
        self.mark = max(self.mark, envelope.end)
        for loss in envelope.losses:
            start = self.mark if loss.start is None else loss.start
            end = start if loss.end is None else max(loss.end, start)
            self.missing = _without(self.missing, start, end)
            self._note_loss(
                Hole(
                    start=start,
                    end=end,
                    after_ns=self.last_written_ns,
                    before_ns=loss.written_ns,
                    reason=loss.reason,
                    count=loss.count,
                )
            )
        self.lines += lines
        for reason, count in envelope.refused.items():
            self.refused[reason] = self.refused.get(reason, 0) + count
        self.close = envelope.close or self.close
        self.last_written_ns = max(self.last_written_ns, envelope.last_written_ns)
        self.last_received_ns = max(self.last_received_ns, envelope.received_ns)

    def _introduce(self, envelope: Envelope) -> None:
        resource = envelope.resource
        self.service = str(resource.get(sc.SERVICE_NAME, ""))
        self.instance = _text(resource.get(sc.SERVICE_INSTANCE_ID))
        self.host = _text(resource.get(sc.HOST_NAME))
        pid = resource.get(sc.PROCESS_PID)
        self.pid = pid if isinstance(pid, int) else None
        self.parent = envelope.parent
        self.first_received_ns = envelope.received_ns
        self.start = envelope.first

    def _note_missing(self, hole: Hole) -> None:
        parts = [hole]
        for loss in self.losses:  # a loss may be told before the stretch is jumped over
            parts = _without(parts, loss.start, loss.end)
        self.missing = _bounded(self.missing + parts)

    def _note_loss(self, hole: Hole) -> None:
        self.losses = _bounded([*self.losses, hole])


class RequestState(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One request of a sender without positions: how far it got, so that its repetition goes on there."""

    origin: str  # first part of its records' identities
    done: int  # records that are durable
    complete: bool
    received_ns: int  # when it came first


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _without(holes: list[Hole], start: int, end: int) -> list[Hole]:
    """The holes, less a stretch that is filled or explained."""
    left = []
    for hole in holes:
        if hole.end <= start or hole.start >= end:
            left.append(hole)
            continue
        if hole.start < start:
            left.append(msgspec.structs.replace(hole, end=start))
        if hole.end > end:
            left.append(msgspec.structs.replace(hole, start=end))
    return left


def _bounded(holes: list[Hole]) -> list[Hole]:
    """The holes in order of offset, at most `HOLES_MAX`: the last ones become one."""
    ordered = sorted(holes, key=lambda hole: (hole.start, hole.end))
    if len(ordered) <= HOLES_MAX:
        return ordered
    kept, rest = ordered[: HOLES_MAX - 1], ordered[HOLES_MAX - 1 :]
    counts = [hole.count for hole in rest if hole.count is not None]
    kept.append(
        Hole(
            start=rest[0].start,
            end=max(hole.end for hole in rest),
            after_ns=min(hole.after_ns for hole in rest),
            before_ns=0 if any(not hole.before_ns for hole in rest) else max(h.before_ns for h in rest),
            reason=rest[0].reason if len({hole.reason for hole in rest}) == 1 else "several",
            count=sum(counts) if counts else None,
        )
    )
    return kept
