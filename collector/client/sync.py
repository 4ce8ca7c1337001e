"""The client that waits."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, Self, Unpack
from urllib.parse import quote

from collector.access.tls import TlsFiles
from collector.api.filters import DeploymentFilters, OriginFilters, RecordFilters
from collector.client.events import ChangeClient, FindingClient
from collector.client.imports import IMPORT_HEADERS, import_bodies
from collector.client.letters import DeadLetterClient
from collector.client.wire import DEFAULT_URL, JsonObject, Stream, Wire, lines_of, object_of
from collector.errors import NotFound, Overloaded
from tracing.line import format_timestamp

# Longest wait that a collector may ask for before we try again.
RETRY_AFTER_S_MAX: Final = 10.0

Time = str | int | None  # in human words, or epoch nanoseconds
Query = dict[str, str | int | bool | None]


class CollectorClient:
    """Asks a running collector, and imports records into it.

    It has the methods of `Answers` with the same arguments, the same plain JSON objects as results and
    the same errors, so that a program works alike on a running collector and on a data directory.

    Args:
        url: of the collector, for instance `http://127.0.0.1:4318`.
        token: bearer token for reading, if the collector wants one.
        ingest_token: bearer token for `import_records`; by default the same.
        admin_token: bearer token for `delete`; by default the same.
        ca_file: PEM, the authorities that may have signed the collector's certificate; by default those
            of the system.
        cert_file: PEM, a certificate to show to a collector that wants one, with its key unless that has
            a file of its own.
        key_file: PEM.
        timeout_s: longest wait for one answer.

    One instance keeps one connection open and belongs to one thread. Every method may raise
    `Unreachable`, and `CollectorError` with what the collector says.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        token: str | None = None,
        ingest_token: str | None = None,
        admin_token: str | None = None,
        ca_file: Path | str | None = None,
        cert_file: Path | str | None = None,
        key_file: Path | str | None = None,
        timeout_s: float = 30.0,
    ) -> None:
        files = [None if file is None else Path(file) for file in (ca_file, cert_file, key_file)]
        self._wire = Wire(url, timeout_s=timeout_s, tls_files=TlsFiles(*files))
        self.changes = ChangeClient(self._wire, token=token, ingest_token=ingest_token or token)
        self.findings = FindingClient(self._wire, token=token)
        self.dead_letters = DeadLetterClient(
            self._wire,
            token=token,
            ingest_token=ingest_token or token,
            admin_token=admin_token or token,
        )
        self._token = token
        self._ingest_token = ingest_token or token
        self._admin_token = admin_token or token

    @property
    def url(self) -> str:
        """Of the collector, in full."""
        return self._wire.url

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let the connection go; a later call opens a new one."""
        self._wire.close()

    # ---------------------------------------------------------------- questions, as `Answers` has them

    def trace(self, trace_id: str) -> JsonObject:
        """The call chain of one trace.

        Raises:
            QueryError: not a trace id.
            NotFound: nothing is stored under it.
        """
        return self._ask(f"traces/{quote(trace_id, safe='')}")

    def traces(
        self,
        q: str = "",
        *,
        start: Time = None,
        end: Time = None,
        operation: str | None = None,
        min_duration: str | int | None = None,
        error: bool | None = None,
        limit: int = 20,
        cursor: str | None = None,
        **origin: Unpack[OriginFilters],
    ) -> JsonObject:
        """Traces with a record that matches, newest first, a page at a time; see `Answers.traces`."""
        return self._ask(
            "traces",
            q=q or None,
            start=_time(start),
            end=_time(end),
            operation=operation,
            min_duration=_length(min_duration),
            error=error,
            limit=limit,
            cursor=cursor,
            **origin,
        )

    def logs(
        self,
        q: str = "",
        *,
        start: Time = None,
        end: Time = None,
        limit: int = 50,
        cursor: str | None = None,
        total: bool = False,
        **filters: Unpack[RecordFilters],
    ) -> JsonObject:
        """Records that match, newest first, a page at a time; see `Answers.logs`."""
        return self._ask(
            "logs",
            q=q or None,
            start=_time(start),
            end=_time(end),
            limit=limit,
            cursor=cursor,
            total=total or None,
            **filters,
        )

    def facets(
        self,
        field: str,
        q: str = "",
        *,
        start: Time = None,
        end: Time = None,
        limit: int = 20,
        **filters: Unpack[RecordFilters],
    ) -> JsonObject:
        """The most frequent values of a field in the records that match; see `Answers.facets`."""
        return self._ask(
            "logs/facets",
            field=field,
            q=q or None,
            start=_time(start),
            end=_time(end),
            limit=limit,
            **filters,
        )

    def root_cause(
        self,
        trace_id: str | None = None,
        *,
        start: Time = None,
        end: Time = None,
        explain: bool = False,
        **deployment: Unpack[DeploymentFilters],
    ) -> JsonObject:
        """What caused the fault of a trace, or of a time range; see `Answers.root_cause`."""
        return self._ask(
            "root-cause",
            trace_id=trace_id,
            start=_time(start),
            end=_time(end),
            explain=explain or None,
            **deployment,
        )

    def context_losses(
        self, *, start: Time = None, end: Time = None, service: str | None = None
    ) -> JsonObject:
        """Where the context was lost; see `Answers.context_losses`."""
        return self._ask("context-losses", start=_time(start), end=_time(end), service=service)

    def services(
        self,
        *,
        start: Time = None,
        end: Time = None,
        **deployment: Unpack[DeploymentFilters],
    ) -> JsonObject:
        """Every service seen."""
        return self._ask("services", start=_time(start), end=_time(end), **deployment)

    def operations(
        self,
        service: str,
        *,
        start: Time = None,
        end: Time = None,
        **deployment: Unpack[DeploymentFilters],
    ) -> JsonObject:
        """Every operation of a service; of an unknown service: none."""
        path = f"services/{quote(service, safe='')}/operations"
        return self._ask(path, start=_time(start), end=_time(end), **deployment)

    def service_rates(
        self,
        service: str,
        *,
        start: Time = None,
        end: Time = None,
        step: str | int | None = None,
        operation: str | None = None,
        **deployment: Unpack[DeploymentFilters],
    ) -> JsonObject:
        """Requests of a service, failures and durations, step by step; see `Answers.service_rates`."""
        return self._ask(
            f"services/{quote(service, safe='')}/rates",
            start=_time(start),
            end=_time(end),
            step=_length(step),
            operation=operation,
            **deployment,
        )

    def rates(
        self,
        q: str = "",
        *,
        start: Time = None,
        end: Time = None,
        step: str | int | None = None,
        operation: str | None = None,
        **origin: Unpack[OriginFilters],
    ) -> JsonObject:
        """Spans, logs, errors and durations of what matches, step by step; see `Answers.rates`."""
        return self._ask(
            "rates",
            q=q or None,
            start=_time(start),
            end=_time(end),
            step=_length(step),
            operation=operation,
            **origin,
        )

    def templates(
        self,
        q: str = "",
        *,
        start: Time = None,
        end: Time = None,
        limit: int = 50,
        **filters: Unpack[RecordFilters],
    ) -> JsonObject:
        """What the logs that match say, values left out, most frequent first; see `Answers.templates`."""
        return self._ask("templates", q=q or None, start=_time(start), end=_time(end), limit=limit, **filters)

    def topology(
        self,
        *,
        start: Time = None,
        end: Time = None,
        **deployment: Unpack[DeploymentFilters],
    ) -> JsonObject:
        """Who calls whom; see `Answers.topology`."""
        return self._ask("topology", start=_time(start), end=_time(end), **deployment)

    def stats(self) -> JsonObject:
        """Counts and sizes; `records` counts logs and spans, each once."""
        return self._ask("stats")

    def ledger(self) -> JsonObject:
        """What arrived of each process, and what is missing."""
        return self._ask("ledger")

    # ---------------------------------------------------------------- answers in pieces

    def export(
        self,
        format: str = "ndjson",
        *,
        q: str = "",
        start: Time = None,
        end: Time = None,
        limit: int | None = None,
        **filters: Unpack[RecordFilters],
    ) -> Stream[bytes]:
        """Every record that matches, in a format for other tools, a piece at a time; see `Answers.export`.

        Raises:
            Unreachable: also in the middle, when the connection breaks off: the export is not whole then.
        """
        query = _query(format=format, q=q or None, start=_time(start), end=_time(end), limit=limit, **filters)
        pieces = self._wire.stream("/api/v1/logs/export", query=query, token=self._token)
        return Stream(pieces, pieces)

    def export_trace(self, trace_id: str) -> Stream[bytes]:
        """One call chain for Perfetto and chrome://tracing, a piece at a time."""
        path = f"/api/v1/traces/{quote(trace_id, safe='')}/export"
        pieces = self._wire.stream(path, token=self._token)
        return Stream(pieces, pieces)

    def tail(
        self,
        q: str = "",
        **filters: Unpack[RecordFilters],
    ) -> Stream[tuple[str, JsonObject]]:
        """Records as they become visible, without end; `close` the stream to stop.

        Yields:
            `("record", record)`, or `("dropped", {"count"})` when we did not keep up.
        Raises:
            Unreachable: the collector has gone, or is silent beyond `timeout_s` (it speaks every 15 s).
        """
        query = _query(q=q or None, **filters)
        pieces = self._wire.stream("/api/v1/logs/tail", query=query, token=self._token)
        return Stream(pieces, _events(pieces))

    # ---------------------------------------------------------------- the service itself

    def health(self) -> JsonObject:
        """Whether the collector takes records in and makes them visible: `{"status", "detail"}`.

        Raises:
            Unreachable: nobody answers.
        """
        return self._wire.call("GET", "/readyz", statuses=(200, 503))

    def wait_for_trace(
        self, trace_id: str, *, timeout_s: float = 10.0, complete: bool = False, poll_s: float = 0.1
    ) -> JsonObject:
        """The trace, as soon as it can be found; with `complete`, as soon as nothing more is expected.

        Raises:
            NotFound: it did not come in time; with `complete`, the message says what is missing.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            trace: JsonObject | None = None
            try:
                trace = self.trace(trace_id)
            except NotFound:
                pass
            if trace is not None and (not complete or trace["completeness"] == "complete"):
                return trace
            if time.monotonic() + poll_s > deadline:
                state = "not there" if trace is None else f"{trace['completeness']}: {_gaps(trace)}"
                raise NotFound(f"trace {trace_id}: after {timeout_s:g} s it is {state}")
            time.sleep(poll_s)

    # ---------------------------------------------------------------- import, delete

    def import_records(
        self, records: Iterable[tuple[str, bytes]], *, overloaded_s_max: float = 60.0
    ) -> JsonObject:
        """Import record lines; importing the same again changes nothing.

        Args:
            records: identity and line of each record, as `collector.receive.files` reads them.
            overloaded_s_max: how long to keep trying while the collector has no room.
        Returns:
            `{"stored", "already_stored", "refused"}`: how many were taken in, how many searches found
            before, and the lines that were not taken, with reasons.
        Raises:
            Overloaded: there was no room for so long. What was sent before is stored.
        """
        stored = already_stored = 0
        refused: list[JsonObject] = []
        for body in import_bodies(records):
            answer = self._import(body, time.monotonic() + overloaded_s_max)
            stored += answer["stored"]
            already_stored += answer.get("already_stored", 0)  # an older collector does not say
            refused += answer["refused"]
        return {"stored": stored, "already_stored": already_stored, "refused": refused}

    def delete(
        self,
        q: str = "",
        *,
        start: Time = None,
        end: Time = None,
        **filters: Unpack[RecordFilters],
    ) -> JsonObject:
        """Delete every record that matches, at once and for good: `{"deleted"}`.

        Raises:
            QueryError: an argument cannot be understood, or there is none.
        """
        query = _query(q=q or None, start=_time(start), end=_time(end), **filters)
        return self._wire.call("DELETE", "/api/v1/logs", query=query, token=self._admin_token)

    def _import(self, body: bytes, deadline: float) -> JsonObject:
        while True:
            try:
                return self._wire.call(
                    "POST", "/v1/records", body=body, headers=IMPORT_HEADERS, token=self._ingest_token
                )
            except Overloaded as error:
                if time.monotonic() + error.retry_after_s > deadline:
                    raise
                time.sleep(min(error.retry_after_s, RETRY_AFTER_S_MAX))

    def _ask(self, path: str, **query: str | int | bool | None) -> JsonObject:
        return self._wire.call("GET", f"/api/v1/{path}", query=query, token=self._token)


def _query(**given: str | int | bool | None) -> Query:
    return given


def _time(value: Time) -> str | None:
    """A bare number would be taken for seconds or milliseconds, as people write them."""
    return format_timestamp(value) if isinstance(value, int) else value


def _length(value: str | int | None) -> str | None:
    return f"{value}ns" if isinstance(value, int) else value


def _events(pieces: Iterable[bytes]) -> Iterator[tuple[str, JsonObject]]:
    """Server-sent events: name and data, which is one line here; comments are passed over."""
    event = ""
    for line in lines_of(pieces):
        name, _, value = line.partition(b": ")
        if name == b"event":
            event = value.decode()
        elif name == b"data":
            yield event, object_of(value)


def _gaps(trace: JsonObject) -> str:
    return "; ".join(gap["message"] for gap in trace["gaps"]) or "more may come"
