"""How large the embedded store may grow in memory, and in the pieces it cuts its data into."""

from __future__ import annotations

from dataclasses import dataclass

from collector.errors import ConfigurationError


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreLimits:
    """Bounds of an `EmbeddedStore`; the defaults suit a machine that runs other things too."""

    writer_heap_bytes: int = 60_000_000  # for each open partition; tantivy flushes a segment when full
    writers_max: int = 3  # partitions open for writing: today, yesterday around midnight, one late
    partition_records_max: int = 5_000_000  # then a day goes on in a second partition: merges stay short
    # Distinct profiles (see `profiles.py`) of a partition: also then a new one is begun. tantivy counts
    # at most 65 000 groups at once.
    partition_profiles_max: int = 20_000
    partition_resources_max: int = 20_000
    parents_remembered_max: int = 200_000  # span ids whose service is known when a child arrives
    verify_at_open_bytes_max: int = 256_000_000  # newest first; `scrub` reads the rest
    keep_records: bool = True  # once more beside the index, for its rebuilding; see `records.py`
    reload_interval_s: float = 0.25  # how often a reader looks whether another process has written

    def __post_init__(self) -> None:
        if self.writer_heap_bytes < 15_000_000:  # tantivy's own minimum
            raise ConfigurationError("writer_heap_bytes must be at least 15000000")
        for name in ("writers_max", "partition_records_max", "parents_remembered_max"):
            if getattr(self, name) < 1:
                raise ConfigurationError(f"{name} must be at least 1")
        for name in ("partition_profiles_max", "partition_resources_max"):
            if not 1 <= getattr(self, name) <= 50_000:
                raise ConfigurationError(f"{name} must be in 1..50000")
