"""Brings the batches of any spool to the collector, and decides what a failure means."""

from __future__ import annotations

import random
import time
from collections import Counter
from typing import Protocol

from tracing.errors import PermanentExportError, RetryableExportError
from tracing.spool.format import is_about_the_spool
from tracing.spool.limits import ShipperLimits
from tracing.spool.reader import Batch, whole_lines
from tracing.spool.transport import Acknowledgement, RequestTooLarge


class Source(Protocol):
    """A spool that is being shipped: a living one, or one that a dead process left."""

    def read(self, bytes_max: int) -> Batch | None:
        """Return the next lines to send, `None` when everything is sent."""
        ...

    def acknowledge(self, offset: int) -> None:
        """Everything before this offset need not be sent again."""
        ...

    def lose(self, reason: str, count: int, begin: int, end: int) -> None:
        """Records between two offsets will never be sent."""
        ...


class Carrier(Protocol):
    """A way to the other side, such as `Transport`."""

    def send(self, batch: Batch) -> Acknowledgement:
        """Bring one batch there.

        Raises:
            RetryableExportError: not now.
            RequestTooLarge: not in one request.
            PermanentExportError: never.
        """
        ...

    def close(self) -> None:
        """Close what is open; the next `send` opens it again."""
        ...


class Courier:
    """Ships sources over one carrier, one at a time. Not thread-safe.

    Attributes:
        counts: `batches`, `bytes`, `lines` that were acknowledged, `refused_lines` of them that the
            collector could not take, `failures`, `given_up_batches`.
        last_failure: what went wrong last, for a person to read; `None` since the last success.
    """

    def __init__(
        self, carrier: Carrier, limits: ShipperLimits, *, counts: Counter[str] | None = None
    ) -> None:
        self.counts: Counter[str] = Counter() if counts is None else counts
        self.last_failure: str | None = None
        self._carrier = carrier
        self._limits = limits
        self._batch_bytes = limits.batch_bytes_max
        self._failures_in_a_row = 0
        self._not_before_s = 0.0  # of `time.monotonic`; as the collector asked
        self._random = random.Random()  # seeded by the system, so that forked processes do not draw alike

    def ship(self, source: Source) -> bool:
        """Send what a source has, for at most one turn.

        Returns:
            Whether everything was sent.
        Raises:
            RetryableExportError: the collector is not to be asked again before `retry_after_s`.
        """
        asked_to_wait_s = self._not_before_s - time.monotonic()
        if asked_to_wait_s > 0:
            raise RetryableExportError("the collector asked us to wait", retry_after_s=asked_to_wait_s)
        for _ in range(self._limits.turn_batches_max):
            batch = source.read(self._batch_bytes)
            if batch is None:
                return True
            self._send(source, batch)
        return False

    def close(self) -> None:
        """Close the connection."""
        self._carrier.close()

    def _send(self, source: Source, batch: Batch) -> None:
        try:
            acknowledged = self._carrier.send(batch)
        except RequestTooLarge as error:
            if batch.lines > 1:
                self._batch_bytes = len(batch.data) // 2
            else:
                self._give_up(source, batch, error)
        except PermanentExportError as error:
            self._give_up(source, batch, error)
        except RetryableExportError as error:
            raise self._failed(error) from error
        else:
            self.counts["batches"] += 1
            self.counts["bytes"] += acknowledged.offset - batch.offset
            self.counts["lines"] += batch.data.count(b"\n", 0, acknowledged.offset - batch.offset)
            self.counts["refused_lines"] += acknowledged.refused
            self._failures_in_a_row = 0
            self.last_failure = None
            source.acknowledge(acknowledged.offset)

    def _give_up(self, source: Source, batch: Batch, error: Exception) -> None:
        """Stalling for ever behind one bad batch would lose everything after it, so it is lost alone."""
        self.counts["given_up_batches"] += 1
        self.last_failure = str(error)
        lost = sum(not is_about_the_spool(line) for line in whole_lines(batch.data))
        if lost:  # a refused loss line is not worth another loss line, or there would be no end of them
            source.lose("refused", lost, batch.offset, batch.end_offset)
        source.acknowledge(batch.end_offset)

    def _failed(self, error: RetryableExportError) -> RetryableExportError:
        """Say how long to wait: as the collector asked, else our own back-off."""
        self.counts["failures"] += 1
        self.last_failure = str(error)
        wait_s = error.retry_after_s
        if wait_s is None:
            limits, doublings = self._limits, min(self._failures_in_a_row, 30)
            wait_s = min(limits.backoff_first_s * 2**doublings, limits.backoff_max_s)
            wait_s *= self._random.uniform(0.5, 1.0)
        else:
            self._not_before_s = time.monotonic() + wait_s
        self._failures_in_a_row += 1
        return RetryableExportError(str(error), retry_after_s=wait_s)
