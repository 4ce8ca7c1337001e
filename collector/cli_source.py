"""Where answers come from: a running collector, or a data directory without one.

Both give the same objects (`collector.api.shapes`), so that no command need know which it holds.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from collector.errors import CollectorError, Unreachable
from collector.settings import did_you_mean
from collector.store.conditions import fields_of
from tracing.line import format_timestamp

if TYPE_CHECKING:
    from collector.api.answers import Answers
    from collector.client import CollectorClient
    from collector.service import LocalCollector

URL_DEFAULT: Final = "http://127.0.0.1:4318"
URL_VARIABLE: Final = "BACKTRAIL_URL"
DATA_DIR_VARIABLE: Final = "BACKTRAIL_DATA_DIR"
# What is shown to a collector that wants tokens: to read, to import, to delete.
TOKEN_VARIABLES: Final = ("BACKTRAIL_TOKEN", "BACKTRAIL_INGEST_TOKEN", "BACKTRAIL_ADMIN_TOKEN")
# Files by which a collector's certificate is checked, and which are shown to one that wants certificates.
TLS_VARIABLES: Final = ("BACKTRAIL_CA_FILE", "BACKTRAIL_CLIENT_CERT_FILE", "BACKTRAIL_CLIENT_KEY_FILE")


class UsageError(CollectorError):
    """The command line contradicts itself; the message says how to mend it."""


class Place:
    """A collector's address or a data directory, as flags and environment name it.

    A flag goes before a variable, and `BACKTRAIL_URL` before `BACKTRAIL_DATA_DIR`, which the service
    reads too.
    """

    def __init__(
        self, *, url: str | None, data_dir: Path | None, environment: Mapping[str, str] = os.environ
    ) -> None:
        if url is not None and data_dir is not None:
            raise UsageError("--url and --data-dir: name one of them, not both")
        self._is_named_by_flag = url is not None or data_dir is not None
        if not self._is_named_by_flag:
            url = environment.get(URL_VARIABLE)
            named = environment.get(DATA_DIR_VARIABLE)
            data_dir = Path(named) if named and url is None else None
        self.data_dir = data_dir
        self.url = None if data_dir is not None else url or URL_DEFAULT
        self._tls_files = [environment.get(name) or None for name in TLS_VARIABLES]
        self._token, self._ingest_token, self._admin_token = map(environment.get, TOKEN_VARIABLES)

    @property
    def options(self) -> str:
        """What another command needs on its line to reach the same place; empty where it needs nothing."""
        if not self._is_named_by_flag:
            return ""
        flag, value = ("--url", self.url) if self.data_dir is None else ("--data-dir", self.data_dir)
        return f"{flag} {shlex.quote(str(value))}"

    def link(self, path: str, **query: str | int | bool | None) -> str:
        """The address under which a running collector gives an answer again, its times made absolute.

        Raises:
            UsageError: the place is a data directory.
            QueryError: a time cannot be understood.
        """
        if self.url is None:
            raise UsageError("--link needs a running collector (--url); a data directory has no addresses")
        from collector.api.words import read_time
        from collector.client import address_of

        now_ns = time.time_ns()
        for name in ("start", "end"):
            given = query.get(name)
            if isinstance(given, str) and (time_ns := read_time(given, now_ns)) is not None:
                query[name] = format_timestamp(time_ns)
        return address_of(self.url, f"/api/v1/{path}", query)

    @contextlib.contextmanager
    def answers(self, *, baseline: Path | None = None) -> Iterator[Answers | CollectorClient]:
        """Open it to ask questions.

        Args:
            baseline: a file that measures what a root cause is asked of.
        Raises:
            Unreachable: the directory does not exist.
            UsageError: a running collector measures by what it has learned itself.
        """
        if self.data_dir is None:
            if baseline is not None:
                raise UsageError("--baseline goes with --data-dir: a running collector has a baseline itself")
            yield self.client()
            return
        if not self.data_dir.is_dir():
            raise Unreachable(f"{self.data_dir}: no such directory; `backtrail import` would make one")
        from collector.service import open_local
        from collector.watch import read_baseline

        measure = read_baseline(baseline) if baseline is not None else None
        with open_local(self.data_dir, write=False, baseline=measure) as local:
            yield local.answers

    @contextlib.contextmanager
    def writer(self) -> Iterator[LocalCollector | CollectorClient]:
        """Open it to change what is in it: `import_records` and `delete`."""
        if self.data_dir is None:
            yield self.client()
            return
        from collector.service import open_local

        with open_local(self.data_dir, write=True) as local:
            yield local

    def client(self) -> CollectorClient:
        """A client of the running collector."""
        from collector.client import CollectorClient

        assert self.url is not None, "a data directory has no client"
        ca_file, cert_file, key_file = self._tls_files
        return CollectorClient(
            self.url,
            token=self._token,
            ingest_token=self._ingest_token,
            admin_token=self._admin_token,
            ca_file=ca_file,
            cert_file=cert_file,
            key_file=key_file,
        )


def misspelt_fields(query: str) -> Iterator[str]:
    """For each field of a search that is called nearly as one of ours: a word about it.

    Any attribute may have such a name, so this is worth saying only where nothing was found.
    """
    from collector.query import FIELD_NAMES, parse_structure

    for field in dict.fromkeys(
        field for step in parse_structure(query, now_ns=time.time_ns()).steps for field in fields_of(step)
    ):
        if field not in FIELD_NAMES and (meant := did_you_mean(field, FIELD_NAMES)):
            yield f"{field} is no field of ours{meant}"


__all__ = ["URL_DEFAULT", "Place", "UsageError", "misspelt_fields"]
