"""Records of other protocols: within the limits, without secrets, or refused."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.admit import MENDS, REASONS, REFUSALS, AdmitLimits, line_of
from collector.model import Record
from collector.receive.lines import record_from_line
from tracing import line as lines
from tracing.errors import InvalidLine
from tracing.redact import Redactor

LIMITS = AdmitLimits()
LOG: dict[str, Any] = {
    "timestamp": 1_700_000_000_000_000_000,
    "level": "INFO",
    "service": "s",
    "message": "m",
}
SPAN: dict[str, Any] = {
    **LOG,
    "kind": "span",
    "trace_id": "0af7651916cd43dd8448eb211c80319c",
    "span_id": "b7ad6b7169203331",
    "name": "n",
    "duration_ns": 5,
}


def admitted(fields: dict[str, Any], redactor: Redactor | None = None) -> tuple[Record, dict[str, int]]:
    mended: Counter[str] = Counter()
    line = line_of(fields, LIMITS, mended, redactor)
    return record_from_line(line, uid="u", resource={}), dict(+mended)


@pytest.mark.parametrize(
    ("change", "expected", "mends"),
    [
        ({"duration_ns": -5}, {"duration_ns": 0}, {"negative_duration": 1}),
        ({"parent_span_id": "zz"}, {"parent_span_id": None}, {"bad_id_dropped": 1}),
        ({"parent_span_id": "0" * 16}, {"parent_span_id": None}, {"bad_id_dropped": 1}),
        ({"name": "n" * 20_000}, {"name": lines.cut("n" * 20_000)}, {"text_cut": 1}),
        ({"events": [{"timestamp": 7, "name": "e"}] * 1500}, None, {"events_dropped": 476}),
        (
            {"links": [{"trace_id": SPAN["trace_id"], "span_id": SPAN["span_id"]}] * 1030},
            None,
            {"links_dropped": 6},
        ),
        (
            {"events": [{"timestamp": 7, "name": "e", "attributes": {"n": 2**64}}]},
            None,
            {"integer_as_text": 1},
        ),
    ],
)
def test_a_span_is_mended(
    change: dict[str, Any], expected: dict[str, Any] | None, mends: dict[str, int]
) -> None:
    """Each change has a count."""
    record, mended = admitted({**SPAN, **change})
    assert mended == mends
    for key, value in (expected or {}).items():
        assert getattr(record, key) == value


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"timestamp": None}, "bad_timestamp"),
        ({"timestamp": -1}, "bad_timestamp"),
        ({"timestamp": 2**63}, "bad_timestamp"),
        ({"trace_id": None}, "missing_field"),
        ({"trace_id": "0" * 32}, "bad_id"),
        ({"span_id": "short"}, "bad_id"),
        ({"duration_ns": 2**63 - 1}, "bad_duration"),
        ({"duration_ns": "5"}, "bad_duration"),
    ],
)
def test_a_span_is_refused(change: dict[str, Any], reason: str) -> None:
    """What has no time or no identity cannot be put into a chain."""
    with pytest.raises(InvalidLine) as refusal:
        admitted({**SPAN, **change})
    assert refusal.value.reason == reason


def test_a_log_with_ids_that_are_none_is_a_log() -> None:
    """The words are worth keeping."""
    record, mended = admitted({**LOG, "trace_id": "00" * 16, "span_id": "b7ad6b7169203331"})
    assert (record.trace_id, record.span_id, record.message) == (None, None, "m")
    assert mended == {"bad_id_dropped": 2}


def test_secrets_of_foreign_senders_are_taken_out() -> None:
    """From the message, attributes, exceptions, events: wherever a person would read them."""
    fields = {
        **SPAN,
        "message": "login with password=hunter2",
        "attributes": {"api_key": "s3cr3t", "db": {"password": "hunter2"}, "user": "ann"},
        "exception": {"type": "E", "message": "Authorization: Bearer abcdef123456"},
        "status": {"code": "ERROR", "message": "token=abcdefgh"},
        "events": [{"timestamp": 7, "name": "e", "attributes": {"cookie": "a=1"}}],
    }
    record, mended = admitted(fields, Redactor())
    assert mended == {"redacted": 1}
    text = str(record)
    assert not re.search(r"hunter2|s3cr3t|abcdef|a=1", text), text
    assert record.attributes["user"] == "ann"


def test_nothing_is_taken_out_of_the_innocent() -> None:
    """Redaction costs a search, not a copy."""
    record, mended = admitted({**SPAN, "attributes": {"order": 7}}, Redactor())
    assert (record.attributes, mended) == ({"order": 7}, {})


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner, max_size=5),
    max_leaves=30,
)


@given(st.sampled_from([LOG, SPAN]), st.dictionaries(st.text(), anything, max_size=5), anything)
def test_any_attributes_can_be_kept(base: dict[str, Any], attributes: dict[str, Any], status: Any) -> None:
    """Whatever a decoder found: a record with JSON values, or a refusal with a known reason."""
    try:
        record, mended = admitted({**base, "attributes": attributes, "status": status})
    except InvalidLine as refusal:
        assert refusal.reason in REFUSALS
    else:
        assert set(mended) <= set(MENDS)
        assert len(record.attributes) <= LIMITS.attributes_max


def test_deeper_than_the_interpreter_can_print() -> None:
    """Nesting beyond every recursion limit becomes a text."""
    deep: Any = "bottom"
    for _ in range(100_000):
        deep = [deep]
    record, mended = admitted({**LOG, "attributes": {"deep": deep}})
    assert mended["nesting_cut"] == 1
    assert isinstance(record.attributes["deep"], list)


def test_reasons_are_a_closed_list_without_repetition() -> None:
    """Each is a counter's label."""
    assert len(set(REASONS)) == len(REASONS) == len(REFUSALS) + len(MENDS)


def test_limits_below_what_passes_unseen_are_refused() -> None:
    """The fast way lets small objects pass without counting; a smaller limit would be a lie."""
    with pytest.raises(ValueError, match="attributes_max"):
        AdmitLimits(attributes_max=10)
