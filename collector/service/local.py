"""A data directory without a server: what the CLI's `--data-dir` works on."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any, Final, Self

import msgspec

from collector.api.answers import Answers
from collector.api.shapes import JsonObject
from collector.api.words import read_time
from collector.client import IMPORT_HEADERS, import_bodies
from collector.datadir import check_readable
from collector.diagnose.baseline import Baseline
from collector.errors import CollectorError, ConfigurationError, DataDirectoryInUse, QueryError
from collector.ledger import Ledger
from collector.service.pipeline import WAL, Pipeline, answer_limits, open_store
from collector.settings import Settings
from collector.store.contract import Store
from collector.wal import Wal
from collector.watch import DIRECTORY as BASELINE
from collector.watch import GivenMeasure, KeptMeasures, Measures, known_baseline, learn_from

LEARN_NS: Final = 3_600_000_000_000  # what is learned from when nobody names a beginning


class LocalCollector:
    """Answers, and with `write` imports, on a data directory. A context manager."""

    def __init__(
        self, answers: Answers, store: Store, pipeline: Pipeline | None, closing: contextlib.ExitStack
    ) -> None:
        """Use `open_local`."""
        self.answers = answers
        self._store = store
        self._pipeline = pipeline
        self._closing = closing

    def import_records(self, records: Iterable[tuple[str, bytes]]) -> JsonObject:
        """Import record lines; importing the same again changes nothing.

        Args:
            records: identity and line of each record, as `collector.receive.files` reads them.
        Returns:
            `{"stored", "already_stored", "refused"}`: how many records are new, how many were there, and
            the lines that were not taken, with reasons. All of it is durable and can be found.
        Raises:
            CollectorError: the directory was opened for reading only.
            Overloaded: the disk is full.
        """
        pipeline = self._writable()
        taken = already_stored = 0
        refused: list[Any] = []
        known_before = int(pipeline.indexer.stats().get("already_stored", 0))
        for body in import_bodies(records):
            answer = pipeline.intake.records(IMPORT_HEADERS, body)
            taken += answer.stored
            already_stored += answer.already_stored
            refused += msgspec.to_builtins(answer.refused)
        if not pipeline.drain():
            raise CollectorError("the store does not keep up; what was imported is safe and will be indexed")
        passed_over = int(pipeline.indexer.stats().get("already_stored", 0)) - known_before
        return {
            "stored": taken - passed_over,
            "already_stored": already_stored + passed_over,
            "refused": refused,
        }

    def delete(self, q: str = "", **given: Any) -> JsonObject:
        """Delete records that match; the arguments are those of `Answers.to_delete`.

        Raises:
            CollectorError: the directory was opened for reading only.
            QueryError: an argument cannot be understood, or there is none.
        """
        condition = self.answers.to_delete(q, **given)
        return {"deleted": self._writable().delete(condition)}

    def learn(self, *, start: str | int | None = None, end: str | int | None = None) -> Baseline:
        """Learn what is normal from a stretch of time that is known to be fault-free.

        Args:
            start: its beginning, by default an hour before its end.
            end: its end, by default now.
        Raises:
            QueryError: a time cannot be understood, or the stretch is empty.
        """
        now_ns = time.time_ns()
        end_ns = read_time(end, now_ns) or now_ns
        start_ns = read_time(start, now_ns) or end_ns - LEARN_NS
        if start_ns >= end_ns:
            raise QueryError("the time range is empty; start must be before end")
        return learn_from(self._store, start_ns, end_ns)

    def _writable(self) -> Pipeline:
        if self._pipeline is None:
            raise CollectorError("this data directory was opened for reading; open it with write=True")
        return self._pipeline

    def close(self) -> None:
        """Commit and let go; closing twice is harmless."""
        self._closing.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_local(data_dir: Path, *, write: bool, baseline: Baseline | None = None) -> LocalCollector:
    """Open a data directory without a server.

    Args:
        data_dir: made if it is missing and `write` is set.
        write: import into it; nobody else may have it open for writing. Otherwise it is only read, also
            while a collector runs, whose newest second of records may be missing then.
        baseline: measures whatever a root cause is asked of; by default the one that is kept there, where
            it fits. Only for reading.
    Raises:
        DataDirectoryInUse: `write`, and a collector has it.
        Damaged: it holds something else, or was written by another version.
        FileNotFoundError: not `write`, and there is nothing.
    """
    settings = Settings(data_dir=data_dir)
    closing = contextlib.ExitStack()
    if write:
        pipeline = closing.enter_context(Pipeline.open(settings))
        return LocalCollector(pipeline.answers, pipeline.store, pipeline, closing)
    check_readable(settings.data_dir)
    store = open_store(settings, read_only=True)
    if _is_behind(store, settings):
        store.close()
        _finish_what_a_crash_left(settings)
        store = open_store(settings, read_only=True)
    closing.callback(store.close)
    ledger = Ledger.open(settings.data_dir, read_only=True)
    closing.callback(ledger.close)
    measures: Measures
    if baseline is not None:
        measures = GivenMeasure(baseline)
    else:
        measures = KeptMeasures(partial(known_baseline, settings.data_dir / BASELINE))
    answers = Answers(store, ledger=ledger, limits=answer_limits(settings), measures=measures)
    return LocalCollector(answers, store, None, closing)


def _is_behind(store: Store, settings: Settings) -> bool:
    """Whether the write-ahead log holds something that the store does not have for certain."""
    directory = settings.data_dir / WAL
    if not directory.is_dir():
        return False
    wal = Wal.open(directory)
    try:
        return bool(wal.read(store.stats().durable_seq, 1))
    finally:
        wal.close()


def _finish_what_a_crash_left(settings: Settings) -> None:
    """Index what is only in the write-ahead log, if nobody else is about to do so and we may write."""
    with (
        contextlib.suppress(DataDirectoryInUse, ConfigurationError, OSError),
        Pipeline.open(settings) as pipeline,
    ):
        pipeline.drain()
