"""The ledger on disk: one SQLite file, changed in whole transactions. Knows nothing of meanings.

SQLite, because a checkpoint then costs what changed, not what is remembered: short-lived processes
leave a spool each, and there may be hundreds of thousands.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

NAME: Final = "ledger.sqlite"
FORMAT: Final = 1

_SCHEMA: Final = """
    CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS spool
        (id TEXT PRIMARY KEY, heard_ns INTEGER NOT NULL, state BLOB NOT NULL) WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS spool_heard ON spool (heard_ns);
    CREATE TABLE IF NOT EXISTS request
        (digest TEXT PRIMARY KEY, heard_ns INTEGER NOT NULL, state BLOB NOT NULL) WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS request_heard ON request (heard_ns);
    CREATE TABLE IF NOT EXISTS counter (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
"""

Row = tuple[str, int, bytes]  # key, heard_ns, state


class LedgerFile:
    """The file's tables as mappings. Not thread-safe: the ledger holds its own lock.

    Attributes:
        set_aside: where a damaged file was moved to; None: it was in order.
    """

    def __init__(self, directory: Path, *, read_only: bool = False) -> None:
        """Open or make the file. A damaged one is set aside, and never stops the start.

        Raises:
            OSError, sqlite3.Error: no file can be made in the directory.
        """
        self._path = directory / NAME
        self._read_only = read_only
        self.set_aside: Path | None = None
        try:
            self._db = self._open()
        except sqlite3.DatabaseError as error:
            if read_only or isinstance(error, sqlite3.OperationalError):
                raise
            self.set_aside = self._move_aside()
            self._db = self._open()

    def _open(self) -> sqlite3.Connection:
        if self._read_only:
            target = f"{self._path.resolve().as_uri()}?mode=ro" if self._path.exists() else ":memory:"
        else:
            target = self._path.resolve().as_uri()
        db = sqlite3.connect(target, uri=True, check_same_thread=False, isolation_level=None)
        try:
            if not self._read_only or target == ":memory:":
                db.execute("PRAGMA synchronous = FULL")
                db.executescript(_SCHEMA)
                db.execute("INSERT OR IGNORE INTO meta VALUES ('format', ?)", (FORMAT,))
            if db.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
                raise sqlite3.DatabaseError(f"{self._path} is damaged")
        except BaseException:
            db.close()
            raise
        return db

    def _move_aside(self) -> Path:
        number = 1
        while (target := self._path.with_suffix(f".damaged-{number}")).exists():
            number += 1
        journal = self._path.with_name(self._path.name + "-journal")
        journal.unlink(missing_ok=True)  # it belongs to the damaged file and would be applied to the new one
        return self._path.rename(target)

    def meta(self) -> dict[str, int]:
        """Single numbers by name."""
        return dict(self._db.execute("SELECT key, value FROM meta"))

    def counters(self) -> dict[str, int]:
        """All counters by name."""
        return dict(self._db.execute("SELECT name, value FROM counter"))

    def spool(self, spool_id: str) -> bytes | None:
        """The state of one spool."""
        row = self._db.execute("SELECT state FROM spool WHERE id = ?", (spool_id,)).fetchone()
        return None if row is None else bytes(row[0])

    def spools(self, limit: int) -> list[bytes]:
        """The states of the spools that were heard of last."""
        rows = self._db.execute("SELECT state FROM spool ORDER BY heard_ns DESC LIMIT ?", (limit,))
        return [bytes(state) for (state,) in rows]

    def spool_count(self) -> int:
        """How many spools are remembered."""
        return int(self._db.execute("SELECT count(*) FROM spool").fetchone()[0])

    def requests(self, limit: int) -> list[tuple[str, bytes]]:
        """The newest requests, oldest of them first: digest and state."""
        rows = self._db.execute("SELECT digest, state FROM request ORDER BY heard_ns DESC LIMIT ?", (limit,))
        return [(digest, bytes(state)) for digest, state in rows][::-1]

    def save(
        self,
        *,
        meta: Mapping[str, int],
        spools: Iterable[Row],
        requests: Iterable[Row],
        counters: Mapping[str, int],
        forget_spools_before_ns: int,
        forget_requests_before_ns: int,
    ) -> None:
        """Write everything that changed, all of it or nothing, durably.

        Raises:
            sqlite3.Error: nothing was written.
        """
        db = self._db
        db.execute("BEGIN IMMEDIATE")
        try:
            db.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", meta.items())
            db.executemany("INSERT OR REPLACE INTO spool VALUES (?, ?, ?)", spools)
            db.executemany("INSERT OR REPLACE INTO request VALUES (?, ?, ?)", requests)
            db.executemany("INSERT OR REPLACE INTO counter VALUES (?, ?)", counters.items())
            db.execute("DELETE FROM spool WHERE heard_ns < ?", (forget_spools_before_ns,))
            db.execute("DELETE FROM request WHERE heard_ns < ?", (forget_requests_before_ns,))
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()
