"""The rooms of the collector, introduced to each other: from a request's bytes to an answer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from collector.access.audit import AuditEvent, AuditTrail
from collector.api.answers import AnswerLimits, Answers
from collector.api.tail import Tail
from collector.client import IMPORT_HEADERS, import_bodies
from collector.datadir import DataDirectory
from collector.errors import Refused
from collector.indexing import Indexer, IndexLimits
from collector.intake import Intake, IntakeLimits, open_log
from collector.ledger import Ledger
from collector.service.housekeeping import Housekeeping
from collector.service.mending import Mending
from collector.settings import Settings
from collector.store.conditions import Condition
from collector.store.contract import Store
from collector.wal import Wal, WalLimits
from collector.watch import DIRECTORY as BASELINE
from collector.watch import KeptMeasures, Watch

if TYPE_CHECKING:
    from collector.store.elastic import ElasticOptions

STORE: Final = "store"
WAL: Final = "wal"
# When a commit of everything that is left may take longer than this, something is wrong with the disk.
DRAIN_TIMEOUT_S: Final = 120.0
DELETE_TIMEOUT_S: Final = 60.0


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
        limits = IntakeLimits(unpacked_bytes_max=int(settings.unpacked_bytes_max))
        self.intake = Intake(wal, ledger, limits=limits, existing=store.existing)
        self.tail = Tail()
        self.indexer = Indexer(
            wal,
            store,
            ledger,
            limits=IndexLimits(commit_interval_s=settings.commit_interval_s),
            listener=self.tail,
        )
        self.audit = AuditTrail(self.take_own)
        self.housekeeping = Housekeeping(self.indexer, settings, store=store, tell=self._note_dropped)
        self.mending = Mending(store, scrub_interval_s=settings.scrub_interval_s)
        self.watch = Watch(store, settings.data_dir / BASELINE, self.take_own, status_of=ledger.trace_status)
        self.answers = Answers(
            store,
            ledger=ledger,
            intake=self.intake,
            wal=wal,
            indexing=self.indexer,
            limits=answer_limits(settings),
            write=self.take_own,
            measures=KeptMeasures(self.watch.baseline),
        )

    @classmethod
    def open(cls, settings: Settings) -> Self:
        """Open the data directory and recover what a crash left.

        Raises:
            ConfigurationError, DataDirectoryInUse, Damaged: see `DataDirectory.open`.
            OSError: the disk fails.
        """
        directory = DataDirectory.open(settings.data_dir)
        try:
            store = open_store(settings)
            try:
                wal, ledger = open_log(
                    settings.data_dir,
                    durable_seq=store.stats().durable_seq,
                    wal_limits=wal_limits(settings),
                )
            except BaseException:
                store.close()
                raise
        except BaseException:
            directory.close()
            raise
        pipeline = cls(directory, store, ledger, wal, settings)
        pipeline.indexer.start()
        pipeline.housekeeping.start()
        pipeline.mending.start()
        return pipeline

    def drain(self, timeout_s: float = DRAIN_TIMEOUT_S) -> bool:
        """Wait until everything that was taken in can be found; return whether that happened in time."""
        return self.indexer.wait_until(self.wal.last_seq, timeout_s)

    def take_own(self, uid: str, line: bytes) -> None:
        """Take in a record that arose here: a finding, a change that somebody told, a canary's.

        Raises:
            Refused: it cannot be taken.
            Overloaded: there is no room; nothing was taken.
        """
        for body in import_bodies([(uid, line)]):
            for refusal in self.intake.records(IMPORT_HEADERS, body).refused:
                raise Refused(refusal.reason, refusal.message, field=refusal.field)

    def delete(self, condition: Condition) -> int:
        """Take every record that matches out of the store, at once and durably; return how many.

        Lines of it stay in the write-ahead log until their segment is released, and are not read again.

        Raises:
            Overloaded: the store is busy; nothing was deleted.
        """
        return self.indexer.perform(lambda store: store.delete(condition), timeout_s=DELETE_TIMEOUT_S)

    def _note_dropped(self, why: str, count: int) -> None:
        """Leave a line about what the retention took."""
        event = AuditEvent(
            action="records.dropped", actor="the retention", target=why, result="done", count=count
        )
        self.audit.note(event)
        self.audit.store()

    def close(self) -> bool:
        """Index what is left, commit, let go of the directory. Nothing may be taken in any more.

        Returns:
            Whether the store has everything; if not, the write-ahead log has, and the next start goes on.
        """
        self.housekeeping.stop()
        self.mending.stop()
        finished = self.indexer.stop(DRAIN_TIMEOUT_S)
        self.wal.close()
        self.ledger.close()
        self.store.close()
        self._directory.close()
        return finished

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_store(settings: Settings, *, read_only: bool = False) -> Store:
    """The store that the settings name."""
    if settings.store == "memory":
        from collector.store.memory import MemoryStore

        return MemoryStore()
    if settings.store != "embedded":
        from collector.store.elastic import ElasticStore  # loads the client, which others need not wait for

        return ElasticStore.open(
            elastic_options(settings), None if read_only else store_path(settings.data_dir)
        )
    from collector.store.embedded import EmbeddedStore, StoreLimits  # tantivy: others need not wait for it

    limits = StoreLimits(keep_records=settings.keep_records)
    return EmbeddedStore.open(store_path(settings.data_dir), limits=limits, read_only=read_only)


def elastic_options(settings: Settings) -> ElasticOptions:
    """How the settings' cluster is reached.

    Raises:
        ConfigurationError: the URL cannot be understood.
    """
    from collector.store.elastic import ElasticOptions

    return ElasticOptions.from_url(
        settings.store,
        api_key=settings.store_api_key.get_secret_value() if settings.store_api_key else None,
        ca_file=settings.store_ca_file,
        retention_days=settings.retention_days,
    )


def store_path(data_dir: Path) -> Path:
    """Where the store is in a data directory, or what one in a cluster must remember."""
    return data_dir / STORE


def wal_limits(settings: Settings) -> WalLimits:
    """The bounds of the write-ahead log that the settings name."""
    limits = WalLimits()
    bytes_max = int(settings.wal_bytes_max)
    return replace(
        limits,
        bytes_max=bytes_max,
        segment_bytes_max=min(limits.segment_bytes_max, bytes_max // 4),
        disk_free_bytes_min=int(settings.disk_free_bytes_min),
    )


def answer_limits(settings: Settings) -> AnswerLimits:
    """The bounds of answers that the settings name."""
    return AnswerLimits(trace_records_max=settings.trace_records_max)
