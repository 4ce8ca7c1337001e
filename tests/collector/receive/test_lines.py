"""Record lines and the model: two readers that agree, and a writer that is their inverse."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.model import Record
from collector.receive.lines import decode_line, line_fields, record_from_line
from tracing.errors import InvalidLine
from tracing.line import decode, encode

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
numbers = st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
values = st.none() | st.booleans() | numbers | texts
attributes = st.dictionaries(
    texts,
    values | st.lists(texts, max_size=3) | st.dictionaries(texts, texts, max_size=2),
    max_size=4,
)
times = st.integers(0, 2**63 - 1)
common = {
    "timestamp": times,
    "level": st.sampled_from(["INFO", "WARN2", "ERROR", "FATAL4"]),
    "service": texts,
    "logger": st.none() | texts,
    "attributes": st.none() | attributes,
    "trace_flags": st.none() | st.integers(0, 255),
}
logs = st.fixed_dictionaries(
    {
        **common,
        "message": st.none() | texts,
        "trace_id": st.sampled_from([None, TRACE]),
        "exception": st.none() | st.fixed_dictionaries({"type": texts, "stacktrace": texts}),
        "source": st.none() | st.fixed_dictionaries({"file": texts, "line": st.integers(0, 10**6)}),
    }
)
spans = st.fixed_dictionaries(
    {
        **common,
        "kind": st.just("span"),
        "trace_id": st.just(TRACE),
        "span_id": st.just(SPAN),
        "name": texts,
        "span_kind": st.sampled_from(["CLIENT", "SERVER", "INTERNAL"]),
        "parent_span_id": st.sampled_from([None, "00f067aa0ba902b7"]),
        "duration_ns": st.integers(0, 2**62),
        "status": st.none() | st.fixed_dictionaries({"code": st.just("ERROR"), "message": texts}),
        "events": st.none()
        | st.lists(st.fixed_dictionaries({"name": texts, "attributes": attributes}), min_size=1, max_size=3),
        "links": st.none() | st.just([{"trace_id": TRACE, "span_id": SPAN}]),
    }
)


def record_of(line: bytes) -> Record:
    return record_from_line(line, uid="u", resource={"service.name": "s"}, received_ns=7, seq=3)


@given(logs | spans)
def test_a_record_survives_its_line(fields: dict[str, Any]) -> None:
    """What the model holds is what the line says, and the line can be written from it again."""
    one = record_of(encode(fields))
    assert one.timestamp_ns == fields["timestamp"]
    assert (one.level, one.service, one.kind) == (
        fields["level"],
        fields["service"],
        fields.get("kind") or "log",
    )
    assert one.attributes == (fields["attributes"] or {})
    assert record_of(encode(line_fields(one))) == one


@pytest.mark.parametrize(
    "extra", [{"status": {"code": "OK"}}, {"span_kind": "CLIENT"}, {"duration_ns": 5}, {"name": "n"}]
)
def test_nothing_of_an_odd_log_is_lost(extra: dict[str, Any]) -> None:
    """The short way for logs is for logs that have nothing else."""
    line = encode({"timestamp": 1, "level": "INFO", "service": "s", "message": "m", **extra})
    one = record_of(line)
    ((key, value),) = extra.items()
    assert one.kind == "log"
    assert (getattr(one, key) if key != "status" else {"code": getattr(one, key).code}) == value


def test_a_line_s_own_resource_goes_first() -> None:
    """Standard output has no header line."""
    line = encode({"timestamp": 1, "level": "INFO", "service": "s", "resource": {"a": 1}})
    assert record_of(line).resource == {"a": 1}


def test_a_close_line_is_no_record() -> None:
    """It is a note for the ledger."""
    line = encode({"timestamp": 1, "level": "INFO", "service": "s", "kind": "close", "close": {}})
    with pytest.raises(InvalidLine, match="close"):
        record_of(line)


odd_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | texts
    | st.sampled_from([TRACE, SPAN, "span", "INFO", "warning", "2026-01-02T03:04:05Z"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


@settings(max_examples=500)
@given(
    st.sampled_from(["log", "span"]),
    st.dictionaries(
        st.sampled_from(
            ["timestamp", "level", "trace_id", "span_id", "kind", "duration_ns", "message", "name"]
        ),
        odd_values,
        max_size=3,
    ),
)
def test_both_readers_agree(base: str, change: dict[str, Any]) -> None:
    """The typed one takes what `tracing.line.decode` takes, and refuses with the same reason and field."""
    fields: dict[str, Any] = {"timestamp": "2026-01-02T03:04:05Z", "level": "INFO", "service": "s"}
    if base == "span":
        fields |= {"kind": "span", "trace_id": TRACE, "span_id": SPAN, "duration_ns": 1}
    line = json.dumps({**fields, **change}).encode()

    def outcome(read: Any) -> Any:
        try:
            return read(line) is not None
        except InvalidLine as refusal:
            return refusal.reason, refusal.field

    assert outcome(decode_line) == outcome(decode)


@pytest.mark.parametrize("line", [b"", b"[]", b"\xff", b'{"a":' + b"[" * 3000, b"x" * 300_000])
def test_both_readers_refuse_alike(line: bytes) -> None:
    """What is no line at all, too deep, too long."""
    with pytest.raises(InvalidLine) as typed:
        decode_line(line)
    with pytest.raises(InvalidLine) as plain:
        decode(line)
    assert typed.value.reason == plain.value.reason
