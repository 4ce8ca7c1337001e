"""A log record or a span <-> one line of bytes. Pure: no clock, no context, no I/O.

The record line is the contract between every part of this project (ARCHITECTURE.md, "Record line"):
one JSON object a line, UTF-8, ended by a newline, keys in the order of `KEYS`, times in RFC 3339 UTC
with nanoseconds, ids in lowercase hex and absent outside a trace.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final

import orjson

from tracing import semconv as sc
from tracing.errors import InvalidLine

FORMAT_VERSION: Final = 1

KEYS: Final = (
    sc.TIMESTAMP,
    sc.LEVEL,
    sc.SERVICE,
    sc.TRACE_ID,
    sc.SPAN_ID,
    sc.MESSAGE,
    sc.KIND,
    sc.LOGGER,
    sc.ATTRIBUTES,
    sc.EXCEPTION,
    sc.SOURCE,
    sc.TRACE_FLAGS,
    sc.NAME,
    sc.SPAN_KIND,
    sc.PARENT_SPAN_ID,
    sc.DURATION_NS,
    sc.STATUS,
    sc.EVENTS,
    sc.LINKS,
    sc.LOSS,
    sc.CLOSE,
    sc.RESOURCE,
)

# Why a line can be refused: a closed list, so that each reason can be a counter's label.
REASONS: Final = (
    "not_utf8",
    "not_json",
    "not_object",
    "missing_field",
    "wrong_type",
    "bad_timestamp",
    "bad_level",
    "bad_id",
    "bad_kind",
    "bad_duration",
    "line_too_long",
)

# Longest text we write for one value. A person reads the first kilobytes; tantivy does not index
# terms above 65 530 bytes; the rest of the budget belongs to the stack trace.
VALUE_CHARS_MAX: Final = 16_384
STACKTRACE_CHARS_MAX: Final = 32_768
LINE_BYTES_MAX: Final = 262_144
REPR_CHARS_MAX: Final = 1_024

# "Z" stands for UTC; years beyond four digits do not fit RFC 3339.
TIMESTAMP_NS_MIN: Final = 0
TIMESTAMP_NS_MAX: Final = 253_402_300_799_999_999_999

_TIMESTAMP: Final = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:[.,](\d{1,9})\d*)?(?:([Zz])|([+-])(\d\d):?(\d\d))"
)
_SECOND: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", re.ASCII)
_HEX32: Final = re.compile(r"[0-9a-f]{32}")
_HEX16: Final = re.compile(r"[0-9a-f]{16}")
ORJSON_OPTIONS: Final = orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_NUMPY


def format_timestamp(timestamp_ns: int) -> str:
    """Write epoch nanoseconds as `2026-11-24T05:32:11.000000001Z`.

    Args:
        timestamp_ns: Unix epoch, clamped to the years 1970..9999, which RFC 3339 can say.
    """
    clamped = min(max(timestamp_ns, TIMESTAMP_NS_MIN), TIMESTAMP_NS_MAX)
    seconds, nanoseconds = divmod(clamped, 1_000_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{nanoseconds:09d}Z"


def parse_timestamp(text: str) -> int:
    """Read an RFC 3339 time as epoch nanoseconds; offsets are honoured, digits after the ninth dropped.

    Raises:
        InvalidLine: `bad_timestamp`; the text is not RFC 3339 or before 1970.
    """
    if len(text) == 30 and text[29] == "Z" and text[19] == "." and (fraction := text[20:29]).isascii():
        # Our own form; records come in order, so the second is nearly always the one before.
        whole_ns = _whole_second_ns(text[:19])
        if whole_ns is not None and fraction.isdigit():
            return whole_ns + int(fraction)
    match = _TIMESTAMP.fullmatch(text)
    if match is None:
        raise InvalidLine("bad_timestamp", f"not an RFC 3339 time: {text[:64]!r}", field=sc.TIMESTAMP)
    year, month, day, hour, minute, second = (int(part) for part in match.groups()[:6])
    fraction, _, sign, offset_hours, offset_minutes = match.groups()[6:]
    try:
        # A leap second (60) is counted as the second after 59, as POSIX time does.
        moment = datetime(year, month, day, hour, minute, min(second, 59), tzinfo=UTC)
    except ValueError as error:
        raise InvalidLine("bad_timestamp", f"no such time: {text!r}: {error}", field=sc.TIMESTAMP) from None
    epoch_s = int(moment.timestamp()) + (1 if second == 60 else 0)
    if sign:
        offset_s = int(offset_hours) * 3600 + int(offset_minutes) * 60
        epoch_s += -offset_s if sign == "+" else offset_s
    timestamp_ns = epoch_s * 1_000_000_000 + int((fraction or "").ljust(9, "0"))
    if not TIMESTAMP_NS_MIN <= timestamp_ns <= TIMESTAMP_NS_MAX:
        raise InvalidLine("bad_timestamp", f"outside the years 1970..9999: {text!r}", field=sc.TIMESTAMP)
    return timestamp_ns


@lru_cache(maxsize=4096)
def _whole_second_ns(text: str) -> int | None:
    """Epoch nanoseconds of `2026-11-24T05:32:11`, UTC; None: the slow way shall say what is wrong."""
    try:
        # Not strptime: it imports its module on the first call, which a program may no longer be able to.
        moment = datetime.fromisoformat(text).replace(tzinfo=UTC) if _SECOND.fullmatch(text) else None
    except ValueError:
        return None
    return int(moment.timestamp()) * 1_000_000_000 if moment and moment.year >= 1970 else None


def cut(text: str, chars_max: int = VALUE_CHARS_MAX) -> str:
    """Shorten a long text and say so: `beginning…[cut: 1234 of 17618 characters]`."""
    if len(text) <= chars_max:
        return text
    return f"{text[:chars_max]}…[cut: {len(text) - chars_max} of {len(text)} characters]"


def plain(value: Any) -> Any:
    """Return what stands in a line for a value that JSON has no word for: its `repr`, cut.

    Never raises, whatever `__repr__` does.
    """
    try:
        return cut(_well_formed(repr(value)), REPR_CHARS_MAX)
    except Exception as error:
        return f"<unprintable {type(value).__name__}: {type(error).__name__}>"


def exception_fields(error: BaseException) -> dict[str, str]:
    """The `exception` of a line: type with its module, message, and Python's own text of the stack.

    The text has chained exceptions, groups and notes as an interpreter would print them. Never raises,
    whatever `__str__` does.
    """
    kind = type(error)
    module = kind.__module__
    try:
        message = str(error)
    except Exception as failure:
        message = f"<unprintable {kind.__name__}: {type(failure).__name__}>"
    try:
        stacktrace = "".join(traceback.format_exception(error))
    except Exception as failure:  # for instance a RecursionError while a long chain is walked
        stacktrace = f"<no stack trace: {type(failure).__name__}>"
    return {
        "type": kind.__qualname__ if module in ("builtins", None) else f"{module}.{kind.__qualname__}",
        "message": message,
        "stacktrace": stacktrace,
    }


def encode(fields: Mapping[str, Any]) -> bytes:
    """Write a record as its line, newline included.

    Args:
        fields: values by the keys of `KEYS`; `None` and unknown keys are left out. `timestamp` may be
            epoch nanoseconds or text. What JSON cannot say becomes its `repr`.
    Returns:
        One line, at most `LINE_BYTES_MAX` bytes: texts beyond `VALUE_CHARS_MAX` are cut with a mark, and a
        line that is still too long loses its attributes, events and links, as the mark `line.cut` says.
    """
    ordered: dict[str, Any] = {}
    for key in KEYS:
        value = fields.get(key)
        if value is None:
            continue
        if key == sc.TIMESTAMP and isinstance(value, int):
            value = format_timestamp(value)
        ordered[key] = value
    try:
        line = dumps(ordered)
    except Exception:
        line = dumps(_plain_tree(ordered, depth_max=12))
    if len(line) > VALUE_CHARS_MAX:  # else no value in it can be too long
        line = _shortened(line)
    return line + b"\n"


def dumps(value: Any) -> bytes:
    """Encode with orjson, values unknown to JSON by `plain`.

    Raises:
        orjson.JSONEncodeError: integers beyond 64 bits, lone surrogates, cycles (`encode` mends these).
    """
    return orjson.dumps(value, default=plain, option=ORJSON_OPTIONS)


def decode(line: bytes) -> dict[str, Any]:
    """Read one line, checked; the result's `timestamp` is epoch nanoseconds.

    Raises:
        InvalidLine: with the reason and the field.
    """
    if len(line) > LINE_BYTES_MAX:
        raise InvalidLine("line_too_long", f"{len(line)} bytes, at most {LINE_BYTES_MAX} are read")
    try:
        fields = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        reason = "not_json" if _is_utf8(line) else "not_utf8"
        raise InvalidLine(reason, f"{error}: {line[:80]!r}") from None
    if not isinstance(fields, dict):
        raise InvalidLine("not_object", f"a JSON object was expected, got {type(fields).__name__}")
    check(fields)
    return fields


def check(fields: dict[str, Any]) -> None:
    """Check a decoded line in place: the timestamp becomes nanoseconds, a level its normal name.

    Raises:
        InvalidLine: with the reason and the field.
    """
    for key in (sc.TIMESTAMP, sc.LEVEL, sc.SERVICE):
        if not isinstance(fields.get(key), str):
            reason = "wrong_type" if key in fields else "missing_field"
            raise InvalidLine(reason, f"{key}: text is required, got {fields.get(key)!r:.64}", field=key)
    fields[sc.TIMESTAMP] = parse_timestamp(fields[sc.TIMESTAMP])
    level = sc.normal_level(fields[sc.LEVEL])
    if level is None:
        raise InvalidLine("bad_level", f"no such level: {fields[sc.LEVEL]!r:.64}", field=sc.LEVEL)
    fields[sc.LEVEL] = level
    _check_ids(fields)
    kind = fields.get(sc.KIND)
    if kind not in (None, sc.KIND_SPAN, sc.KIND_SPAN_START, sc.KIND_LOSS, sc.KIND_CLOSE):
        raise InvalidLine("bad_kind", f"no such kind: {kind!r:.64}", field=sc.KIND)
    if kind == sc.KIND_SPAN:
        duration = fields.get(sc.DURATION_NS)
        if not isinstance(duration, int) or isinstance(duration, bool) or duration < 0:
            raise InvalidLine(
                "bad_duration", f"a count of nanoseconds, got {duration!r:.64}", field=sc.DURATION_NS
            )
    for key, kinds in _TYPES.items():
        value = fields.get(key)
        if value is not None and (not isinstance(value, kinds) or value is True or value is False):
            expected = " or ".join(kind.__name__ for kind in kinds)
            raise InvalidLine("wrong_type", f"{key}: {expected} expected, got {fields[key]!r:.64}", field=key)


def _check_ids(fields: dict[str, Any]) -> None:
    trace_id, span_id = fields.get(sc.TRACE_ID), fields.get(sc.SPAN_ID)
    for key, value, pattern in (
        (sc.TRACE_ID, trace_id, _HEX32),
        (sc.SPAN_ID, span_id, _HEX16),
        (sc.PARENT_SPAN_ID, fields.get(sc.PARENT_SPAN_ID), _HEX16),
    ):
        if value is None:
            continue
        if not isinstance(value, str) or not pattern.fullmatch(value) or not value.strip("0"):
            raise InvalidLine("bad_id", f"{key}: lowercase hex, not all zeroes, got {value!r:.64}", field=key)
    needs_ids = fields.get(sc.KIND) in (sc.KIND_SPAN, sc.KIND_SPAN_START)
    if needs_ids and (trace_id is None or span_id is None):
        raise InvalidLine("missing_field", "a span has a trace_id and a span_id", field=sc.SPAN_ID)
    if span_id is not None and trace_id is None:
        raise InvalidLine("missing_field", "a span_id without its trace_id", field=sc.TRACE_ID)


_TYPES: Final[dict[str, tuple[type, ...]]] = {
    sc.MESSAGE: (str,),
    sc.NAME: (str,),
    sc.LOGGER: (str,),
    sc.SPAN_KIND: (str,),
    sc.ATTRIBUTES: (dict,),
    sc.EXCEPTION: (dict,),
    sc.SOURCE: (dict,),
    sc.STATUS: (dict,),
    sc.EVENTS: (list,),
    sc.LINKS: (list,),
    sc.TRACE_FLAGS: (int,),
    sc.DURATION_NS: (int,),
    sc.RESOURCE: (dict,),
    sc.LOSS: (dict,),
    sc.CLOSE: (dict,),
}


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def _well_formed(text: str) -> str:
    """Replace lone surrogates, which UTF-8 cannot carry."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _plain_tree(value: Any, depth_max: int) -> Any:
    """Copy a value into what JSON can say: the slow way round, for values orjson refuses."""
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int):
        return value if -(2**63) <= value < 2**64 else str(value)
    if isinstance(value, str):
        return _well_formed(value)
    if depth_max <= 0:
        return plain(value)
    if isinstance(value, Mapping):
        return {_well_formed(str(key)): _plain_tree(item, depth_max - 1) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain_tree(item, depth_max - 1) for item in value]
    return plain(value)


def _shortened(line: bytes) -> bytes:
    """Cut every long text; drop what is a list or free-form when that is not enough."""
    fields = _cut_tree(orjson.loads(line), VALUE_CHARS_MAX, STACKTRACE_CHARS_MAX)
    short = dumps(fields)
    if len(short) < LINE_BYTES_MAX:
        return short
    for key in (sc.EVENTS, sc.LINKS, sc.RESOURCE):
        fields.pop(key, None)
    fields[sc.ATTRIBUTES] = {"line.cut": f"attributes, events and links dropped: {len(line)} bytes"}
    # A character takes at most six bytes and a line has few texts left, so this fits.
    return dumps(_cut_tree(fields, VALUE_CHARS_MAX // 4, STACKTRACE_CHARS_MAX // 4))


def _cut_tree(value: Any, chars_max: int, stacktrace_chars_max: int) -> Any:
    if isinstance(value, str):
        return cut(value, chars_max)
    if isinstance(value, dict):
        return {
            cut(key, 256): cut(item, stacktrace_chars_max)
            if key.endswith("stacktrace") and isinstance(item, str)
            else _cut_tree(item, chars_max, stacktrace_chars_max)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [_cut_tree(item, chars_max, stacktrace_chars_max) for item in value]
    return value
