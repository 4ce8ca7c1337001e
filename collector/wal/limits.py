"""How large the write-ahead log may grow, and how it is cut."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class WalLimits:
    """Bounds of a write-ahead log.

    Raises:
        ValueError: two bounds contradict each other.
    """

    bytes_max: int = 2 * 1024**3  # about an hour at 1 000 records/s with a store that stands still
    segment_bytes_max: int = (
        64 * 1024**2
    )  # space comes back a segment at a time, so much smaller than the whole
    frame_bytes_max: int = 64 * 1024  # of payload: what one flipped bit can cost; a longer line goes alone
    # Space that the log leaves to the store: indexing needs some to commit, and only a commit lets the
    # log shrink again. Without a reserve a full disk would stay full.
    disk_free_bytes_min: int = 128 * 1024**2
    retry_after_s: float = 2.0  # what a sender is told while there is no room; two commits of the indexer

    @property
    def append_bytes_max(self) -> int:
        """Largest append: it fits once the store has caught up, even behind another one of that size.

        The newest segment is never released, and may have grown by such an append before it was full.
        """
        return (self.bytes_max - self.segment_bytes_max) // 2

    def __post_init__(self) -> None:
        if not 1024 <= self.frame_bytes_max <= self.segment_bytes_max <= self.bytes_max // 2:
            # the newest segment is never released, so there must be room for another one
            raise ValueError("1024 <= frame_bytes_max <= segment_bytes_max <= bytes_max / 2 does not hold")
        if self.disk_free_bytes_min < 0 or self.retry_after_s <= 0:
            raise ValueError("disk_free_bytes_min must not be negative, retry_after_s must be positive")
