"""A log record -> its line, and the line into the sink.

The usual record is joined from pieces (`tracing.fastline`): the second, level and service, ids of the span,
the place of the call, the bound fields are all known before the call; only the message is new. Whatever
is unusual goes through `tracing.line.encode`.

Nothing here locks, logs or raises. A log call inside our own encoding (in a `__repr__`, a signal handler,
a `__del__`) is written like any other, down to `DEPTH_MAX` levels; deeper ones are counted and dropped,
since they can only be a loop.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from itertools import islice
from typing import Any, Final, NamedTuple

import orjson
from opentelemetry import trace
from opentelemetry.context.context import Context
from opentelemetry.trace import format_span_id, format_trace_id

from tracing import fastline
from tracing import semconv as sc
from tracing.context import (
    SPAN_KEY,
    WANTED_TRACE_ID,
    Fields,
    current_context,
    get_fields,
    incoming_fields,
)
from tracing.health import Fuse, count
from tracing.line import STACKTRACE_CHARS_MAX, cut, encode, exception_fields, plain
from tracing.sink import slot
from tracing.spans import Span
from tracing.spans.foreign import announce

ATTRIBUTES_MAX: Final = 128  # OpenTelemetry's default for attributes of a log record
DEPTH_MAX: Final = 2
PLACES_MAX: Final = 8192  # call sites whose pieces are kept; a large program has some thousand

fuse: Final = Fuse("log capture")

# Attributes that every record has. `extra=` and record factories add to them; what logging's own formatters
# leave on a record is no attribute of the event, and neither are ids that another library put there.
_record: Final = logging.LogRecord("", logging.INFO, "", 0, "", (), None)
_OWN_COUNT: Final = len(_record.__dict__)
_OWN: Final = frozenset(_record.__dict__) | {
    "message",
    "asctime",
    "taskName",
    "otelTraceID",
    "otelSpanID",
    "otelServiceName",
    "otelTraceSampled",
}


# ---------------------------------------------------------------- pieces that are made once


class Level(NamedTuple):
    """What a Python level is in a line."""

    name: str  # OpenTelemetry's
    number: int
    own_name: str | None  # the program's, where OpenTelemetry has none like it


_levels: Final[dict[tuple[int, str], Level]] = {}
_BASES: Final = ((50, "FATAL"), (40, "ERROR"), (30, "WARN"), (20, "INFO"), (10, "DEBUG"))


def level_of(levelno: int, levelname: str) -> Level:
    """Translate a level: by its name where OpenTelemetry knows that, else the nearest one below."""
    key = (levelno, levelname)
    known = _levels.get(key)
    if known is not None:
        return known
    name = sc.normal_level(str(levelname))
    own = None
    if name is None or levelname == "NOTSET":
        name = next((base for number, base in _BASES if levelno >= number), "TRACE")
        own = str(levelname)
    elif levelname == "NOTICE":
        own = levelname
    level = Level(name, sc.SEVERITY_NUMBERS[name], own)
    if len(_levels) < PLACES_MAX:
        _levels[key] = level
    return level


_places: Final[dict[tuple[str, str, int, str | None], tuple[bytes, bytes]]] = {}


def _pieces(record: logging.LogRecord) -> tuple[bytes, bytes]:
    """The logger and the source of a record's call site.

    Raises:
        orjson.JSONEncodeError: a name that UTF-8 cannot carry.
    """
    key = (record.name, record.pathname, record.lineno, record.funcName)
    known = _places.get(key)
    if known is None:
        known = (
            fastline.logger(record.name) if record.name else b"",
            fastline.source(record.pathname, record.lineno, record.funcName),
        )
        if len(_places) >= PLACES_MAX:  # code that is generated anew all the time
            _places.clear()
        _places[key] = known
    return known


# ---------------------------------------------------------------- a record -> a line


class _Here:
    """What a line says of the span around a log call, for a span that is not of our making."""

    __slots__ = ("flags", "ids", "inherited")

    def __init__(self, span: object, context: Context) -> None:
        self.ids = b""
        self.flags: int | None = None
        self.inherited: Mapping[str, Any] | None = incoming_fields(context) or None
        wanted = context.get(WANTED_TRACE_ID)
        if isinstance(span, trace.Span) and (found := span.get_span_context()).is_valid:
            announce(span)
            self.ids = fastline.ids(format_trace_id(found.trace_id), format_span_id(found.span_id))
            if not found.trace_flags.sampled:
                self.flags = int(found.trace_flags)
        elif isinstance(wanted, int):
            self.ids = fastline.ids(format_trace_id(wanted), None)


def line_of(record: logging.LogRecord) -> tuple[bytes, int]:
    """Encode a record as it stands in the current context.

    Returns:
        Its line, newline included, and OpenTelemetry's severity number.
    """
    level = _levels.get((record.levelno, record.levelname)) or level_of(record.levelno, record.levelname)
    context = current_context()
    span = context.get(SPAN_KEY) if context else None
    ids, flags, inherited = b"", None, None
    if span.__class__ is Span:
        if not span.announced:
            span.announce()
        ids, inherited = span.ids, span.inherited
        if not span.sampled:
            flags = span.flags
    elif context:
        here = _Here(span, context)
        ids, flags, inherited = here.ids, here.flags, here.inherited

    fields: Mapping[str, Any] = get_fields()
    if inherited:
        fields = {**inherited, **fields}
    if not (record.exc_info or record.stack_info or level.own_name):
        try:
            line = _joined(record, level.name, ids, flags, fields)
            if line is not None:
                return line, level.number
        except (orjson.JSONEncodeError, UnicodeError, TypeError):
            pass  # something that only `encode` can mend
    return _encoded(record, level, ids, flags, fields), level.number


def _joined(
    record: logging.LogRecord, level: str, ids: bytes, flags: int | None, fields: Mapping[str, Any]
) -> bytes | None:
    """The usual line; `None`: it is not one."""
    message = record.msg if not record.args and record.msg.__class__ is str else record.getMessage()
    text = fastline.text(message)
    attributes: bytes | None
    if len(record.__dict__) != _OWN_COUNT and (extra := _extra(record)):
        attributes = fastline.attributes({**fields, **extra})
    elif isinstance(fields, Fields):
        attributes = fields.encoded  # redacted when they were bound
        if attributes is None:
            return None
        extra = {}
    else:
        attributes = fastline.attributes(fields)
    redactor = slot.redactor
    if redactor is not None and not (
        redactor.looks_innocent(message) and (not extra or redactor.looks_innocent(attributes.decode()))
    ):
        return None
    logger, source = _pieces(record)
    line = b"".join(
        (
            fastline.stamp(int(record.created * 1e9)),
            slot.head(level),
            ids,
            b',"message":',
            text,
            logger,
            attributes,
            source,
            b"}\n" if flags is None else b',"trace_flags":%d}\n' % flags,
        )
    )
    return line if len(line) <= fastline.LINE_BYTES_MAX else None


def fields_of(
    record: logging.LogRecord,
    level: Level,
    ids: Mapping[str, str],
    flags: int | None,
    bound: Mapping[str, Any],
) -> dict[str, Any]:
    """The line of any record, as `tracing.line.encode` takes it; nothing is redacted yet."""
    attributes = {**bound, **_extra(record)}
    if level.own_name is not None:
        attributes[sc.LEVEL_NAME] = level.own_name
    if record.stack_info:
        attributes["code.stacktrace"] = cut(str(record.stack_info), STACKTRACE_CHARS_MAX)
    return {
        sc.TIMESTAMP: int(record.created * 1e9),
        sc.LEVEL: level.name,
        sc.SERVICE: slot.service,
        **ids,
        sc.MESSAGE: _message(record, attributes),
        sc.LOGGER: record.name or None,
        sc.ATTRIBUTES: attributes or None,
        sc.EXCEPTION: _exception(record.exc_info),
        sc.SOURCE: {
            "file": record.pathname,
            "line": record.lineno,
            **({"function": record.funcName} if record.funcName else {}),
        },
        sc.TRACE_FLAGS: flags,
    }


def _encoded(
    record: logging.LogRecord, level: Level, ids: bytes, flags: int | None, bound: Mapping[str, Any]
) -> bytes:
    known_ids = orjson.loads(b"{%b}" % ids[1:])
    fields = fields_of(record, level, known_ids, flags, bound)
    line = encode(fields)
    redactor = slot.redactor
    if redactor is None or redactor.looks_innocent(line.decode()):
        return line
    for key in (sc.MESSAGE, sc.ATTRIBUTES, sc.EXCEPTION):
        fields[key] = redactor.tree(fields[key])
    return encode(fields)


def _extra(record: logging.LogRecord) -> dict[str, Any]:
    """What `extra=` and record factories added, at most `ATTRIBUTES_MAX`."""
    found = {key: value for key, value in record.__dict__.items() if key not in _OWN}
    if len(found) > ATTRIBUTES_MAX:
        count("attributes_over_limit", len(found) - ATTRIBUTES_MAX)
        found = dict(islice(found.items(), ATTRIBUTES_MAX))
    return found


def _message(record: logging.LogRecord, attributes: dict[str, Any]) -> str:
    try:
        return record.getMessage()
    except Exception as error:
        # `log.info("%d", "x")`: logging prints a traceback and loses the record; the reader wants both.
        count("message_not_formatted")
        attributes["log.format_error"] = f"{type(error).__name__}: {plain(error)}"
        attributes["log.args"] = plain(record.args)
        return record.msg if isinstance(record.msg, str) else str(plain(record.msg))


def _exception(exc_info: Any) -> dict[str, str] | None:
    """`exc_info` as logging leaves it on a record: a triple, of `None`s outside an `except`."""
    error = exc_info[1] if isinstance(exc_info, tuple) and len(exc_info) == 3 else exc_info
    return exception_fields(error) if isinstance(error, BaseException) else None


# ---------------------------------------------------------------- writing


class _Depth(threading.local):
    """How deep this thread is in log calls inside log calls."""

    value = 0


_depth: Final = _Depth()


def write(record: logging.LogRecord) -> None:
    """Write a record's line to the sink. Never raises."""
    if not slot.active or fuse.blown:
        return
    depth = _depth.value
    if depth >= DEPTH_MAX:
        count("reentrant_record")
        return
    _depth.value = depth + 1
    try:
        line, number = line_of(record)
        slot.sink.write(line, number)
    except Exception as error:
        fuse.failed(error)
    finally:
        _depth.value = depth
