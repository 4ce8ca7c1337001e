"""How much each sender may send: a bucket of requests and one of bytes for each, filled as time goes by."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

# What a sender saved up while it was silent: an average over this long is what counts, so that a batch
# after a pause is no offence.
BURST_S: Final = 10.0
# Senders that are remembered; the one that was silent longest is forgotten first, its bucket full by then.
SENDERS_MAX: Final = 10_000
# Longest wait that is asked for: a sender that is far over its share is told to come back and be told again.
RETRY_AFTER_S_MAX: Final = 30.0


class _Bucket:
    """What a sender may still do. Below zero it has to wait: a body's size is known only once it is read."""

    __slots__ = ("at_s", "bytes", "requests")

    def __init__(self, requests: float, bytes_: float, at_s: float) -> None:
        self.requests = requests
        self.bytes = bytes_
        self.at_s = at_s


class SenderRates:
    """Says who has to wait, and how long. Belongs to one thread, or to whoever guards it.

    Args:
        requests_per_s_max: of one sender, on average over `BURST_S`; `None`: as many as come.
        bytes_per_s_max: of its bodies, alike.
        clock_s: any clock that only goes forward.
    """

    def __init__(
        self,
        *,
        requests_per_s_max: float | None,
        bytes_per_s_max: int | None,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._requests_per_s = requests_per_s_max
        self._bytes_per_s = bytes_per_s_max
        self._clock_s = clock_s
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    @property
    def is_bounded(self) -> bool:
        """Whether there is any bound; without one, nothing need be asked."""
        return self._requests_per_s is not None or self._bytes_per_s is not None

    def begin(self, sender: str) -> float:
        """Count one request; return how many seconds the sender has to wait instead, 0 if it need not."""
        if not self.is_bounded:
            return 0.0
        bucket = self._filled(sender)
        wait_s = 0.0
        if self._requests_per_s is not None and bucket.requests < 1.0:
            wait_s = (1.0 - bucket.requests) / self._requests_per_s
        if self._bytes_per_s is not None and bucket.bytes < 0:
            wait_s = max(wait_s, -bucket.bytes / self._bytes_per_s)
        if wait_s == 0.0:
            bucket.requests -= 1.0
        return min(wait_s, RETRY_AFTER_S_MAX)

    def charge(self, sender: str, size_bytes: int) -> None:
        """Count the body of a request that had begun."""
        if self._bytes_per_s is not None:
            self._filled(sender).bytes -= size_bytes

    def _filled(self, sender: str) -> _Bucket:
        now_s = self._clock_s()
        requests_max = max(1.0, (self._requests_per_s or 0.0) * BURST_S)
        bytes_max = (self._bytes_per_s or 0) * BURST_S
        bucket = self._buckets.get(sender)
        if bucket is None:
            bucket = self._buckets[sender] = _Bucket(requests_max, bytes_max, now_s)
            if len(self._buckets) > SENDERS_MAX:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(sender)
            passed_s = now_s - bucket.at_s
            bucket.requests = min(requests_max, bucket.requests + passed_s * (self._requests_per_s or 0.0))
            bucket.bytes = min(bytes_max, bucket.bytes + passed_s * (self._bytes_per_s or 0))
            bucket.at_s = now_s
        return bucket
