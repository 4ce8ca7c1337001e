"""The rooms of the collector, introduced to each other: from a request's bytes to an answer."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Self

from collector.api.answers import AnswerLimits, Answers
from collector.datadir import DataDirectory
from collector.indexing import Indexer
from collector.intake import Intake
from collector.ledger import Ledger
from collector.settings import Settings
from collector.store.contract import Store
from collector.store.embedded import EmbeddedStore
from collector.store.memory import MemoryStore
from collector.wal import Wal, WalLimits

STORE: Final = "store"
WAL: Final = "wal"
# When a commit of everything that is left may take longer than this, something is wrong with the disk.
DRAIN_TIMEOUT_S: Final = 120.0


class Pipeline:
    """Everything between the network and the disk. Closing it commits.

    The order in which it is opened is the order in which it recovers: the store says what is durable, the
    log is read after that, the ledger takes note of what it missed, and only then is anything let in.
    """

    def __init__(
        self, directory: DataDirectory, store: Store, ledger: Ledger, wal: Wal, settings: Settings
    ) -> None:
        """Use `open`."""
        self._directory = directory
        self.store = store
        self.ledger = ledger
        self.wal = wal
        self.intake = Intake(wal, ledger)
        self.indexer = Indexer(wal, store, ledger, commit_interval_s=settings.commit_interval_s)
        self.answers = Answers(
            store,
            ledger=ledger,
            intake=self.intake,
            wal=wal,
            indexing=self.indexer,
            limits=answer_limits(settings),
        )

    @classmethod
    def open(cls, settings: Settings) -> Self:
        """Open the data directory and recover what a crash left.

        Raises:
            DataDirectoryInUse, Damaged: see `DataDirectory.open`.
            OSError: the directory cannot be made or written.
        """
        directory = DataDirectory.open(settings.data_dir)
        try:
            store = open_store(settings)
            ledger = Ledger.open(settings.data_dir)
            wal = Wal.open(
                settings.data_dir / WAL,
                limits=WalLimits(bytes_max=settings.wal_bytes_max),
                seq_after=max(store.stats().durable_seq, ledger.seq),
                observer=ledger.apply,
            )
            ledger.replay(wal)
            pipeline = cls(directory, store, ledger, wal, settings)
            pipeline.indexer.start()
        except BaseException:
            directory.close()
            raise
        return pipeline

    def drain(self, timeout_s: float = DRAIN_TIMEOUT_S) -> bool:
        """Wait until everything that was taken in can be found; return whether that happened in time."""
        return self.indexer.wait_until(self.wal.last_seq, timeout_s)

    def close(self) -> None:
        """Take nothing more, index what is left, commit, let go of the directory."""
        self.wal.close()
        self.indexer.stop()
        self.ledger.close()
        self.store.close()
        self._directory.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_store(settings: Settings, *, read_only: bool = False) -> Store:
    """The store that the settings name."""
    if settings.store == "memory":
        return MemoryStore()
    return EmbeddedStore.open(store_path(settings.data_dir), read_only=read_only)


def store_path(data_dir: Path) -> Path:
    """Where the embedded store is in a data directory."""
    return data_dir / STORE


def answer_limits(settings: Settings) -> AnswerLimits:
    """The bounds of answers that the settings name."""
    return AnswerLimits(
        trace_records_max=settings.trace_records_max, page_records_max=settings.page_records_max
    )
