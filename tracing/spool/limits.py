"""Every limit of the spool and of the shipper, with its unit in the name and the reason for its default."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from tracing.errors import ConfigurationError

MIB: Final = 1024 * 1024

# Shares of a bound at which new lines below a severity are no longer taken. What is left above a mark
# belongs to the lines that a cause is found by: warnings and errors.
SHED_DEBUG_SHARE: Final = 0.70
SHED_INFO_SHARE: Final = 0.85


@dataclass(frozen=True, slots=True, kw_only=True)
class SpoolLimits:
    """How much the spool may take, and how careful it is.

    Raises:
        ConfigurationError: a value cannot be used; the message names it and what would be accepted.
    """

    # Disk is given back a segment at a time, so a segment is what an idle process keeps for nothing;
    # at 300 bytes a record it is rotated every 14 000 records, which costs 0.2 ms.
    segment_bytes_max: int = 4 * MIB
    # Of all incarnations of one service on this machine: an outage of two hours at 100 records/s.
    service_bytes_max: int = 256 * MIB
    # While no directory can be written: what a process can spare without anybody noticing.
    memory_bytes_max: int = 8 * MIB
    # The program's own files come first: with less than this left on the disk, lines stay in memory.
    disk_free_bytes_min: int = 64 * MIB
    # How often a disk that was full, and a spool that was over its bound, is looked at again.
    recheck_interval_s: float = 2.0
    # How often losses are written down while they go on: one line a second for each reason.
    loss_interval_s: float = 1.0
    # `write` is one system call a record; `mapped` copies into a mapped segment (local disks only).
    mode: Literal["write", "mapped"] = "write"
    # True: a record survives the loss of power too, at the price of one fdatasync a record.
    fsync: bool = False

    def __post_init__(self) -> None:
        if self.mode not in ("write", "mapped"):
            raise ConfigurationError(f"spool mode {self.mode!r}: expected 'write' or 'mapped'")
        for name in ("segment_bytes_max", "service_bytes_max", "memory_bytes_max"):
            if getattr(self, name) < 4096:
                raise ConfigurationError(f"{name}={getattr(self, name)}: at least 4096 bytes")
        if self.disk_free_bytes_min < 0:
            raise ConfigurationError(f"disk_free_bytes_min={self.disk_free_bytes_min}: 0 or more")
        for name in ("recheck_interval_s", "loss_interval_s"):
            if getattr(self, name) < 0:
                raise ConfigurationError(f"{name}={getattr(self, name)}: 0 or more seconds")


@dataclass(frozen=True, slots=True, kw_only=True)
class ShipperLimits:
    """How lines travel to the collector.

    Raises:
        ConfigurationError: a value cannot be used; the message names it and what would be accepted.
    """

    # Uncompressed bytes of one request: large enough that the round trip is not the cost, small enough
    # that a collector which reads whole bodies can hold a hundred of them.
    batch_bytes_max: int = MIB // 2
    # How long a line waits at most before it is sent: what a person who tails logs does not notice.
    poll_interval_s: float = 0.25
    # How often the service's directory is searched for what dead processes left.
    scan_interval_s: float = 2.0
    # A collector answers after fsync; a busy disk may take seconds.
    request_timeout_s: float = 10.0
    # First and longest wait after a failure; doubled in between, each wait drawn at random from 0.5..1
    # of it, so that a fleet does not come back as one (AWS Architecture Blog, "Exponential backoff and
    # jitter").
    backoff_first_s: float = 0.5
    backoff_max_s: float = 30.0
    # The longest Retry-After that is believed: beyond it, a broken clock is likelier than a wish.
    retry_after_max_s: float = 300.0
    # Answers of the collector are some hundred bytes; refused lines make them longer.
    answer_bytes_max: int = 4 * MIB
    # Batches of one spool before another one has its turn.
    turn_batches_max: int = 16

    def __post_init__(self) -> None:
        if self.batch_bytes_max < 4096:  # a longer line travels alone
            raise ConfigurationError(f"batch_bytes_max={self.batch_bytes_max}: at least 4096 bytes")
        for name in ("poll_interval_s", "scan_interval_s", "request_timeout_s", "backoff_first_s"):
            if getattr(self, name) <= 0:
                raise ConfigurationError(f"{name}={getattr(self, name)}: more than 0 seconds")
        if self.backoff_max_s < self.backoff_first_s:
            raise ConfigurationError(f"backoff_max_s={self.backoff_max_s}: at least backoff_first_s")
        if self.retry_after_max_s < 0 or self.answer_bytes_max < 1024 or self.turn_batches_max < 1:
            raise ConfigurationError(
                "retry_after_max_s >= 0, answer_bytes_max >= 1024, turn_batches_max >= 1"
            )
