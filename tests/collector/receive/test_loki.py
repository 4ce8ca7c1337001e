"""Loki's push requests, JSON and protobuf in snappy, held against a real snappy."""

from __future__ import annotations

import json
import random
from typing import Any

import cramjam
import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.errors import Refused
from collector.receive.foreign import Foreign, Unreadable
from collector.receive.loki import decode_json, decode_protobuf
from collector.receive.snappy import unsnapped

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
LABELS = {"service_name": "orders", "pod": "o-1", "level": "error"}


def field(number: int, value: bytes | int) -> bytes:
    """One field of a protobuf message."""
    if isinstance(value, int):
        return bytes([number << 3]) + varint(value)
    return bytes([number << 3 | 2]) + varint(len(value)) + value


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def as_protobuf(labels: dict[str, str], values: list[list[Any]]) -> bytes:
    text = "{" + ", ".join(f"{key}={json.dumps(value)}" for key, value in labels.items()) + "}"
    entries = b""
    for time, line, *metadata in values:
        seconds, nanoseconds = divmod(int(time), 10**9)
        entry = field(1, field(1, seconds) + field(2, nanoseconds)) + field(2, line.encode())
        for key, value in (metadata[0] if metadata else {}).items():
            entry += field(3, field(1, key.encode()) + field(2, value.encode()))
        entries += field(2, entry)
    return field(1, field(1, text.encode()) + entries + field(3, 7))


def as_json(labels: dict[str, str], values: list[list[Any]]) -> bytes:
    return json.dumps({"streams": [{"stream": labels, "values": values}]}).encode()


@pytest.mark.parametrize("encode", [as_json, as_protobuf])
def test_a_stream_in_either_encoding(encode: Any) -> None:
    """Labels are the resource; lines and metadata are read; the time is the entry's."""
    decode = decode_json if encode is as_json else decode_protobuf
    values = [
        ["1767323045000000001", "plain words", {"trace_id": TRACE, "span_id": SPAN, "user": "ann"}],
        ["1767323045000000002", json.dumps({"level": "debug", "msg": "hi", "n": 1, "trace_id": TRACE})],
        ["1767323045000000003", "naïve ☃"],
    ]
    first, second, third = decode(encode(LABELS, values))
    assert isinstance(first, Foreign) and isinstance(second, Foreign) and isinstance(third, Foreign)
    assert first.fields == {
        "timestamp": 1767323045000000001,
        "level": "ERROR",
        "service": "orders",
        "trace_id": TRACE,
        "span_id": SPAN,
        "message": "plain words",
        "attributes": {"user": "ann"},
    }
    assert first.resource == {
        "service.name": "orders",
        "service.instance.id": "o-1",
        "service_name": "orders",
        "pod": "o-1",
    }
    assert second.fields["message"] == "hi" and second.fields["attributes"] == {"n": 1}
    assert second.fields["level"] == "ERROR", "the label was made from the line, or set on purpose"
    assert third.fields["message"] == "naïve ☃"
    assert first.resource is second.resource is third.resource


def test_levels_without_a_label() -> None:
    """From the metadata, from the line."""
    values = [["1", "x", {"detected_level": "warn"}], ["2", "ERROR y"], ["3", "z"]]
    levels = [one.fields["level"] for one in decode_json(as_json({"job": "j"}, values))]  # type: ignore[union-attr]
    assert levels == ["WARN", "ERROR", "INFO"]


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"streams":7}', b"\xff"])
def test_json_that_is_no_push_is_refused(body: bytes) -> None:
    """As a whole."""
    with pytest.raises(Refused) as refusal:
        list(decode_json(body))
    assert refusal.value.reason == "bad_body"


def test_a_bad_entry_leaves_its_neighbours() -> None:
    """One by one."""
    bad: list[Any] = [7, ["1"], [1, "x"], ["x", "y"], ["1", 2], ["1", "x", 7], ["1", "2", {}, {}]]
    body = json.dumps(
        {"streams": [7, {"stream": 7}, {"stream": {}, "values": [*bad, ["5", "good"]]}]}
    ).encode()
    decoded = list(decode_json(body))
    assert sum(isinstance(one, Unreadable) for one in decoded) == len(bad) + 2
    (good,) = (one for one in decoded if isinstance(one, Foreign))
    assert (good.fields["message"], good.fields["service"]) == ("good", "unknown_service")


@given(st.binary(max_size=200))
def test_any_bytes_are_a_push_or_refused(body: bytes) -> None:
    """Nothing else ever happens."""
    for decode in (decode_protobuf, decode_json):
        try:
            list(decode(body))
        except Refused as refusal:
            assert refusal.reason == "bad_body"


@given(st.data())
def test_a_damaged_push_is_read_or_refused(data: st.DataObject) -> None:
    """Any byte exchanged, any length cut."""
    body = bytearray(as_protobuf(LABELS, [["1", "x" * 50, {"a": "b"}]] * 3))
    for _ in range(data.draw(st.integers(1, 3))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    try:
        list(decode_protobuf(bytes(body[: data.draw(st.integers(0, len(body)))])))
    except Refused as refusal:
        assert refusal.reason == "bad_body"


# ---------------------------------------------------------------- snappy


@given(
    st.binary(max_size=3000)
    | st.lists(st.sampled_from([b"ab", b"hello ", b"\0"]), max_size=900).map(b"".join)
)
def test_what_snappy_packs_is_unpacked(plain: bytes) -> None:
    """Literals of every size, copies near and far, copies into themselves."""
    packed = bytes(cramjam.snappy.compress_raw(plain))
    assert unsnapped(packed, bytes_max=3000) == plain if len(plain) <= 3000 else True


def test_long_blocks() -> None:
    """Copies with distances of two bytes, literals with sizes of two."""
    noise = random.Random(3).randbytes(70_000)
    for plain in (noise, noise[:5000] * 40, b"x" * 300_000):
        assert unsnapped(bytes(cramjam.snappy.compress_raw(plain)), bytes_max=10**6) == plain


@given(st.binary(max_size=300))
def test_noise_is_refused(block: bytes) -> None:
    """Or happens to be a block."""
    try:
        assert len(unsnapped(block, bytes_max=10_000)) <= 10_000
    except Refused as refusal:
        assert refusal.reason in ("bad_encoding", "body_too_large")


@pytest.mark.parametrize(
    "block",
    [
        b"",
        b"\xff\xff\xff\xff\xff",
        b"\x05\x00a",
        b"\x05\x10ab",
        b"\x04\x01\x01",
        b"\x05\xf0",
        b"\x05\x02\x01",
        b"\x02\x00a\x01\x00",
        b"\x01\x04ab",
    ],
)
def test_a_damaged_block_is_refused(block: bytes) -> None:
    """No length, cut off, too short, too long, a copy of nothing."""
    with pytest.raises(Refused) as refusal:
        unsnapped(block, bytes_max=100)
    assert refusal.value.reason == "bad_encoding"


def test_a_bomb_is_refused_by_its_length() -> None:
    """The block says how long it is, and is held to it."""
    packed = bytes(cramjam.snappy.compress_raw(b"\0" * 10**6))
    with pytest.raises(Refused) as refusal:
        unsnapped(packed, bytes_max=10**5)
    assert refusal.value.reason == "body_too_large"
    with pytest.raises(Refused):
        unsnapped(b"\x0a" + packed[3:], bytes_max=10**5)
