"""The lines of our own shippers and importers, into the log.

What is known already is skipped by the sender's own positions, under the sender's turn, so that a batch
that arrives twice at the same moment is stored once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from typing import Final

import msgspec

from collector.admit import Admitted, RefusedLine, admit_lines
from collector.admit.values import mended_attributes
from collector.errors import CollectorError
from collector.intake.answers import IngestAnswer, ingest_answer
from collector.intake.limits import IntakeLimits
from collector.intake.turns import Turns
from collector.ledger import Ledger
from collector.receive.native import SpoolPlace, parent_spool, split_header
from collector.wal import Envelope, Wal, WalBatch

Existing = Callable[[Collection[str]], set[str]]  # which of these uids are stored and visible


class _Named(msgspec.Struct, gc=False):
    uid: str


_uid_decoder: Final = msgspec.json.Decoder(_Named)


class NativeIntake:
    """Takes lines with a place in a spool, and lines that carry their own identity."""

    def __init__(
        self,
        wal: Wal,
        ledger: Ledger,
        turns: Turns,
        *,
        clock_ns: Callable[[], int],
        limits: IntakeLimits,
        existing: Existing,
    ) -> None:
        """As `Intake`."""
        self._existing = existing
        self._wal = wal
        self._ledger = ledger
        self._turns = turns
        self._clock_ns = clock_ns
        self._limits = limits

    def spool(self, place: SpoolPlace, data: bytes) -> IngestAnswer:
        """Take a stretch of a spool, its segment's header line in front.

        Raises:
            Refused: the header line is not what the request says.
            Overloaded: there is no room; nothing was taken.
        """
        header, lines = split_header(data, place.spool_id)
        lines = lines[: lines.rfind(b"\n") + 1]  # data ends at the last newline, as in the spool itself
        resource = mended_attributes(header.resource, self._limits.admit, Counter())
        spool_id, offset = place.spool_id, place.offset
        with self._turns.of(spool_id):
            looked_at: list[Admitted] = []
            batches: list[WalBatch] = []
            for start, end in self._ledger.wanted(spool_id, offset, offset + len(lines)):
                first = _line_start(lines, start - offset)
                last = _line_start(lines, end - offset)
                if first == last:
                    continue
                admitted = admit_lines(lines[first:last], offset=offset + first, limits=self._limits.admit)
                looked_at.append(admitted)
                envelope = Envelope(
                    received_ns=self._clock_ns(),
                    resource=resource,
                    origin=spool_id,
                    first=start,
                    end=end,
                    jumps=_shifted(admitted.jumps, offset + first - start),
                    check_uids=self._ledger.may_have_forgotten(),
                    first_written_ns=admitted.first_written_ns,
                    last_written_ns=admitted.last_written_ns,
                    parent=parent_spool(header),
                    refused=_by_reason(admitted.refused),
                    mended=admitted.mended,
                    losses=admitted.losses,
                    close=admitted.close,
                )
                batches.append(WalBatch(envelope, admitted.lines))
            if batches:
                self._wal.append(*batches)
            return ingest_answer(looked_at, self._ledger.acknowledged(spool_id, offset))

    def named(self, data: bytes) -> IngestAnswer:
        """Take lines that carry their `uid`.

        What searches find already is not written again. What came a moment ago is, and the indexer, who
        looks each line up once more, passes over it.

        Raises:
            Overloaded: there is no room; nothing was taken.
        """
        if data and not data.endswith(b"\n"):
            data += b"\n"
        admitted = admit_lines(data, named=True, limits=self._limits.admit)
        envelope = Envelope(
            received_ns=self._clock_ns(),
            named=True,
            check_uids=True,
            refused=_by_reason(admitted.refused),
            mended=admitted.mended,
        )
        new_lines, already_stored = self._without_known(admitted.lines)
        if data:
            self._wal.append(WalBatch(envelope, new_lines))
        return ingest_answer([admitted], None, already_stored=already_stored)

    def _without_known(self, lines: bytes) -> tuple[bytes, int]:
        """The lines that are not stored yet, and how many are."""
        try:
            uids = [line.uid for line in _uid_decoder.decode_lines(lines)]
            known = self._existing(uids)
        except (CollectorError, msgspec.DecodeError, RecursionError):
            return lines, 0  # the store is away, or a line is odd: the indexer looks each up once more
        if not known:
            return lines, 0
        each = zip(uids, lines.split(b"\n")[:-1], strict=True)
        new = [b"%b\n" % line for uid, line in each if uid not in known]
        return b"".join(new), len(uids) - len(new)


def _line_start(lines: bytes, at: int) -> int:
    """The first place from `at` on where a line begins."""
    if at <= 0 or lines[at - 1 : at] == b"\n":
        return max(at, 0)
    end = lines.find(b"\n", at)
    return len(lines) if end < 0 else end + 1


def _shifted(jumps: list[tuple[int, int]], by: int) -> list[tuple[int, int]]:
    """The jumps, with one more before the first line."""
    if not by:
        return jumps
    if jumps and jumps[0][0] == 0:
        return [(0, jumps[0][1] + by), *jumps[1:]]
    return [(0, by), *jumps]


def _by_reason(refused: list[RefusedLine]) -> dict[str, int]:
    return dict(Counter(line.reason for line in refused))
