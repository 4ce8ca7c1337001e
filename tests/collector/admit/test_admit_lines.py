"""Lines as they come: the good ones pass untouched, each bad one is mended or refused by name."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from collector.admit import REASONS, AdmitLimits, Admitted, Close, Loss, admit_lines
from collector.admit.lines import _Closer
from collector.admit.plain import odd_lines
from collector.receive.lines import record_from_line
from collector.wal import Envelope, WalFrame
from tracing.line import LINE_BYTES_MAX

LIMITS = AdmitLimits()
LOG: dict[str, Any] = {
    "timestamp": "2026-01-02T03:04:05.000000006Z",
    "level": "INFO",
    "service": "orders",
    "trace_id": "0af7651916cd43dd8448eb211c80319c",
    "span_id": "b7ad6b7169203331",
    "message": "card declined",
    "logger": "shop",
    "attributes": {"order_id": 7, "ok": True},
    "source": {"file": "/a.py", "line": 3, "function": "f"},
    "trace_flags": 1,
}
SPAN: dict[str, Any] = {
    **{key: LOG[key] for key in ("timestamp", "level", "service", "trace_id", "span_id")},
    "kind": "span",
    "name": "charge",
    "span_kind": "CLIENT",
    "parent_span_id": "00f067aa0ba902b7",
    "duration_ns": 1_000,
    "status": {"code": "ERROR", "message": "no"},
    "events": [{"timestamp": "2026-01-02T03:04:05.000000007Z", "name": "e", "attributes": {"a": 1}}],
    "links": [{"trace_id": "0af7651916cd43dd8448eb211c80319c", "span_id": "b7ad6b7169203331"}],
}
START = {key: value for key, value in SPAN.items() if key not in ("duration_ns", "status", "events", "links")}
START["kind"] = "span_start"


def line(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogatepass")


def changed(base: dict[str, Any], **change: Any) -> bytes:
    """A line with other fields; `None` takes one away."""
    return line({key: value for key, value in {**base, **change}.items() if value is not None})


def admit(*lines: bytes, offset: int = 0, named: bool = False) -> Admitted:
    return admit_lines(b"".join(one + b"\n" for one in lines), offset=offset, named=named, limits=LIMITS)


def one(bad: bytes) -> Admitted:
    """Admit a line between two good ones, and see that these are untouched and in their places."""
    before, after = changed(LOG, message="before"), changed(SPAN, name="after")
    admitted = admit(before, bad, after, offset=1000)
    kept = admitted.lines.split(b"\n")[:-1]
    assert kept[0] == before and kept[-1] == after
    assert admitted.count == len(kept)
    places = places_of(admitted, 1000)
    assert places[0] == 1000 and places[-1] == 1000 + len(before) + 1 + len(bad) + 1
    if len(places) == 3:
        assert places[1] == 1000 + len(before) + 1
    assert all(refused.reason in REASONS for refused in admitted.refused)
    assert all(refused.offset == 1000 + len(before) + 1 for refused in admitted.refused)
    assert set(admitted.mended) <= set(REASONS)
    return admitted


def places_of(admitted: Admitted, offset: int) -> list[int]:
    """Where each kept line stood, as the log will number it."""
    envelope = Envelope(received_ns=1, origin="s", first=offset, jumps=admitted.jumps)
    uids = WalFrame(1, admitted.count, envelope, admitted.lines).uids() or []
    return [int(uid.removeprefix("s-")) for uid in uids]


def nested(value: Any, depth: int) -> Any:
    """A value inside so many lists."""
    return [nested(value, depth - 1)] if depth else value


@pytest.mark.parametrize(
    "good",
    [
        *(LOG, SPAN, START),
        {key: LOG[key] for key in ("timestamp", "level", "service")},
        {**LOG, "message": "NUL \x00, tab \t, \u2028, 😀", "attributes": {"\x00": "\x00"}},
    ],
)
def test_a_good_line_passes_as_the_bytes_it_is(good: dict[str, Any]) -> None:
    """Without a closer look: this is what nearly every line is like."""
    assert odd_lines(line(good) + b"\n", False) == set()
    admitted = one(line(good))
    assert admitted.count == 3 and not admitted.refused and not admitted.mended and not admitted.jumps


@pytest.mark.parametrize(
    ("bad", "reason", "field"),
    [
        (b"", "not_json", None),
        (b"{", "not_json", None),
        (b"\xff", "not_utf8", None),
        (b"[]", "not_object", None),
        (b"7", "not_object", None),
        (line(LOG)[:-5], "not_json", None),
        (line(LOG) + line(LOG), "not_json", None),
        (line(LOG).replace(b"declined", b"\xc3\x28"), "not_utf8", None),
        (line(LOG).replace(b"true", b'"\xff"'), "not_utf8", None),
        (b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}", "not_json", None),
        (changed(LOG, timestamp=None), "missing_field", "timestamp"),
        (changed(LOG, service=None), "missing_field", "service"),
        (changed(LOG, level=7), "wrong_type", "level"),
        (changed(LOG, level="LOUD"), "bad_level", "level"),
        (changed(LOG, timestamp="yesterday"), "bad_timestamp", "timestamp"),
        (changed(LOG, timestamp="2026-01-02T03:04:05.00000x006Z"), "bad_timestamp", "timestamp"),
        (changed(LOG, timestamp="2026-02-30T00:00:00.000000000Z"), "bad_timestamp", "timestamp"),
        (changed(LOG, timestamp="1969-12-31T23:59:59.000000000Z"), "bad_timestamp", "timestamp"),
        (changed(LOG, timestamp="2263-01-01T00:00:00.000000000Z"), "bad_timestamp", "timestamp"),
        (changed(LOG, timestamp="9999-01-01T00:00:00.000000000Z"), "bad_timestamp", "timestamp"),
        (changed(LOG, trace_id="xyz"), "bad_id", "trace_id"),
        (changed(LOG, trace_id="0" * 32), "bad_id", "trace_id"),
        (changed(LOG, trace_id=LOG["trace_id"].upper()), "bad_id", "trace_id"),
        (changed(LOG, trace_id="+" + LOG["trace_id"][1:]), "bad_id", "trace_id"),
        (changed(LOG, span_id="0" * 16), "bad_id", "span_id"),
        (changed(LOG, trace_id=None), "missing_field", "trace_id"),
        (changed(LOG, kind="metric"), "bad_kind", "kind"),
        (changed(LOG, message=7), "wrong_type", "message"),
        (changed(LOG, attributes=[]), "wrong_type", "attributes"),
        (changed(LOG, source={"line": "x"}), "wrong_type", None),
        (changed(SPAN, duration_ns=-1), "bad_duration", "duration_ns"),
        (changed(SPAN, duration_ns=1.5), "bad_duration", "duration_ns"),
        (changed(SPAN, duration_ns=2**63 - 1), "bad_duration", "duration_ns"),
        (changed(SPAN, duration_ns=None), "bad_duration", "duration_ns"),
        (changed(SPAN, span_id=None), "missing_field", "span_id"),
        (changed(SPAN, parent_span_id="xyz"), "bad_id", "parent_span_id"),
        (changed(SPAN, events=[{"timestamp": "x", "name": "e"}]), "bad_timestamp", None),
        (changed(SPAN, events=[{"name": 7}]), "wrong_type", None),
        (changed(SPAN, events=[7]), "wrong_type", None),
        (changed(SPAN, links=[{"trace_id": "a"}]), "wrong_type", None),
        (changed(LOG, message="x" * LINE_BYTES_MAX), "line_too_long", None),
        (changed(LOG, kind="loss"), "bad_loss", "loss"),
        (changed(LOG, kind="loss", loss={"reason": "x", "count": -1}), "bad_loss", "loss"),
        (changed(LOG, kind="close", close={"count": 1}), "bad_close", "close"),
    ],
)
def test_a_bad_line_is_refused_with_its_field(bad: bytes, reason: str, field: str | None) -> None:
    """One by one, with the place, and its neighbours are stored."""
    admitted = one(bad)
    assert [refused.reason for refused in admitted.refused] == [reason]
    if field is not None:
        assert admitted.refused[0].field == field
        assert field in admitted.refused[0].message
    assert admitted.count == 2
    assert len(admitted.refused[0].message) <= 500


@pytest.mark.parametrize(
    ("given_attributes", "kept", "reason"),
    [
        ({"n": 2**70}, {"n": "1180591620717411303424"}, "integer_as_text"),
        ({"n": -(2**63) - 1}, {"n": "-9223372036854775809"}, "integer_as_text"),
        ({"n": float("nan")}, {"n": "nan"}, "not_a_number"),
        ({"n": [float("-inf")]}, {"n": ["-inf"]}, "not_a_number"),
        ({"n": "\ud800"}, {"n": "?"}, "bad_text"),
        ({"\udfff": 1}, {"?": 1}, "bad_text"),
        ({"n": nested("deep", 9)}, {"n": nested('["deep"]', 8)}, "nesting_cut"),
        ({"n": list(range(2000))}, {"n": list(range(1024))}, "items_dropped"),
        ({f"k{n}": n for n in range(300)}, {f"k{n}": n for n in range(256)}, "attributes_dropped"),
        ({"k" * 1025: 1}, {"k" * 1024: 1}, "key_cut"),
    ],
)
def test_what_can_be_mended_is_mended_and_counted(
    given_attributes: dict[str, Any], kept: dict[str, Any], reason: str
) -> None:
    """Better a record with a changed value than none; the count says that it happened."""
    admitted = one(json.dumps({**LOG, "attributes": given_attributes}).encode())
    assert not admitted.refused
    assert admitted.mended == {reason: sum(admitted.mended.values())} and admitted.mended[reason] > 0
    record = record_from_line(admitted.lines.split(b"\n")[1], uid="u", resource={})
    assert record.attributes == kept
    assert record.message == LOG["message"]


@pytest.mark.parametrize("number", ["1e999", "-1E+400", "1e0999", "[0.1e5000]", "1" + "0" * 400 + ".5"])
def test_a_number_beyond_all_numbers_is_kept_as_text(number: str) -> None:
    """JSON has no limit, a 64-bit float has; a decoder that passes over attributes would not notice."""
    admitted = one(line(LOG).replace(b'"order_id":7', b'"order_id":' + number.encode()))
    assert admitted.mended == {"not_a_number": 1}
    record = record_from_line(admitted.lines.split(b"\n")[1], uid="u", resource={})
    assert str(record.attributes["order_id"]).strip("[]'-") == "inf"


def test_a_long_text_is_cut_with_a_mark() -> None:
    """As the library cuts it."""
    admitted = one(changed(LOG, attributes={"sql": "x" * 20_000}))
    assert admitted.mended == {"text_cut": 1}
    record = record_from_line(admitted.lines.split(b"\n")[1], uid="u", resource={})
    assert record.attributes["sql"] == "x" * 16_384 + "…[cut: 3616 of 20000 characters]"


@pytest.mark.parametrize("year", ["1970-01-01T00:00:00.000000000Z", "2100-01-01T00:00:00.000000000Z"])
def test_odd_times_that_exist_are_kept(year: str) -> None:
    """Clocks are wrong at times; the record is still worth having."""
    assert one(changed(LOG, timestamp=year)).count == 3


@pytest.mark.parametrize(
    "text", ["2026-01-02T03:04:05Z", "2026-01-02T03:04:05.5+02:00", "2026-01-02 03:04:05,123Z"]
)
def test_times_in_other_spellings_are_kept(text: str) -> None:
    """RFC 3339 has room for them."""
    assert one(changed(LOG, timestamp=text)).count == 3


def test_loss_and_close_are_notes_for_the_ledger() -> None:
    """A loss is kept as a record of its own kind; a close is no record."""
    loss = {**LOG, "kind": "loss", "loss": {"reason": "thinned", "count": 4, "from": 10, "to": 90}}
    admitted = one(line(loss))
    assert admitted.losses == [
        Loss(reason="thinned", count=4, start=10, end=90, written_ns=1767323045000000006)
    ]
    assert admitted.count == 3
    close = {**LOG, "kind": "close", "close": {"count": 9, "end_offset": 77, "ended": "killed"}}
    admitted = one(line(close))
    assert admitted.close == Close(ended="killed", end_offset=77, count=9)
    assert admitted.count == 2 and not admitted.refused


def test_when_the_batch_was_written() -> None:
    """A span is written when it ends; an unreadable line says nothing."""
    admitted = admit(line(LOG), line(SPAN))
    assert (admitted.first_written_ns, admitted.last_written_ns) == (
        1767323045000000006,
        1767323045000001006,
    )
    assert admit(b"bad", line(LOG)).first_written_ns == 0


@pytest.mark.parametrize(
    ("uid", "reason"),
    [(None, "missing_field"), (7, "bad_uid"), ("", "bad_uid"), ("a b", "bad_uid"), ("x" * 129, "bad_uid")],
)
def test_an_imported_line_needs_its_uid(uid: Any, reason: str) -> None:
    """Without it nobody could say whether it was there already."""
    admitted = admit(changed(LOG, uid=uid), changed(LOG, uid="a" * 32), named=True)
    assert [(one.reason, one.field) for one in admitted.refused] == [(reason, "uid")]
    assert admitted.count == 1


def test_a_mended_imported_line_keeps_its_uid() -> None:
    """Else it could be stored, and never again recognised."""
    admitted = admit(changed(LOG, uid="id-1", attributes={"n": 2**70}), named=True)
    assert json.loads(admitted.lines)["uid"] == "id-1"
    assert json.loads(admitted.lines)["attributes"] == {"n": str(2**70)}


def test_an_empty_stretch_is_empty() -> None:
    """A request with a header line and nothing else asks how far we are."""
    assert admit_lines(b"", limits=LIMITS) == Admitted(lines=b"", count=0)


# ---------------------------------------------------------------- any line at all

nasty = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(
        ["\ud800", "9" * 25, "1e999", "2026-01-02T03:04:05.000000006Z", "0af7651916cd43dd8448eb211c80319c"]
    ),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@st.composite
def any_lines(draw: st.DrawFn) -> list[bytes]:
    """Good lines, lines with one to three strange fields, lines with bytes exchanged, noise."""
    lines = []
    for _ in range(draw(st.integers(1, 6))):
        fields = dict(draw(st.sampled_from([LOG, SPAN, START])))
        for key in draw(st.lists(st.sampled_from([*LOG, *SPAN, "loss", "close", "uid", "x"]), max_size=3)):
            fields[key] = draw(nasty)
        text = json.dumps(fields, ensure_ascii=draw(st.booleans()))
        raw = bytearray(text.encode("utf-8", "surrogatepass"))
        for _ in range(draw(st.sampled_from([0, 0, 0, 1, 3]))):
            raw[draw(st.integers(0, len(raw) - 1))] = draw(st.integers(0, 255))
        lines.append(draw(st.sampled_from([bytes(raw).replace(b"\n", b" ")] * 9 + [b"", b"{}{}", b"}\n{"])))
    return [piece for one in lines for piece in one.split(b"\n")]


@settings(max_examples=600)
@given(any_lines(), st.booleans())
@example([b'{"a":1', b"}"], False)
@example([line(LOG) + line(LOG), b""], False)
def test_whatever_comes_each_line_is_kept_or_refused(lines: list[bytes], named: bool) -> None:
    """Never an error; what is kept can be indexed and is in its place; the rest has a reason."""
    admitted = admit(*lines, offset=5, named=named)
    kept = admitted.lines.split(b"\n")[:-1]
    assert admitted.count == len(kept)
    for text in kept:
        record_from_line(text, uid="u", resource={})
    starts = [5 + sum(len(one) + 1 for one in lines[:index]) for index in range(len(lines))]
    refused = [one.offset for one in admitted.refused]
    places = places_of(admitted, 5)
    assert len(set(places)) == len(places) and set(places) <= set(starts)
    closes = len(starts) - len(places) - len(refused)
    assert closes in (0, 1) or admitted.close is not None
    assert set(refused) == set(refused) - set(places)
    assert {one.reason for one in admitted.refused} | set(admitted.mended) <= set(REASONS)


@settings(max_examples=600)
@given(any_lines(), st.booleans())
@example([line(LOG) + line(LOG), b" ", line(LOG)], False)
@example([*line(LOG).replace(b',"level"', b',\n"level"').split(b"\n"), line(LOG) + line(LOG)], False)
def test_the_fast_way_vouches_only_for_what_the_closer_look_keeps(lines: list[bytes], named: bool) -> None:
    """Unchanged, to the byte, and without a note for the ledger."""
    data = b"".join(one + b"\n" for one in lines)
    odd = odd_lines(data, named)
    for index, text in enumerate(lines):
        if index not in odd:
            mended: Counter[str] = Counter()
            assert _Closer(LIMITS, named, mended).look(text) == (text, None)
            assert not mended.total()
    alone = {index for index, text in enumerate(lines) if odd_lines(text + b"\n", named)}
    assert alone <= odd, "a neighbour never makes a line better"
