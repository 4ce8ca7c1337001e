"""Headers and first line of native requests: right, or refused with the place of the trouble."""

from __future__ import annotations

import json

import pytest

from collector.errors import Refused
from collector.receive.native import Import, SpoolPlace, parent_spool, read_place, split_header
from tracing.spool.format import SegmentHeader

SPOOL = "0123456789abcdef" * 2
GOOD = {"backtrail-format": "1", "backtrail-spool": SPOOL, "backtrail-offset": "4711"}


def test_the_place_of_a_spool() -> None:
    """What our shipper sends."""
    assert read_place(GOOD) == SpoolPlace(SPOOL, 4711)
    assert read_place({**GOOD, "backtrail-offset": " 0 ", "other": "x"}) == SpoolPlace(SPOOL, 0)


def test_an_import_has_no_place() -> None:
    """What `backtrail import` sends."""
    assert read_place({"backtrail-import": "1"}) == Import()
    assert read_place({"backtrail-import": "1", "backtrail-format": "1"}) == Import()


@pytest.mark.parametrize(
    ("change", "reason", "field"),
    [
        ({"backtrail-format": "2"}, "unsupported_format", "Backtrail-Format"),
        ({"backtrail-format": None}, "bad_header", "Backtrail-Format"),
        ({"backtrail-spool": None}, "bad_header", "Backtrail-Spool"),
        ({"backtrail-spool": SPOOL.upper()}, "bad_header", "Backtrail-Spool"),
        ({"backtrail-spool": SPOOL[1:]}, "bad_header", "Backtrail-Spool"),
        ({"backtrail-offset": None}, "bad_header", "Backtrail-Offset"),
        ({"backtrail-offset": "-1"}, "bad_header", "Backtrail-Offset"),
        ({"backtrail-offset": "1e3"}, "bad_header", "Backtrail-Offset"),
        ({"backtrail-offset": "٣"}, "bad_header", "Backtrail-Offset"),
        ({"backtrail-offset": "9" * 19}, "bad_header", "Backtrail-Offset"),
        ({"backtrail-import": "yes"}, "bad_header", "Backtrail-Import"),
        ({"backtrail-import": "1"}, "bad_header", "Backtrail-Import"),
    ],
)
def test_a_wrong_header_is_named(change: dict[str, str | None], reason: str, field: str) -> None:
    """The request is wrong as a whole: nothing says where its lines belong."""
    headers = {key: value for key, value in {**GOOD, **change}.items() if value is not None}
    with pytest.raises(Refused, match=field) as refusal:
        read_place(headers)
    assert (refusal.value.reason, refusal.value.field) == (reason, field)


def test_the_header_line_is_the_one_that_the_spool_writes() -> None:
    """Library and collector agree on the format, forked processes included."""
    written = SegmentHeader(
        spool_id=SPOOL,
        segment=3,
        first_offset=99,
        resource={"service.name": "orders", "process.pid": 7},
        parent={"spool_id": SPOOL[::-1], "pid": 6},
    )
    header, lines = split_header(written.encode() + b"{}\n{}\n", SPOOL)
    assert header.resource == written.resource
    assert parent_spool(header) == SPOOL[::-1]
    assert lines == b"{}\n{}\n"


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{}",
        b"{}\n",
        b"not json\n",
        b"[" * 5000 + b"\n",
        b"\xff\n",
        json.dumps({"backtrail_spool": 2, "spool_id": SPOOL, "resource": {}}).encode() + b"\n",
        json.dumps({"backtrail_spool": 1, "spool_id": SPOOL[::-1], "resource": {}}).encode() + b"\n",
        json.dumps({"backtrail_spool": 1, "spool_id": SPOOL, "resource": []}).encode() + b"\n",
        b'{"backtrail_spool":1,"spool_id":"' + b"x" * 70_000 + b'"}\n',
    ],
)
def test_a_body_without_its_header_line_is_refused(line: bytes) -> None:
    """A record line would be taken for the header, or somebody else's lines for this spool's."""
    with pytest.raises(Refused) as refusal:
        split_header(line, SPOOL)
    assert refusal.value.reason == "bad_segment_header"


@pytest.mark.parametrize("parent", [None, {}, {"spool_id": 7}, {"spool_id": "../x"}])
def test_a_parent_that_is_none_is_none(parent: dict[str, object] | None) -> None:
    """It is a note for people, and never a reason to refuse."""
    line = json.dumps({"backtrail_spool": 1, "spool_id": SPOOL, "resource": {}, "parent": parent})
    assert parent_spool(split_header(line.encode() + b"\n", SPOOL)[0]) is None
