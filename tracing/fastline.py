"""The lines of `tracing.line`, joined from pieces that were made before.

`tracing.line.encode` says what a line is; this module writes the same bytes for the usual record in a
quarter of the time, because most of a line is known before the call is made: the second, the level, the
service, the ids of the span, the place in the code. A piece that cannot be made here (text that
UTF-8 cannot carry, integers beyond 64 bits, keys that are not text) raises, and the caller goes to `encode`.
A test holds the two together.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final

import orjson

from tracing.line import TIMESTAMP_NS_MAX, VALUE_CHARS_MAX, format_timestamp, plain

# A line longer than this may hold a value that must be cut; only `encode` knows how.
LINE_BYTES_MAX: Final = VALUE_CHARS_MAX

NS_PER_S: Final = 1_000_000_000
dumps: Final = orjson.dumps

# (second, its text): one tuple, so that a thread never sees the second of one with the text of another.
known_second: tuple[int, bytes] = (-1, b"")


def second_text(second: int) -> bytes:
    """The beginning of a line up to the full second: `{"timestamp":"2026-11-24T05:32:11.`.

    Args:
        second: Unix epoch, in the years 1970..9999.
    """
    global known_second
    known, text = known_second
    if second != known:
        text = time.strftime('{"timestamp":"%Y-%m-%dT%H:%M:%S.', time.gmtime(second)).encode()
        known_second = (second, text)
    return text


def stamp(timestamp_ns: int) -> bytes:
    """The beginning of a line: `{"timestamp":"2026-11-24T05:32:11.000000001Z"`."""
    if not 0 <= timestamp_ns <= TIMESTAMP_NS_MAX:
        return b'{"timestamp":"%b"' % format_timestamp(timestamp_ns).encode()
    second, nanoseconds = divmod(timestamp_ns, NS_PER_S)
    return b'%b%09dZ"' % (second_text(second), nanoseconds)


def text(value: str) -> bytes:
    """A JSON text.

    Raises:
        orjson.JSONEncodeError: lone surrogates.
    """
    return dumps(value)


def head(level: str, service: str) -> bytes:
    """What follows the timestamp."""
    return b',"level":%b,"service":%b' % (dumps(level), dumps(service))


def ids(trace_id: str, span_id: str | None) -> bytes:
    """The ids of a span, or of a trace whose span is not known."""
    if span_id is None:
        return b',"trace_id":"%b"' % trace_id.encode()
    return b',"trace_id":"%b","span_id":"%b"' % (trace_id.encode(), span_id.encode())


def logger(name: str) -> bytes:
    """The logger, or the instrumentation scope."""
    return b',"logger":%b' % dumps(name)


def source(file: str, line: int, function: str | None) -> bytes:
    """The place of the log call."""
    place: dict[str, Any] = {"file": file, "line": line}
    if function:
        place["function"] = function
    return b',"source":%b' % dumps(place)


def attributes(values: Mapping[str, Any]) -> bytes:
    """Attributes; empty for none.

    Raises:
        orjson.JSONEncodeError: something that only `encode` can mend.
    """
    if not values:
        return b""
    return b',"attributes":%b' % dumps(values, default=plain, option=orjson.OPT_SERIALIZE_NUMPY)


def value(key: str, item: Any) -> bytes:
    """Any other key with its value.

    Raises:
        orjson.JSONEncodeError: something that only `encode` can mend.
    """
    return b',"%b":%b' % (key.encode(), dumps(item, default=plain, option=orjson.OPT_SERIALIZE_NUMPY))
