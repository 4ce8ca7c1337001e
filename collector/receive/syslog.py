"""Syslog messages, RFC 5424 and the older BSD form -> fields of record lines. Pure.

Source: RFC 5424 (the format), RFC 6587 (how messages are told apart on a stream), RFC 3164 (the BSD form,
which is a description of habits: what does not fit it is a message all the same).
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, Final

from collector.errors import Refused
from collector.receive.foreign import Foreign
from collector.receive.loose import fields_of_text
from collector.receive.otlp import UNKNOWN_SERVICE
from tracing import semconv as sc
from tracing.errors import InvalidLine
from tracing.line import parse_timestamp

FACILITY: Final = "syslog.facility"
PROC_ID: Final = "syslog.procid"
MSG_ID: Final = "syslog.msgid"

# Severities 0..7 by OpenTelemetry's mapping ("Mapping from `syslog`").
_LEVELS: Final = ("FATAL", "ERROR3", "ERROR2", "ERROR", "WARN", "INFO2", "INFO", "DEBUG")
_FACILITIES: Final = (
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp",
    "ntp", "audit", "alert", "clock", *(f"local{number}" for number in range(8)),
)  # fmt: skip

_HEAD: Final = re.compile(r"<(\d{1,3})>(?:1 (\S+) (\S+) (\S+) (\S+) (\S+) ?)?")
_BSD: Final = re.compile(
    r"(?:(\w{3}) {1,2}(\d{1,2}) (\d\d:\d\d:\d\d)|(\d{4}-\d\d-\d\dT\S+)) (\S+) "
    r"(?:([^\s:\[]{1,48})(?:\[([^\]]{1,128})\])?: ?)?"
)
_ELEMENT: Final = re.compile(r'\[([^ =\]"]{1,64})((?: [^ =\]"]{1,64}="(?:[^"\\\]]|\\.)*")*) ?\]', re.DOTALL)
_PARAMETER: Final = re.compile(r' ([^ =\]"]{1,64})="((?:[^"\\\]]|\\.)*)"', re.DOTALL)
_ESCAPED: Final = re.compile(r'\\(["\\\]])')
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_FRAME_HEAD: Final = re.compile(rb"[1-9][0-9]{0,8} ")


def decode_message(data: bytes, *, received_ns: int, zone: tzinfo = UTC) -> Foreign:
    """Read one message.

    Args:
        data: without the frame around it.
        received_ns: its arrival, for the year that the BSD form leaves out.
        zone: of times that do not name one.
    Returns:
        A record for every message, as RFC 5424 demands of a collector; what cannot be read is text.
    """
    text = data.decode("utf-8", "replace").removesuffix("\n").removesuffix("\0").removesuffix("\r")
    head = _HEAD.match(text)
    priority = int(head[1]) if head else 13  # "user.notice", as RFC 3164 has it for messages without one
    facility, severity = divmod(priority if priority < 192 else 13, 8)
    attributes: dict[str, Any] = {FACILITY: _FACILITIES[facility]}
    if head is not None and head[2] is not None:
        time_ns, host, app, rest = _read_5424(head, text, attributes)
    else:
        time_ns, host, app, rest = _read_bsd(text[head.end() if head else 0 :], received_ns, zone, attributes)
    said = fields_of_text(rest, zone=zone)
    service = said.get(sc.SERVICE) or app or UNKNOWN_SERVICE
    level = said[sc.LEVEL] if rest.startswith("{") else _LEVELS[severity]
    fields = {
        **said,
        sc.TIMESTAMP: time_ns if time_ns is not None else said.get(sc.TIMESTAMP, received_ns),
        sc.LEVEL: level,
        sc.SERVICE: service,
        sc.ATTRIBUTES: {**(said.get(sc.ATTRIBUTES) or {}), **attributes},
    }
    fields.setdefault(sc.MESSAGE, rest)
    for key, names in ((sc.TRACE_ID, _TRACE_NAMES), (sc.SPAN_ID, _SPAN_NAMES)):
        found = next((attributes[name] for name in names if name in attributes), None)
        if found is not None and key not in said:
            fields[key] = found.lower()
    resource = {sc.SERVICE_NAME: service} | ({sc.HOST_NAME: host} if host else {})
    return Foreign(fields, resource)


# Ids in structured data: the names of the element are in front of those of its parameters.
_TRACE_NAMES: Final = ("trace.id", "trace.trace_id", "opentelemetry.trace_id", "meta.trace_id")
_SPAN_NAMES: Final = ("span.id", "trace.span_id", "opentelemetry.span_id", "meta.span_id")

_Read = tuple[int | None, str | None, str | None, str]  # time, host, program, message


def _read_5424(head: re.Match[str], text: str, attributes: dict[str, Any]) -> _Read:
    time, host, app, proc_id, msg_id = (None if part == "-" else part for part in head.groups()[1:])
    if proc_id:
        attributes[PROC_ID] = proc_id
    if msg_id:
        attributes[MSG_ID] = msg_id
    at = head.end()
    if text.startswith("-", at):
        at += 1
    else:
        while (element := _ELEMENT.match(text, at)) is not None:
            for name, value in _PARAMETER.findall(element[2]):
                attributes[f"{element[1]}.{name}"] = _ESCAPED.sub(r"\1", value)
            at = element.end()
    rest = text[at:].removeprefix(" ").removeprefix("\ufeff")
    try:
        time_ns = None if time is None else parse_timestamp(time)
    except InvalidLine:
        time_ns = None
    return time_ns, host, app, rest


def _read_bsd(text: str, received_ns: int, zone: tzinfo, attributes: dict[str, Any]) -> _Read:
    found = _BSD.match(text)
    if found is None:
        return None, None, None, text
    month, day, clock, iso, host, app, proc_id = found.groups()
    if proc_id:
        attributes[PROC_ID] = proc_id
    try:
        time_ns = parse_timestamp(iso) if iso else _without_year_ns(month, day, clock, received_ns, zone)
    except (InvalidLine, ValueError):
        return None, None, None, text
    return time_ns, host, app, text[found.end() :]


def _without_year_ns(month: str, day: str, clock: str, received_ns: int, zone: tzinfo) -> int:
    """The time in the year that puts it nearest to its arrival: messages cross New Year's Eve, too."""
    arrival = datetime.fromtimestamp(received_ns // 10**9, zone)
    number = _MONTHS.index(month) + 1
    candidates = []
    for year in (arrival.year - 1, arrival.year, arrival.year + 1):
        try:
            moment = datetime.fromisoformat(f"{year:04d}-{number:02d}-{int(day):02d}T{clock}")
        except ValueError:
            continue  # the 29th of February
        candidates.append(moment.replace(tzinfo=zone))
    nearest = min(candidates, key=lambda moment: abs(moment - arrival), default=None)
    if nearest is None or abs(nearest - arrival) > timedelta(days=366):
        raise ValueError("no such day")
    return int(nearest.timestamp()) * 10**9


class Deframer:
    """Cuts a stream into messages: by counted octets or by line ends, as each message begins.

    Args:
        message_bytes_max: longest message.
    """

    def __init__(self, message_bytes_max: int) -> None:
        self._message_bytes_max = message_bytes_max
        self._pending = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """The messages that are whole now.

        Raises:
            Refused: `body_too_large`; where the next message begins cannot be known any more.
        """
        self._pending += data
        messages = []
        while (message := self._next()) is not None:
            if message.strip(b"\r\n\0 "):
                messages.append(message)
        if len(self._pending) > self._message_bytes_max + 16:
            raise Refused("body_too_large", f"a message is longer than {self._message_bytes_max} bytes")
        return messages

    def end(self) -> list[bytes]:
        """The last message of a stream that has ended; senders often leave its line end away."""
        rest = bytes(self._pending)
        self._pending.clear()
        return [rest] if rest.strip(b"\r\n\0 ") and _FRAME_HEAD.match(rest) is None else []

    def _next(self) -> bytes | None:
        pending = self._pending
        head = _FRAME_HEAD.match(pending)
        if head is not None:
            end = head.end() + int(head[0])
            start = head.end()
            if int(head[0]) > self._message_bytes_max:
                raise Refused("body_too_large", f"a message is longer than {self._message_bytes_max} bytes")
        else:
            start, end = 0, pending.find(b"\n") + 1
            if end == 0 and pending[:1].isdigit() and len(pending) < 10 and b" " not in pending:
                return None  # perhaps the beginning of a count
        if not 0 < end <= len(pending):
            return None
        message = bytes(pending[start:end])
        del pending[:end]
        return message
