"""Syslog messages: RFC 5424's own examples, the BSD form, and how a stream is cut."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.errors import Refused
from collector.receive.syslog import Deframer, decode_message

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
NOW_NS = int(datetime(2026, 1, 1, 0, 0, 30, tzinfo=UTC).timestamp()) * 10**9


def ns(text: str) -> int:
    moment = datetime.fromisoformat(text)
    return int(moment.timestamp()) * 10**9 + moment.microsecond * 1000


def fields(message: str | bytes, **more: Any) -> dict[str, Any]:
    data = message.encode() if isinstance(message, str) else message
    return decode_message(data, received_ns=NOW_NS, **more).fields


def test_the_examples_of_rfc_5424() -> None:
    """Section 6.5, all four."""
    one = decode_message(
        b"<34>1 2003-10-11T22:14:15.003Z mymachine.example.com su - ID47 - \xef\xbb\xbf'su root' failed for"
        b" lonvick on /dev/pts/8",
        received_ns=NOW_NS,
    )
    assert one.fields == {
        "timestamp": ns("2003-10-11T22:14:15.003+00:00"),
        "level": "ERROR2",
        "service": "su",
        "message": "'su root' failed for lonvick on /dev/pts/8",
        "attributes": {"syslog.facility": "auth", "syslog.msgid": "ID47"},
    }
    assert one.resource == {"service.name": "su", "host.name": "mymachine.example.com"}
    two = fields(
        "<165>1 2003-08-24T05:14:15.000003-07:00 192.0.2.1 myproc 8710 - - %% It's time to make the do-nuts."
    )
    assert (two["timestamp"], two["level"]) == (ns("2003-08-24T12:14:15.000003+00:00"), "INFO2")
    assert two["attributes"] == {"syslog.facility": "local4", "syslog.procid": "8710"}
    data = (
        '[exampleSDID@32473 iut="3" eventSource="Application" eventID="1011"]'
        '[examplePriority@32473 class="high"]'
    )
    three = fields(f"<165>1 2003-10-11T22:14:15.003Z mymachine.example.com evntslog - ID47 {data} An entry")
    four = fields(f"<165>1 2003-10-11T22:14:15.003Z mymachine.example.com evntslog - ID47 {data}")
    assert (three["message"], four["message"]) == ("An entry", "")
    for one_of_them in (three, four):
        attributes = one_of_them["attributes"]
        assert attributes["exampleSDID@32473.eventSource"] == "Application"
        assert attributes["examplePriority@32473.class"] == "high"


def test_structured_data_with_escapes_and_ids() -> None:
    """A quote, a backslash, a bracket; trace ids under the usual names."""
    message = rf'<14>1 - - app - - [a@1 q="x \"y\" \\ \]"][trace id="{TRACE}"][span id="{SPAN}"] hi'
    found = fields(message)
    assert found["attributes"]["a@1.q"] == r'x "y" \ ]'
    assert (found["trace_id"], found["span_id"], found["message"]) == (TRACE, SPAN, "hi")
    assert found["timestamp"] == NOW_NS


def test_ids_and_json_in_the_message() -> None:
    """The message is read as any other line; the level of a JSON message is its own."""
    assert fields(f"<11>1 - - app - - - failed trace_id={TRACE}")["trace_id"] == TRACE
    found = fields('<14>1 - h app - - - {"level":"error","msg":"no","service":"orders","n":1}')
    assert (found["level"], found["message"], found["service"]) == ("ERROR", "no", "orders")
    assert found["attributes"] == {"n": 1, "syslog.facility": "user"}


@pytest.mark.parametrize(
    ("message", "time", "host", "service", "text"),
    [
        (
            "<34>Oct 11 22:14:15 mymachine su: failed",
            "2025-10-11T22:14:15+00:00",
            "mymachine",
            "su",
            "failed",
        ),
        ("<13>Feb  5 17:32:18 10.0.0.99 app[71]: hi", "2026-02-05T17:32:18+00:00", "10.0.0.99", "app", "hi"),
        ("<13>Dec 31 23:59:59 h app: late", "2025-12-31T23:59:59+00:00", "h", "app", "late"),
        ("<13>Jan  1 00:00:31 h app: soon", "2026-01-01T00:00:31+00:00", "h", "app", "soon"),
        ("<13>2026-01-02T03:04:05.5Z h app: iso", "2026-01-02T03:04:05.5+00:00", "h", "app", "iso"),
        ("<13>Feb 30 00:00:00 h app: never", None, None, None, "Feb 30 00:00:00 h app: never"),
        ("<13>just words", None, None, None, "just words"),
        ("no priority", None, None, None, "no priority"),
        ("<999>odd", None, None, None, "odd"),
        ("", None, None, None, ""),
    ],
)
def test_the_bsd_form(
    message: str, time: str | None, host: str | None, service: str | None, text: str
) -> None:
    """The year is the one that puts it nearest to its arrival; what does not fit is text."""
    one = decode_message(message.encode(), received_ns=NOW_NS)
    assert one.fields["timestamp"] == (ns(time) if time else NOW_NS)
    assert (one.resource.get("host.name"), one.fields["message"]) == (host, text)
    assert one.fields["service"] == (service or "unknown_service")


def test_times_without_a_zone_are_of_the_given_one() -> None:
    """Routers know no zones."""
    zone = timezone(timedelta(hours=2))
    assert fields("<13>Jan  1 02:00:00 h app: x", zone=zone)["timestamp"] == ns("2026-01-01T00:00:00+00:00")


@pytest.mark.parametrize(
    ("severity", "level"), list(enumerate(["FATAL", "ERROR3", "ERROR2", "ERROR", "WARN", "INFO2"]))
)
def test_severities(severity: int, level: str) -> None:
    """By OpenTelemetry's mapping."""
    assert fields(f"<{8 + severity}>1 - - a - - - m")["level"] == level


@given(st.binary(max_size=200) | st.text(max_size=100).map(lambda text: f"<34>1 {text}".encode()))
def test_every_message_is_a_record(data: bytes) -> None:
    """RFC 5424, section 6: a collector discards nothing that it cannot read."""
    one = decode_message(data, received_ns=NOW_NS)
    assert isinstance(one.fields["message"], str) and one.fields["service"]


# ---------------------------------------------------------------- streams

messages = st.lists(
    st.binary(min_size=1, max_size=60).map(lambda raw: b"<13>" + raw.hex().encode()), max_size=8
)


@given(messages, st.lists(st.booleans(), min_size=8, max_size=8), st.data())
def test_a_stream_is_cut_into_its_messages(
    sent: list[bytes], counted: list[bool], data: st.DataObject
) -> None:
    """Counted octets and line ends, mixed as they come, in pieces of any size."""
    stream = b"".join(
        b"%d %b" % (len(one), one) if by_count else one + b"\n"
        for one, by_count in zip(sent, counted, strict=False)
    )
    deframer, found, at = Deframer(1000), [], 0
    while at < len(stream):
        size = data.draw(st.integers(1, 50))
        found += deframer.feed(stream[at : at + size])
        at += size
    assert [one.rstrip(b"\n") for one in found + deframer.end()] == sent


def test_a_counted_message_may_hold_line_ends() -> None:
    """That is what counting is for."""
    message = b"<13>1 - - app - - - Traceback:\n  line\n"
    assert Deframer(1000).feed(b"%d %b" % (len(message), message)) == [message]


def test_the_last_line_end_may_be_missing() -> None:
    """Half of a counted message is not a message."""
    deframer = Deframer(1000)
    assert deframer.feed(b"<13>a\n<13>b") == [b"<13>a\n"]
    assert deframer.end() == [b"<13>b"]
    assert deframer.feed(b"100 <13>half") == [] and deframer.end() == []


@pytest.mark.parametrize("data", [b"x" * 200, b"101 <13>", b"9999999 <13>"])
def test_a_message_without_an_end_is_refused(data: bytes) -> None:
    """Memory is bounded, and nobody can tell where the next one begins."""
    with pytest.raises(Refused):
        Deframer(100).feed(data)
