"""Records of senders that state no position, into the log.

A log record has no identity of its own. The request that brought it has one, the hash of its body, and
in the request the record has an index: so the request is treated as a small spool, whose repetition goes
on where the first attempt got to. A span is identified by its content, and looked up before it is stored.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import orjson

from collector.admit import AdmitLimits, line_of
from collector.admit.values import mended_attributes
from collector.intake.answers import REFUSED_LISTED_MAX, ForeignAnswer
from collector.intake.limits import IntakeLimits
from collector.intake.turns import Turns
from collector.ledger import Ledger
from collector.receive.foreign import Foreign, Unreadable
from collector.wal import Envelope, Wal, WalBatch
from tracing import semconv as sc
from tracing.errors import InvalidLine
from tracing.redact import Redactor


class ForeignIntake:
    """Takes decoded records of any protocol."""

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
        self._limits = limits
        self._redactor = redactor

    def take(
        self,
        protocol: str,
        body: bytes,
        decoded: Iterable[Foreign | Unreadable],
        *,
        listed_max: int = REFUSED_LISTED_MAX,
    ) -> ForeignAnswer:
        """Make the records of one request durable.

        Args:
            protocol: so that equal bodies of two protocols are two requests.
            body: plain; the same bytes within the dedupe window are the same request.
            decoded: its records, in an order that depends on the bytes only.
            listed_max: refusals that the answer names.
        Raises:
            Refused: the body is wrong as a whole.
            Overloaded: there is no room; nothing was taken.
        """
        digest = _hash(protocol.encode(), body)
        answer = ForeignAnswer(listed_max=listed_max)
        with self._turns.of(digest):
            known = self._ledger.request(digest)
            received_ns = self._clock_ns()
            # The same body after the window is a new request, and so are its records.
            origin = known.origin if known else _hash(digest.encode(), received_ns.to_bytes(8, "little"))
            done = known.done if known else 0
            batches: list[_Batch] = []
            for index, item in enumerate(decoded):
                if index < done:
                    self._repeat(index, item, received_ns, answer)
                    continue
                if not batches or not batches[-1].is_home_of(item):
                    resource = item.resource if isinstance(item, Foreign) else {}
                    batches.append(_Batch(resource, index, received_ns, self._limits, self._redactor))
                batches[-1].add(index, item, answer)
            if batches:
                batches[-1].is_last = True
                self._wal.append(*(batch.finished(origin, digest) for batch in batches))
        return answer

    def _repeat(
        self, index: int, item: Foreign | Unreadable, received_ns: int, answer: ForeignAnswer
    ) -> None:
        """What was done before is not done again, but its sender may not have heard what was refused."""
        try:
            line_of_foreign(_read(item), received_ns, self._limits.admit, Counter(), self._redactor)
        except InvalidLine as error:
            answer.refuse(index, error)
        else:
            answer.repeated += 1


class _Batch:
    """Neighbours with one resource."""

    def __init__(
        self,
        resource: dict[str, Any],
        first: int,
        received_ns: int,
        limits: IntakeLimits,
        redactor: Redactor | None,
    ) -> None:
        self._given_resource = resource
        self._first = self._end = first
        self._received_ns = received_ns
        self._limits = limits.admit
        self._redactor = redactor
        self._mended: Counter[str] = Counter()
        self._refused: Counter[str] = Counter()
        self._resource = mended_attributes(resource, self._limits, self._mended)
        if redactor is not None:
            self._resource = redactor.mapping(self._resource)
        self._resource_key = orjson.dumps(self._resource, option=orjson.OPT_SORT_KEYS)
        self._named: bool | None = None  # None: there is no line yet
        self._lines: list[bytes] = []
        self._jumps: list[tuple[int, int]] = []
        self._next = first  # position that the next line has without a jump
        self.is_last = False

    def is_home_of(self, item: Foreign | Unreadable) -> bool:
        """Whether a record can join the ones that are here."""
        if isinstance(item, Unreadable):
            return True
        return item.resource is self._given_resource and self._named in (None, _is_named(item))

    def add(self, index: int, item: Foreign | Unreadable, answer: ForeignAnswer) -> None:
        """Admit one record."""
        self._end = index + 1
        try:
            found = _read(item)
            line = line_of_foreign(found, self._received_ns, self._limits, self._mended, self._redactor)
        except InvalidLine as error:
            self._refused[error.reason] += 1
            answer.refuse(index, error)
            return
        if index != self._next:
            self._jumps.append((len(self._lines), index - self._next))
        self._next = index + 1
        self._lines.append(self._with_uid(found, line))
        answer.stored += 1

    def _with_uid(self, item: Foreign, line: bytes) -> bytes:
        self._named = _is_named(item)
        if not self._named:
            return line
        uid = item.uid or _hash(self._resource_key, line)
        return b'%b,"uid":"%b"}\n' % (line[:-2], uid.encode())

    def finished(self, origin: str, digest: str) -> WalBatch:
        """The batch for the log."""
        envelope = Envelope(
            received_ns=self._received_ns,
            resource=self._resource,
            origin=origin,
            digest=digest,
            first=self._first,
            end=self._end,
            jumps=[] if self._named else self._jumps,
            named=bool(self._named),
            check_uids=bool(self._named),
            complete=self.is_last,
            refused=dict(self._refused),
            mended=dict(+self._mended),
        )
        return WalBatch(envelope, b"".join(self._lines))


def _read(item: Foreign | Unreadable) -> Foreign:
    if isinstance(item, Unreadable):
        raise item.problem
    return item


def line_of_foreign(
    item: Foreign,
    received_ns: int,
    limits: AdmitLimits,
    mended: Counter[str],
    redactor: Redactor | None,
) -> bytes:
    """The line of a record.

    Raises:
        InvalidLine: it is refused.
    """
    fields = item.fields
    if fields.get(sc.TIMESTAMP) is None and not _is_span(item):
        fields = {**fields, sc.TIMESTAMP: received_ns}
        mended["time_missing"] += 1
    return line_of(fields, limits, mended, redactor)


def _is_span(item: Foreign) -> bool:
    return sc.KIND in item.fields  # a log has no kind


def _is_named(item: Foreign) -> bool:
    """Whether a record has an identity beside its place in the request."""
    return item.uid is not None or _is_span(item)


def _hash(*parts: bytes) -> str:
    """32 hex over parts that cannot run into each other."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.hexdigest()


__all__ = ["ForeignIntake", "line_of_foreign"]
