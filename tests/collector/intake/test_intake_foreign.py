"""Senders without positions: what they repeat within the window is stored once."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsServiceRequest,
    ExportLogsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from collector.errors import Refused
from collector.intake import Intake, IntakeLimits, open_log
from collector.intake.intake import JSON, PROTOBUF
from collector.ledger import Ledger, LedgerLimits
from collector.wal import Wal, WalFrame, WalLimits
from tracing.redact import Redactor

SECOND_NS = 1_000_000_000
TRACE_ID = bytes.fromhex("0af7651916cd43dd8448eb211c80319c")


class Clock:
    now_ns = 1_800_000_000 * SECOND_NS

    def __call__(self) -> int:
        return self.now_ns


class Collector:
    """A log, a ledger and an intake with a clock of their own."""

    def __init__(self, directory: Path, **intake: Any) -> None:
        self.clock = Clock()
        self.directory = directory
        self.intake_options = intake
        self.wal: Wal
        self.ledger: Ledger
        self.start()

    def start(self) -> None:
        self.wal, self.ledger = open_log(
            self.directory,
            durable_seq=0,
            wal_limits=WalLimits(segment_bytes_max=65_536, frame_bytes_max=1024, disk_free_bytes_min=0),
            ledger_limits=LedgerLimits(foreign_dedupe_window_s=60.0),
            clock_ns=self.clock,
        )
        self.intake = Intake(self.wal, self.ledger, clock_ns=self.clock, **self.intake_options)

    def crash_and_restart(self) -> None:
        self.wal._drop_writer()
        self.ledger._file.close()
        self.start()

    def frames(self) -> list[WalFrame]:
        return self.wal.read(0, 10**6)

    def stored(self) -> dict[str, list[dict[str, Any]]]:
        """Every line in the log by identity; what is there twice has two."""
        found: dict[str, list[dict[str, Any]]] = {}
        for frame in self.frames():
            lines = [json.loads(text) for text in frame.split()]
            for uid, fields in zip(frame.uids() or [one["uid"] for one in lines], lines, strict=True):
                found.setdefault(uid, []).append(fields)
        return found

    def messages(self) -> list[str]:
        return [fields["message"] for several in self.stored().values() for fields in several]


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., Collector]:
    return lambda **intake: Collector(tmp_path, **intake)


def logs(*messages: str, service: str = "orders", time_ns: int = 5) -> ExportLogsServiceRequest:
    request = ExportLogsServiceRequest()
    add_logs(request, *messages, service=service, time_ns=time_ns)
    return request


def add_logs(request: ExportLogsServiceRequest, *messages: str, service: str, time_ns: int = 5) -> None:
    group = request.resource_logs.add()
    group.resource.attributes.append(KeyValue(key="service.name", value=AnyValue(string_value=service)))
    part = group.scope_logs.add()
    for message in messages:
        part.log_records.add(time_unix_nano=time_ns, body=AnyValue(string_value=message))


def spans(*numbers: int, name: str = "charge") -> ExportTraceServiceRequest:
    request = ExportTraceServiceRequest()
    part = request.resource_spans.add().scope_spans.add()
    for number in numbers:
        part.spans.add(
            trace_id=TRACE_ID,
            span_id=number.to_bytes(8, "big"),
            name=name,
            start_time_unix_nano=10,
            end_time_unix_nano=20,
        )
    return request


def test_logs_are_stored_with_their_resources(start: Callable[..., Collector]) -> None:
    """Neighbours share an envelope, in the order of the request."""
    collector = start()
    request = logs("a", "b", service="orders")
    add_logs(request, "c", service="stock")
    answer = collector.intake.otlp_logs(PROTOBUF, None, request.SerializeToString())
    assert (answer.stored, answer.content_type, answer.body) == (3, PROTOBUF, b"")
    assert collector.messages() == ["a", "b", "c"]
    frames = collector.frames()
    assert [frame.envelope.resource for frame in frames] == [
        {"service.name": "orders"},
        {"service.name": "stock"},
    ]
    assert [frame.envelope.complete for frame in frames] == [False, True]
    origin = frames[0].envelope.origin
    assert [uid for frame in frames for uid in frame.uids() or ()] == [f"{origin}-{n}" for n in range(3)]


def test_a_request_that_comes_again_is_stored_once(start: Callable[..., Collector]) -> None:
    """The exporter did not get the answer: within the window, over a crash, packed or not."""
    collector = start()
    body = logs("a", "b").SerializeToString()
    assert collector.intake.otlp_logs(PROTOBUF, None, body).stored == 2
    assert collector.intake.otlp_logs(PROTOBUF, "gzip", gzip.compress(body)).stored == 0
    collector.crash_and_restart()
    assert collector.intake.otlp_logs(PROTOBUF, None, body).stored == 0
    assert collector.messages() == ["a", "b"]


def test_the_same_words_later_are_other_records(start: Callable[..., Collector]) -> None:
    """After the window, or in another request: a log that repeats itself is not a repetition."""
    collector = start()
    body = logs("tick", "tick").SerializeToString()
    collector.intake.otlp_logs(PROTOBUF, None, body)
    collector.intake.otlp_logs(PROTOBUF, None, logs("tick", time_ns=6).SerializeToString())
    collector.clock.now_ns += 61 * SECOND_NS
    assert collector.intake.otlp_logs(PROTOBUF, None, body).stored == 2
    assert collector.messages() == ["tick"] * 5
    assert all(len(several) == 1 for several in collector.stored().values())


def test_a_request_of_which_a_part_survived_goes_on_there(start: Callable[..., Collector]) -> None:
    """Killed in the middle of the write: the first frames are there, the sender repeats everything."""
    collector = start()
    request = logs(*(f"line {n} {'x' * 200}" for n in range(12)))
    body = request.SerializeToString()
    collector.intake.otlp_logs(PROTOBUF, None, body)
    expected = collector.messages()
    frames = collector.frames()
    assert len(frames) > 2
    (path,) = (collector.directory / "wal").iterdir()
    content = path.read_bytes()
    for size in range(0, len(content), 257):
        for old in (collector.directory / "wal").iterdir():
            old.unlink()
        path.write_bytes(content[:size])
        (collector.directory / "ledger.sqlite").unlink()
        collector.crash_and_restart()
        there = len(collector.messages())
        collector.clock.now_ns += SECOND_NS  # what goes on keeps its identity all the same
        assert collector.intake.otlp_logs(PROTOBUF, None, body).stored == 12 - there
        assert collector.messages() == expected
        assert all(len(several) == 1 for several in collector.stored().values())
        assert len({uid.rpartition("-")[0] for uid in collector.stored()}) == 1, "one request, one identity"
        assert collector.intake.otlp_logs(PROTOBUF, None, body).stored == 0


def test_equal_bytes_of_two_protocols_are_two_requests(start: Callable[..., Collector]) -> None:
    """The hash is of the request, and the way that it came is a part of it."""
    collector = start()
    span = {"traceId": TRACE_ID.hex(), "spanId": f"{1:016x}", "startTimeUnixNano": 5}
    both = {
        "resourceLogs": [{"scopeLogs": [{"logRecords": [{"body": {"stringValue": "a"}}]}]}],
        "resourceSpans": [{"scopeSpans": [{"spans": [span]}]}],
    }
    body = json.dumps(both).encode()
    assert collector.intake.otlp_logs(JSON, None, body).stored == 1
    assert collector.intake.otlp_traces(JSON, None, body).stored == 1


def test_a_span_is_known_by_its_content(start: Callable[..., Collector]) -> None:
    """Relays batch anew: the same span in another request has the same identity, and is looked up."""
    collector = start()
    collector.intake.otlp_traces(PROTOBUF, None, spans(1, 2).SerializeToString())
    collector.intake.otlp_traces(PROTOBUF, None, spans(2, 3).SerializeToString())
    collector.intake.otlp_traces(PROTOBUF, None, spans(2, name="other").SerializeToString())
    stored = collector.stored()
    assert sorted(len(several) for several in stored.values()) == [1, 1, 1, 2]
    assert all(frame.envelope.check_uids and frame.envelope.named for frame in collector.frames())
    assert all(len(uid) == 32 for uid in stored)


def test_json_and_protobuf_say_the_same_span(start: Callable[..., Collector]) -> None:
    """So a sender that changes its encoding between two attempts does no harm."""
    collector = start()
    collector.intake.otlp_traces(PROTOBUF, None, spans(7).SerializeToString())
    body = {
        "resourceSpans": [
            {
                "scopeSpans": [
                    {
                        "spans": [
                            {
                                "traceId": TRACE_ID.hex(),
                                "spanId": f"{7:016x}",
                                "name": "charge",
                                "startTimeUnixNano": "10",
                                "endTimeUnixNano": 20,
                            }
                        ]
                    }
                ]
            }
        ]
    }
    answer = collector.intake.otlp_traces(f"{JSON}; charset=utf-8", None, json.dumps(body).encode())
    assert (answer.content_type, answer.body) == (JSON, b"{}")
    (several,) = collector.stored().values()
    assert len(several) == 2 and several[0] == several[1]


def test_what_is_refused_is_told_as_a_partial_success(start: Callable[..., Collector]) -> None:
    """How many, which, and why; the good rest is stored, and the gap has its place in the numbers."""
    collector = start()
    request = spans(1, 0, 2)
    answer = collector.intake.otlp_traces(PROTOBUF, None, request.SerializeToString())
    response = ExportTraceServiceResponse.FromString(answer.body)
    assert response.partial_success.rejected_spans == answer.refused_count == 1
    assert response.partial_success.error_message.startswith("1 refused: record 1: bad_id: span_id")
    assert len(collector.stored()) == 2
    bad_time = logs("a", "b", "c")
    bad_time.resource_logs[0].scope_logs[0].log_records[1].time_unix_nano = 2**64 - 1
    answer = collector.intake.otlp_logs(PROTOBUF, None, bad_time.SerializeToString())
    response = ExportLogsServiceResponse.FromString(answer.body)
    assert response.partial_success.rejected_log_records == 1
    assert [uid.rpartition("-")[2] for uid in list(collector.stored())[2:]] == ["0", "2"]
    assert collector.ledger.stats()["refused.bad_timestamp"] == 1
    again = collector.intake.otlp_logs(PROTOBUF, None, bad_time.SerializeToString())
    assert (again.stored, again.body) == (0, answer.body), "the sender may not have heard it"
    assert collector.ledger.stats()["refused.bad_timestamp"] == 1


def test_a_request_of_nothing_but_bad_records_is_remembered_too(start: Callable[..., Collector]) -> None:
    """Its refusals are counted once."""
    collector = start()
    for _ in range(3):
        collector.intake.otlp_traces(PROTOBUF, None, spans(0).SerializeToString())
    assert collector.ledger.stats()["refused.bad_id"] == 1


def test_logs_without_a_time_have_that_of_their_arrival(start: Callable[..., Collector]) -> None:
    """Counted, since it is a guess."""
    collector = start()
    collector.intake.otlp_logs(PROTOBUF, None, logs("a", time_ns=0).SerializeToString())
    ((fields,),) = collector.stored().values()
    assert fields["timestamp"] == "2027-01-15T08:00:00.000000000Z"
    assert collector.ledger.stats()["mended.time_missing"] == 1


def test_secrets_are_taken_out_before_the_log(start: Callable[..., Collector]) -> None:
    """What a foreign sender did not hide at home is hidden here, its resource included."""
    request = logs("login password=hunter2")
    request.resource_logs[0].resource.attributes.append(
        KeyValue(key="api_key", value=AnyValue(string_value="s3cr3t"))
    )
    body = request.SerializeToString()
    collector = start()
    collector.intake.otlp_logs(PROTOBUF, None, body)
    on_disk = b"".join(path.read_bytes() for path in (collector.directory / "wal").iterdir())
    assert b"hunter2" not in on_disk and b"s3cr3t" not in on_disk and b"login" in on_disk


def test_redaction_can_be_extended_or_switched_off(start: Callable[..., Collector]) -> None:
    """By whoever runs the collector."""
    collector = start(redactor=None)
    collector.intake.otlp_logs(PROTOBUF, None, logs("password=hunter2").SerializeToString())
    collector.intake = Intake(collector.wal, collector.ledger, redactor=Redactor(patterns=["ticket-[0-9]+"]))
    collector.intake.otlp_logs(PROTOBUF, None, logs("ticket-77").SerializeToString())
    assert collector.messages() == ["password=hunter2", "[redacted]"]


def test_metrics_are_answered_and_dropped(start: Callable[..., Collector]) -> None:
    """A sender with all three signals on one address must not be in trouble."""
    collector = start()
    answer = collector.intake.otlp_metrics(JSON, None, b"{}")
    assert "metrics are not kept" in json.loads(answer.body)["partialSuccess"]["errorMessage"]
    assert collector.intake.stats()["otlp_metrics.refused"] == 1
    assert collector.wal.last_seq == 0


@pytest.mark.parametrize(
    ("content_type", "encoding", "body", "reason"),
    [
        (None, None, b"", "unsupported_content_type"),
        ("text/plain", None, b"", "unsupported_content_type"),
        (PROTOBUF, None, b"\xff", "bad_body"),
        (JSON, None, b"nonsense", "bad_body"),
        (PROTOBUF, "gzip", b"\xff", "bad_encoding"),
        (PROTOBUF, "zip", b"", "unsupported_encoding"),
        (PROTOBUF, "gzip", gzip.compress(b"\0" * 70_000), "body_too_large"),
    ],
)
def test_a_request_that_is_wrong_as_a_whole(
    start: Callable[..., Collector], content_type: str | None, encoding: str | None, body: bytes, reason: str
) -> None:
    """Nothing of it is taken, whatever it carries."""
    collector = start(limits=IntakeLimits(unpacked_bytes_max=65_536))
    for take in (collector.intake.otlp_logs, collector.intake.otlp_traces):
        with pytest.raises(Refused) as refusal:
            take(content_type, encoding, body)
        assert refusal.value.reason == reason
    assert collector.wal.last_seq == 0


def test_an_empty_request_is_fine(start: Callable[..., Collector]) -> None:
    """Exporters send them as a greeting."""
    collector = start()
    assert collector.intake.otlp_logs("application/protobuf", None, b"").body == b""
    assert collector.wal.last_seq == 0
