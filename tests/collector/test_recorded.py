"""The recorded fault format: each field finds its place, and odd ids keep their relations."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.model import Record, Source
from collector.receive.lines import record_from_line
from collector.receive.recorded import decode_recorded, fit_id, recorded_line, recorded_record
from tracing.errors import InvalidLine

LOG = {
    "kind": "log",
    "timestamp": 1_674_982_096_546_346_267,
    "service": "travel",
    "instance": "travel-5c66",
    "trace_id": "88ebfbcebbbc0884eabd9178e1808940",
    "span_id": "dd84024eb1cbced4",
    "parent_span_id": None,
    "name": "t.c.Travel2Controller",
    "line": 129,
    "start": None,
    "end": None,
    "status": None,
    "level": "WARN",
    "message": "[getTripAllDetailInfo][TripId: Z1234]",
}
SPAN = LOG | {
    "kind": "span",
    "name": "HTTP GET",
    "parent_span_id": "42d8f4f8fa3efb6a",
    "start": 1_674_982_096_546_346_267,
    "end": 1_674_982_096_546_346_300,
    "status": "ERROR",
    "span_kind": "CLIENT",
    "level": None,
    "message": None,
}


def read(fields: dict[str, object]) -> Record:
    return recorded_record(decode_recorded(orjson.dumps(fields)), uid="u")


def test_a_log_keeps_its_logger_and_line() -> None:
    """`name` and `line` of a log are the place in the code that wrote it."""
    record = read(LOG)
    assert (record.kind, record.level, record.severity_number) == ("log", "WARN", 13)
    assert (record.logger, record.source) == ("t.c.Travel2Controller", Source(line=129))
    assert (record.service, record.instance) == ("travel", "travel-5c66")
    assert record.name is None


def test_a_span_keeps_its_relation_and_its_times() -> None:
    """A span starts at `start`, lasts until `end`, and hangs below its parent."""
    record = read(SPAN)
    assert (record.kind, record.name, record.span_kind) == ("span", "HTTP GET", "CLIENT")
    assert (record.timestamp_ns, record.duration_ns) == (SPAN["start"], 33)
    assert record.parent_span_id == "42d8f4f8fa3efb6a"
    assert record.is_error


@pytest.mark.parametrize("fields", [LOG, SPAN])
def test_a_record_line_says_the_same(fields: dict[str, object]) -> None:
    """Writing it as a record line and reading that gives the same record."""
    record = read(fields)
    assert record_from_line(recorded_line(record), uid="u", resource={}) == record


def test_a_level_nobody_knows_is_kept_beside() -> None:
    """It is written as INFO, its own name in an attribute."""
    record = read(LOG | {"level": "audit"})
    assert (record.level, record.attributes) == ("INFO", {"log.level.name": "audit"})


@given(st.text(max_size=40), st.sampled_from([16, 32]))
def test_any_id_becomes_hex_of_the_right_length(text: str, digits: int) -> None:
    """Always the same one, so that a parent is still found by its children."""
    fitted = fit_id(text, digits)
    assert fitted == fit_id(text, digits)
    assert fitted is None or (len(fitted) == digits and fitted.strip("0") and int(fitted, 16))


@pytest.mark.parametrize(
    ("text", "fitted"),
    [
        ("88EBFBCEBBBC0884EABD9178E1808940", "88ebfbcebbbc0884eabd9178e1808940"),
        ("88ebfbce-bbbc-0884-eabd-9178e1808940", "88ebfbcebbbc0884eabd9178e1808940"),
        ("eabd9178e1808940", "0000000000000000eabd9178e1808940"),
        ("0" * 32, None),
        ("", None),
        (None, None),
    ],
)
def test_ids_that_only_look_different(text: str | None, fitted: str | None) -> None:
    """Capitals, dashes and 64-bit ids are other spellings; zeroes are no id."""
    assert fit_id(text, 32) == fitted


@pytest.mark.parametrize(
    ("line", "reason", "field"),
    [
        (b"\xff", "not_json", None),
        (b'{"service":"\xff","timestamp":1}', "not_utf8", None),
        (b"[1]", "not_object", None),
        (orjson.dumps(LOG | {"timestamp": -1}), "bad_timestamp", "timestamp"),
        (orjson.dumps(LOG | {"service": ""}), "missing_field", "service"),
        (orjson.dumps(SPAN | {"end": None}), "missing_field", "end"),
        (orjson.dumps(SPAN | {"span_id": "0000"}), "missing_field", "span_id"),
        (orjson.dumps(LOG | {"line": "12"}), "wrong_type", "line"),
    ],
)
def test_what_is_wrong_is_named(line: bytes, reason: str, field: str | None) -> None:
    """Each refusal has a reason of the closed list, and the field."""
    with pytest.raises(InvalidLine) as refused:
        recorded_record(decode_recorded(line), uid="u")
    assert (refused.value.reason, refused.value.field) == (reason, field)
