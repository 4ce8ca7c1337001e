"""Records that this machine reads itself, from files and sockets, into the log.

A line of a file has a place, as a line of a spool has: file and byte offset. So the ledger's marks are
the checkpoints, and reading on after a crash neither loses a line nor takes one twice. A datagram has
none, and can come but once.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from collector.admit.values import mended_attributes
from collector.intake.answers import ForeignAnswer
from collector.intake.foreign import line_of_foreign
from collector.intake.limits import IntakeLimits
from collector.intake.turns import Turns
from collector.ledger import Ledger
from collector.receive.foreign import Foreign
from collector.wal import Envelope, Wal, WalBatch
from tracing import semconv as sc
from tracing.errors import InvalidLine
from tracing.redact import Redactor


class Placed(msgspec.Struct, frozen=True):
    """A record with its place in a file."""

    start: int  # byte offset of its first line
    record: Foreign


class PlacedIntake:
    """Takes records that were read, not sent."""

    def __init__(
        self,
        wal: Wal,
        ledger: Ledger,
        turns: Turns,
        *,
        clock_ns: Callable[[], int],
        limits: IntakeLimits,
        redactor: Redactor | None,
    ) -> None:
        """As `Intake`."""
        self._wal = wal
        self._ledger = ledger
        self._turns = turns
        self._clock_ns = clock_ns
        self._limits = limits.admit
        self._redactor = redactor

    def file(
        self, origin: str, resource: dict[str, Any], records: Sequence[Placed], *, first: int, end: int
    ) -> ForeignAnswer:
        """Make a stretch of a file durable.

        Args:
            origin: 32 hex, the same for the same file's content.
            resource: of its records.
            records: of the stretch, in order.
            first: byte offset of the stretch.
            end: byte offset behind it; all before it counts as done.
        Raises:
            Overloaded: there is no room; nothing was taken.
        """
        answer = ForeignAnswer()
        with self._turns.of(origin):
            batches = []
            for start, stop in self._ledger.wanted(origin, first, end):
                wanted = [one for one in records if start <= one.start < stop]
                batches.append(self._stretch(origin, resource, wanted, start, stop, answer))
            if batches:
                self._wal.append(*batches)
        return answer

    def _stretch(
        self,
        origin: str,
        resource: dict[str, Any],
        records: Sequence[Placed],
        first: int,
        end: int,
        answer: ForeignAnswer,
    ) -> WalBatch:
        received_ns = self._clock_ns()
        lines: list[bytes] = []
        jumps: list[tuple[int, int]] = []
        mended: Counter[str] = Counter()
        refused: Counter[str] = Counter()
        position = first
        for one in records:
            try:
                line = line_of_foreign(one.record, received_ns, self._limits, mended, self._redactor)
            except InvalidLine as error:
                refused[error.reason] += 1
                answer.refuse(one.start, error)
                continue
            if one.start != position:
                jumps.append((len(lines), one.start - position))
            lines.append(line)
            position = one.start + len(line)
            answer.stored += 1
        times = [at for one in records if isinstance(at := one.record.fields.get(sc.TIMESTAMP), int)]
        envelope = Envelope(
            received_ns=received_ns,
            resource=mended_attributes(resource, self._limits, mended),
            origin=origin,
            first=first,
            end=end,
            jumps=jumps,
            check_uids=self._ledger.may_have_forgotten(),
            first_written_ns=times[0] if times else 0,
            last_written_ns=times[-1] if times else received_ns,
            refused=dict(refused),
            mended=dict(+mended),
        )
        return WalBatch(envelope, b"".join(lines))

    def passing(self, records: Sequence[Foreign]) -> ForeignAnswer:
        """Make records durable that can come but once.

        Raises:
            Overloaded: there is no room; nothing was taken.
        """
        answer = ForeignAnswer()
        received_ns, prefix = self._clock_ns(), secrets.token_hex(16)
        lines: dict[int, list[bytes]] = {}
        resources: dict[int, dict[str, Any]] = {}
        mended: Counter[str] = Counter()
        refused: Counter[str] = Counter()
        shared: dict[tuple[tuple[str, Any], ...], int] = {}
        for index, record in enumerate(records):
            try:
                line = line_of_foreign(record, received_ns, self._limits, mended, self._redactor)
            except InvalidLine as error:
                refused[error.reason] += 1
                answer.refuse(index, error)
                continue
            key = shared.setdefault(tuple(sorted(record.resource.items())), len(shared))
            resources.setdefault(key, record.resource)
            named = b'%b,"uid":"%b-%d"}\n' % (line[:-2], prefix.encode(), index)
            lines.setdefault(key, []).append(named)
            answer.stored += 1
        batches = [
            WalBatch(
                Envelope(
                    received_ns=received_ns,
                    resource=mended_attributes(resources[key], self._limits, mended),
                    named=True,
                ),
                b"".join(several),
            )
            for key, several in lines.items()
        ]
        if refused or mended:
            facts = Envelope(received_ns=received_ns, refused=dict(refused), mended=dict(+mended))
            batches.append(WalBatch(facts))
        if batches:
            self._wal.append(*batches)
        return answer
