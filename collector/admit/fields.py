"""The fields of one record -> the line it is kept as. Pure.

For what did not come as one of our own lines: records of other protocols, and lines that the fast way
(`lines.py`) wants a closer look at.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

from collector.admit.limits import TIMESTAMP_NS_MAX, AdmitLimits
from collector.admit.values import mended_attributes, mended_text
from collector.receive.lines import record_from_line
from tracing import semconv as sc
from tracing.errors import InvalidLine
from tracing.line import KEYS, LINE_BYTES_MAX, dumps, encode, format_timestamp, parse_timestamp
from tracing.redact import Redactor

_HEX32: Final = re.compile(r"[0-9a-f]{32}")
_HEX16: Final = re.compile(r"[0-9a-f]{16}")
_NOTHING: Final[dict[str, Any]] = {}


def line_of(
    fields: Mapping[str, Any], limits: AdmitLimits, mended: Counter[str], redactor: Redactor | None = None
) -> bytes:
    """Bring a record within the limits and write it as a line.

    Args:
        fields: values by the keys of a record line; `timestamp` in epoch nanoseconds, that of an event
            either so or as text.
        limits: bounds of one record.
        mended: what was changed is counted here, by reason.
        redactor: takes secrets out; None for senders that did so themselves.
    Returns:
        The line with its newline; `record_from_line` reads it.
    Raises:
        InvalidLine: the record is refused, with the reason and the field.
    """
    clean = mended_fields(fields, limits, mended)
    line = written(clean, mended)
    if redactor is not None and not redactor.looks_innocent(line.decode()):
        redacted = written(redacted_fields(clean, redactor), Counter())
        if redacted != line:
            mended["redacted"] += 1
            line = redacted
    record_from_line(line, uid="", resource=_NOTHING)  # what passes here can always be indexed
    return line


def written(clean: Mapping[str, Any], mended: Counter[str]) -> bytes:
    """The line of fields that are within the limits, newline included.

    Many values, each within its limit, may still be too much for one line: then it is shortened.
    """
    ordered = {key: clean[key] for key in KEYS if clean.get(key) is not None}
    ordered[sc.TIMESTAMP] = format_timestamp(clean[sc.TIMESTAMP])
    try:
        line: bytes = dumps(ordered) + b"\n"
    except Exception:  # values without limits of their own, such as a status, hold what JSON has no word for
        return encode(clean)
    if len(line) <= LINE_BYTES_MAX:
        return line
    mended["line_shortened"] += 1
    return encode(clean)


def mended_fields(fields: Mapping[str, Any], limits: AdmitLimits, mended: Counter[str]) -> dict[str, Any]:
    """A copy of the fields within the limits.

    Raises:
        InvalidLine: a time that cannot be kept, or a span without ids.
    """
    clean = dict(fields)
    timestamp_ns = clean.get(sc.TIMESTAMP)
    if not isinstance(timestamp_ns, int) or not 0 <= timestamp_ns <= TIMESTAMP_NS_MAX:
        raise InvalidLine(
            "bad_timestamp", f"a time in the years 1970..2262, got {timestamp_ns!r:.64}", field=sc.TIMESTAMP
        )
    _mend_ids(clean, mended)
    _mend_duration(clean, timestamp_ns, mended)
    for key in (sc.MESSAGE, sc.NAME, sc.LOGGER, sc.SERVICE):
        if isinstance(clean.get(key), str):
            clean[key] = mended_text(clean[key], limits.text_chars_max, mended)
    if isinstance(clean.get(sc.ATTRIBUTES), Mapping):
        clean[sc.ATTRIBUTES] = mended_attributes(clean[sc.ATTRIBUTES], limits, mended)
    if isinstance(clean.get(sc.RESOURCE), Mapping):
        clean[sc.RESOURCE] = mended_attributes(clean[sc.RESOURCE], limits, mended)
    for key in (sc.EXCEPTION, sc.SOURCE, sc.STATUS):
        if isinstance(clean.get(key), Mapping):
            clean[key] = {
                part: mended_text(value, limits.stacktrace_chars_max, mended)
                if isinstance(value, str)
                else value
                for part, value in clean[key].items()
            }
    if isinstance(clean.get(sc.EVENTS), list):
        clean[sc.EVENTS] = _mended_parts(
            clean[sc.EVENTS], limits.events_max, "events_dropped", limits, mended
        )
    if isinstance(clean.get(sc.LINKS), list):
        clean[sc.LINKS] = _mended_parts(clean[sc.LINKS], limits.links_max, "links_dropped", limits, mended)
    return clean


def redacted_fields(fields: Mapping[str, Any], redactor: Redactor) -> dict[str, Any]:
    """A copy of the fields without secrets."""
    clean = dict(fields)
    for key in (sc.MESSAGE, sc.NAME):
        if isinstance(clean.get(key), str):
            clean[key] = redactor.text(clean[key])
    for key in (sc.ATTRIBUTES, sc.EXCEPTION, sc.STATUS):
        if isinstance(clean.get(key), Mapping):
            clean[key] = redactor.mapping(clean[key])
    for key in (sc.EVENTS, sc.LINKS):
        if isinstance(clean.get(key), list):
            clean[key] = [redactor.tree(part) for part in clean[key]]
    return clean


def _mend_ids(fields: dict[str, Any], mended: Counter[str]) -> None:
    """Drop ids that are none. A log without them is a log; a span without them is refused later."""
    is_span = fields.get(sc.KIND) in (sc.KIND_SPAN, sc.KIND_SPAN_START)
    for key, pattern in ((sc.TRACE_ID, _HEX32), (sc.SPAN_ID, _HEX16), (sc.PARENT_SPAN_ID, _HEX16)):
        value = fields.get(key)
        if value is None or (isinstance(value, str) and pattern.fullmatch(value) and value.strip("0")):
            continue
        if is_span and key != sc.PARENT_SPAN_ID:
            raise InvalidLine("bad_id", f"{key}: hex, not all zeroes, got {value!r:.64}", field=key)
        del fields[key]
        mended["bad_id_dropped"] += 1
    if fields.get(sc.TRACE_ID) is None and fields.pop(sc.SPAN_ID, None) is not None:
        mended["bad_id_dropped"] += 1


def _mend_duration(fields: dict[str, Any], timestamp_ns: int, mended: Counter[str]) -> None:
    duration_ns = fields.get(sc.DURATION_NS)
    if not isinstance(duration_ns, int) or isinstance(duration_ns, bool):
        return  # `record_from_line` says what is wrong
    if duration_ns < 0:
        mended["negative_duration"] += 1
        fields[sc.DURATION_NS] = 0
    elif timestamp_ns + duration_ns > TIMESTAMP_NS_MAX:
        raise InvalidLine(
            "bad_duration", f"{duration_ns} ns: the span would end after 2262", field=sc.DURATION_NS
        )


def _mended_parts(
    parts: list[Any], parts_max: int, dropped: str, limits: AdmitLimits, mended: Counter[str]
) -> list[Any]:
    """Events or links: the first `parts_max`, their attributes within the limits, times as text."""
    mended[dropped] += max(0, len(parts) - parts_max)
    kept = []
    for part in parts[:parts_max]:
        if not isinstance(part, Mapping):
            kept.append(part)  # `record_from_line` refuses it by its place
            continue
        clean = dict(part)
        if isinstance(clean.get("name"), str):
            clean["name"] = mended_text(clean["name"], limits.text_chars_max, mended)
        if isinstance(clean.get(sc.ATTRIBUTES), Mapping):
            clean[sc.ATTRIBUTES] = mended_attributes(clean[sc.ATTRIBUTES], limits, mended)
        moment = clean.get(sc.TIMESTAMP)
        if isinstance(moment, int) and not isinstance(moment, bool):
            clean[sc.TIMESTAMP] = format_timestamp(min(max(moment, 0), TIMESTAMP_NS_MAX))
        elif isinstance(moment, str) and parse_timestamp(moment) > TIMESTAMP_NS_MAX:
            raise InvalidLine("bad_timestamp", f"an event after 2262: {moment!r:.64}", field=sc.EVENTS)
        kept.append(clean)
    return kept
