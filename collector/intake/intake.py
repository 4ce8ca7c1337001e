"""One request: decode, admit, skip what is known, append, answer.

An answer that acknowledges anything is given after the write-ahead log has it durably.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final

from collector.errors import Refused
from collector.intake.answers import REFUSED_LISTED_MAX, ForeignAnswer, IngestAnswer, OtlpAnswer
from collector.intake.foreign import ForeignIntake
from collector.intake.limits import IntakeLimits
from collector.intake.native import Existing, NativeIntake
from collector.intake.placed import Placed, PlacedIntake
from collector.intake.turns import Turns
from collector.ledger import Ledger
from collector.receive import elastic, loki, otlp, otlp_json, zipkin
from collector.receive.encodings import unpacked
from collector.receive.foreign import Decoded, Foreign
from collector.receive.native import Import, read_place
from collector.receive.snappy import unsnapped
from collector.wal import Wal
from tracing.redact import Redactor

PROTOBUF: Final = "application/x-protobuf"
JSON: Final = "application/json"
_BUILT_IN: Final = Redactor()


def _nothing(uids: Collection[str]) -> set[str]:
    return set()


class Intake:
    """Takes requests in. Blocking; any thread may call any method."""

    def __init__(
        self,
        wal: Wal,
        ledger: Ledger,
        *,
        clock_ns: Callable[[], int] = time.time_ns,
        limits: IntakeLimits | None = None,
        redactor: Redactor | None = _BUILT_IN,
        existing: Existing = _nothing,
    ) -> None:
        """Stand between requests and the log.

        Args:
            wal: where what is taken goes; `collector.intake.open_log` opens it with its ledger.
            ledger: knows what is there already.
            clock_ns: now, epoch nanoseconds.
            limits: bounds; the defaults if `None`.
            redactor: takes secrets out of what foreign senders send, None: nothing does. Our own library
                has done so at home.
            existing: says which uids are stored, so that what is imported again need not be written again.
        """
        self._limits = limits or IntakeLimits()
        turns = Turns(self._limits.turn_wait_s)
        self._native = NativeIntake(
            wal, ledger, turns, clock_ns=clock_ns, limits=self._limits, existing=existing
        )
        self._foreign = ForeignIntake(
            wal, ledger, turns, clock_ns=clock_ns, limits=self._limits, redactor=redactor
        )
        self._placed = PlacedIntake(
            wal, ledger, turns, clock_ns=clock_ns, limits=self._limits, redactor=redactor
        )
        self._ledger = ledger
        self._counts: Counter[str] = Counter()
        self._counts_lock = threading.Lock()

    def records(self, headers: Mapping[str, str], body: bytes) -> IngestAnswer:
        """Take the lines of a shipper or an importer.

        Args:
            headers: of the request, names in lower case or a mapping that does not care.
            body: as it came, perhaps packed.
        Raises:
            Refused: the request is wrong as a whole.
            Overloaded: there is no room; nothing was taken.
        """
        place = read_place(headers)
        data = self._plain(body, headers.get("content-encoding"))
        answer = self._native.named(data) if isinstance(place, Import) else self._native.spool(place, data)
        self._count("native", len(body), answer.stored, answer.refused_count)
        return answer

    def otlp_logs(self, content_type: str | None, encoding: str | None, body: bytes) -> OtlpAnswer:
        """Take an OTLP/HTTP request with logs; what is refused is told as a partial success.

        Args:
            content_type: header of the request, parameters and all.
            encoding: `Content-Encoding` of the request.
            body: as it came.
        Raises:
            Refused: the request is wrong as a whole.
            Overloaded: there is no room; nothing was taken.
        """
        kind, data = _otlp_kind(content_type), self._plain(body, encoding)
        decoded = otlp.decode_logs(data) if kind == PROTOBUF else otlp_json.decode_logs(data)
        taken = self._take("otlp_logs", kind, len(body), data, decoded)
        return OtlpAnswer.of(otlp.logs_answer(taken.refused_count, taken.summary()), kind, taken)

    def otlp_traces(self, content_type: str | None, encoding: str | None, body: bytes) -> OtlpAnswer:
        """Take an OTLP/HTTP request with spans; else as `otlp_logs`."""
        kind, data = _otlp_kind(content_type), self._plain(body, encoding)
        decoded = otlp.decode_traces(data) if kind == PROTOBUF else otlp_json.decode_traces(data)
        taken = self._take("otlp_traces", kind, len(body), data, decoded)
        return OtlpAnswer.of(otlp.traces_answer(taken.refused_count, taken.summary()), kind, taken)

    def otlp_metrics(self, content_type: str | None, encoding: str | None, body: bytes) -> OtlpAnswer:
        """Take an OTLP/HTTP request with metrics and keep none of them; the request is counted.

        Raises:
            Refused: the request is wrong as a whole.
        """
        kind = _otlp_kind(content_type)
        self._plain(body, encoding)
        self._count("otlp_metrics", len(body), 0, 1)
        return OtlpAnswer.of(otlp.metrics_answer(), kind, ForeignAnswer())

    def zipkin_spans(self, encoding: str | None, body: bytes) -> ForeignAnswer:
        """Take Zipkin v2 spans in JSON.

        Raises:
            Refused: the request is wrong as a whole.
            Overloaded: there is no room; nothing was taken.
        """
        data = self._plain(body, encoding)
        return self._take("zipkin", JSON, len(body), data, zipkin.decode_spans(data))

    def loki_push(self, content_type: str | None, encoding: str | None, body: bytes) -> ForeignAnswer:
        """Take a push request of Loki, JSON or protobuf; else as `zipkin_spans`."""
        kind = _media_type(content_type)
        if kind == JSON:
            data = self._plain(body, encoding)
            return self._take("loki", kind, len(body), data, loki.decode_json(data))
        if kind != PROTOBUF:
            raise _unsupported_type(content_type)
        # Loki's senders pack protobuf with snappy without saying so in a header.
        data = unsnapped(self._plain(body, encoding), bytes_max=self._limits.unpacked_bytes_max)
        return self._take("loki", kind, len(body), data, loki.decode_protobuf(data))

    def elastic_bulk(self, encoding: str | None, body: bytes, *, index: str | None = None) -> bytes:
        """Take a bulk request as log shippers send it to Elasticsearch; else as `zipkin_spans`.

        Args:
            encoding: `Content-Encoding` of the request.
            body: as it came.
            index: of the path, for actions that name none.
        Returns:
            The body of the answer.
        """
        data = self._plain(body, encoding)
        actions = elastic.read_actions(data, index=index)
        # The path is a part of what was asked for.
        kind = JSON if index is None else f"{JSON} {index}"
        taken = self._take("elastic", kind, len(body), data, elastic.decode(actions), listed_max=len(actions))
        return elastic.answer(actions, {one.offset: one for one in taken.refused})

    def file_lines(
        self, origin: str, resource: dict[str, Any], records: Sequence[Placed], *, first: int, end: int
    ) -> ForeignAnswer:
        """Take a stretch of a file that this machine reads; see `PlacedIntake.file`."""
        taken = self._placed.file(origin, resource, records, first=first, end=end)
        self._count("tail", end - first, taken.stored, taken.refused_count)
        return taken

    def file_mark(self, origin: str) -> int:
        """The byte offset up to which a file was taken."""
        return self._ledger.acknowledged(origin, 0)

    def messages(self, protocol: str, wire_bytes: int, records: Sequence[Foreign]) -> ForeignAnswer:
        """Take messages that nobody will send again, for instance of syslog.

        Raises:
            Overloaded: there is no room; nothing was taken.
        """
        taken = self._placed.passing(records)
        self._count(protocol, wire_bytes, taken.stored, taken.refused_count)
        return taken

    def stats(self) -> dict[str, int]:
        """Counts since the start, by protocol: requests, bytes as they came, records taken and refused."""
        with self._counts_lock:
            return dict(self._counts)

    def _take(
        self,
        protocol: str,
        kind: str,
        wire_bytes: int,
        data: bytes,
        decoded: Decoded,
        *,
        listed_max: int = REFUSED_LISTED_MAX,
    ) -> ForeignAnswer:
        taken = self._foreign.take(f"{protocol} {kind}", data, decoded, listed_max=listed_max)
        self._count(protocol, wire_bytes, taken.stored, taken.refused_count)
        return taken

    def _plain(self, body: bytes, encoding: str | None) -> bytes:
        return unpacked(body, encoding, bytes_max=self._limits.unpacked_bytes_max)

    def _count(self, protocol: str, wire_bytes: int, stored: int, refused: int) -> None:
        with self._counts_lock:
            self._counts[f"{protocol}.requests"] += 1
            self._counts[f"{protocol}.bytes"] += wire_bytes
            self._counts[f"{protocol}.records"] += stored
            self._counts[f"{protocol}.refused"] += refused


def _otlp_kind(content_type: str | None) -> str:
    kind = _media_type(content_type)
    if kind not in (PROTOBUF, JSON):
        raise _unsupported_type(content_type)
    return kind


def _media_type(content_type: str | None) -> str:
    """The type in a `Content-Type`, by the name we use for it."""
    kind = (content_type or "").partition(";")[0].strip().lower()
    return PROTOBUF if kind == "application/protobuf" else kind


def _unsupported_type(content_type: str | None) -> Refused:
    """Say which types are read."""
    return Refused(
        "unsupported_content_type",
        f"Content-Type: {PROTOBUF} or {JSON} is expected, got {(content_type or 'nothing')[:64]!r}",
        field="Content-Type",
    )
