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
from tracing.context import CORRELATION_ID, NO_FIELDS, WANTED_TRACE_ID, declared, get_fields, incoming_fields
from tracing.fastline import LINE_BYTES_MAX, dumps, second_text
from tracing.health import Fuse, count
from tracing.line import STACKTRACE_CHARS_MAX, cut, encode, exception_fields, plain
from tracing.logs.extras import is_recorded
from tracing.scopes import SPAN_KEY, ScopedContext, current_context, get_context
from tracing.sink import slot
from tracing.spans import Span, failures
from tracing.spans.foreign import announce

ATTRIBUTES_MAX: Final = 128  # OpenTelemetry's default for attributes of a log record
DEPTH_MAX: Final = 4  # signal handlers may come on top of each other
PLACES_MAX: Final = 8192  # call sites whose pieces are kept; a large program has some thousand

# Where a secret may be: what the program said, not when and where it said it.
_REDACTED: Final = (sc.MESSAGE, sc.ATTRIBUTES, sc.EXCEPTION)

fuse: Final = Fuse("log capture")

# Attributes that every record has. `extra=` and record factories add to them; what logging's own formatters
# leave on a record is no attribute of the event, and neither are ids that another library put there.
_NUMBERS: Final = frozenset((int, float, bool, type(None)))
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
    "_logger",  # of structlog's, for its formatter
    "_name",
}


# ---------------------------------------------------------------- pieces that are made once


class Level(NamedTuple):
    """What a Python level is in a line."""

    name: str  # OpenTelemetry's
    number: int
    own_name: str | None  # the program's, where OpenTelemetry has none like it


_BASES: Final = ((50, "FATAL"), (40, "ERROR"), (30, "WARN"), (20, "INFO"), (10, "DEBUG"))


def level_of(levelno: int, levelname: str) -> Level:
    """Translate a level: by its name where OpenTelemetry knows that, else the nearest one below."""
    name = sc.normal_level(str(levelname))
    own = str(levelname) if levelname == "NOTICE" else None
    if name is None or levelname == "NOTSET":
        name = next((base for number, base in _BASES if levelno >= number), "TRACE")
        own = str(levelname)
    return Level(name, sc.SEVERITY_NUMBERS[name], own)


# Of a call site: the piece with the logger, the one with the source, and both with the end of the line.
_Place = tuple[bytes, bytes, bytes]
_places: Final[dict[tuple[str, str, int], _Place]] = {}


def _place(name: str, pathname: str, lineno: int, function: str | None) -> _Place:
    """Make the pieces of a call site, for this and all later calls.

    Raises:
        orjson.JSONEncodeError: a name that UTF-8 cannot carry.
    """
    logger = fastline.logger(name) if name else b""
    source = fastline.source(pathname, lineno, function)
    if len(_places) >= PLACES_MAX:  # code that is generated anew all the time
        _places.clear()
    made = _places[name, pathname, lineno] = (logger, source, logger + source + b"}\n")
    return made


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


def write_usual(record: logging.LogRecord) -> bool:
    """Write the line of the usual record; False: it is not one, `write` knows what to do. Never raises.

    Usual: no exception, no stack, no `extra=`, and a usual call (`write_call`).
    """
    try:
        return (
            not record.exc_info
            and not record.stack_info
            and len(record.__dict__) == _OWN_COUNT
            and write_call(
                record.name,
                record.levelname,
                record.msg,
                record.args,
                record.pathname,
                record.lineno,
                record.funcName,
                record.created,
            )
        )
    except Exception:
        return False  # a record that lacks something


def write_call(
    name: str,
    levelname: str,
    template: Any,
    args: Any,
    pathname: str,
    lineno: int,
    function: str | None,
    created: float,
) -> bool:
    """Write the line of a usual log call; False: it is none, and nothing is written. Never raises.

    Usual: a level with a name of OpenTelemetry's, a text with texts and numbers put into it, in a span of
    ours or in none. No code of the program runs in here, so nothing can recurse. Several calls are spelled
    out, since a call costs as much as what it would do.

    Args:
        name, levelname, template, args, pathname, lineno, function: as a `logging.LogRecord` has them.
        created: epoch seconds.
    """
    try:
        head, number = slot.log_heads[levelname]
        if template.__class__ is not str:
            return False
        redactor = slot.redactor
        known = redactor.known_innocent if redactor is not None else ()
        fresh = template not in known
        message: str = template
        if args:
            if args.__class__ is not tuple:
                return False
            for argument in args:
                if argument.__class__ is str:
                    fresh = fresh or argument not in known
                elif argument.__class__ not in _NUMBERS:
                    return False
            message = template % args
        if redactor is not None:
            if fresh and not redactor.learn_innocent(template, args or (), message):
                return False
            if redactor.has_own is not None and redactor.has_own(message):
                return False

        ids = b""
        context = get_context()
        if context:
            if context.__class__ is ScopedContext and context.left:
                return False
            span: Any = context.get(SPAN_KEY)
            if span is not None:
                if span.__class__ is not Span or not span.quick:
                    return False
                ids = span.ids
            elif WANTED_TRACE_ID in context or CORRELATION_ID in context or declared.baggage:
                return False

        logger, source, end = _places.get((name, pathname, lineno)) or _place(
            name, pathname, lineno, function
        )
        fields = get_fields()
        if fields is not NO_FIELDS:
            if fields.encoded is None:
                return False
            end = b"%b%b%b}\n" % (logger, fields.encoded, source)
        second = int(created)
        known_second, text = fastline.known_second
        if second != known_second:
            text = second_text(second)
        nanoseconds = int((created - second) * 1e9)
        line = b'%b%09dZ"%b%b,"message":%b%b' % (text, nanoseconds, head, ids, dumps(message), end)
        if len(line) > LINE_BYTES_MAX:
            return False
        slot.sink.write(line, number)
    except Exception:
        return False  # a level seen for the first time, text that UTF-8 cannot carry
    return True


def line_of(record: logging.LogRecord) -> tuple[bytes, int]:
    """Encode any record as it stands in the current context.

    Returns:
        Its line, newline included, and OpenTelemetry's severity number.
    """
    level = level_of(record.levelno, record.levelname)
    context = current_context()
    span = context.get(SPAN_KEY)
    ids, flags, inherited = b"", None, None
    if isinstance(span, Span):
        if not span.announced:
            span.announce()
        ids, inherited = span.ids, span.inherited
        flags = None if span.sampled else span.flags
    elif context:
        here = _Here(span, context)
        ids, flags, inherited = here.ids, here.flags, here.inherited
    if not ids and record.exc_info:
        ids = _ids_of_failure(record.exc_info)
    attributes = {**(inherited or {}), **get_fields(), **_extra(record)}
    if level.own_name is None:  # for the next record of this level, if that is a usual one
        slot.log_heads[record.levelname] = (slot.head(level.name), level.number)
    try:
        line = _joined(record, level, ids, flags, attributes)
    except Exception:
        line = None  # something that only `encode` can mend, or a message that cannot be formatted
    return line or _encoded(record, level, ids, flags, attributes), level.number


def _joined(
    record: logging.LogRecord, level: Level, ids: bytes, flags: int | None, attributes: dict[str, Any]
) -> bytes | None:
    """The line of a record without an exception; `None`: it has one, or something to be cut or redacted."""
    if record.exc_info or record.stack_info or level.own_name is not None or isinstance(record.msg, dict):
        return None
    message = record.getMessage()
    encoded = fastline.attributes(attributes)
    redactor = slot.redactor
    if redactor is not None and not (
        redactor.looks_innocent(message) and redactor.attributes_look_innocent(attributes, encoded)
    ):
        return None
    place = _places.get((record.name, record.pathname, record.lineno)) or _place(
        record.name, record.pathname, record.lineno, record.funcName
    )
    line = b"".join(
        (
            fastline.stamp(timestamp_ns(record)),
            slot.head(level.name),
            ids,
            b',"message":',
            fastline.text(message),
            place[0],
            encoded,
            place[1],
            b"}\n" if flags is None else b',"trace_flags":%d}\n' % flags,
        )
    )
    return line if len(line) <= LINE_BYTES_MAX else None


def timestamp_ns(record: logging.LogRecord) -> int:
    """When a record was made, epoch nanoseconds; logging keeps it as a float, some 200 ns coarse."""
    second = int(record.created)
    return second * 1_000_000_000 + int((record.created - second) * 1e9)


def fields_of(
    record: logging.LogRecord,
    level: Level,
    ids: Mapping[str, str],
    flags: int | None,
    attributes: Mapping[str, Any],
) -> dict[str, Any]:
    """The line of any record, as `tracing.line.encode` takes it; nothing is redacted yet."""
    attributes = dict(attributes)
    if level.own_name is not None:
        attributes[sc.LEVEL_NAME] = level.own_name
    if record.stack_info:
        attributes["code.stacktrace"] = cut(str(record.stack_info), STACKTRACE_CHARS_MAX)
    return {
        sc.TIMESTAMP: timestamp_ns(record),
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
    record: logging.LogRecord, level: Level, ids: bytes, flags: int | None, attributes: Mapping[str, Any]
) -> bytes:
    fields = fields_of(record, level, orjson.loads(b"{%b}" % ids[1:]), flags, attributes)
    if slot.redactor is not None:
        fields.update(zip(_REDACTED, slot.redactor.cleaned([fields[key] for key in _REDACTED]), strict=True))
    return encode(fields)


def _extra(record: logging.LogRecord) -> dict[str, Any]:
    """What `extra=` and record factories added, at most `ATTRIBUTES_MAX`."""
    found = {key: value for key, value in record.__dict__.items() if key not in _OWN}
    if len(found) > ATTRIBUTES_MAX:
        count("attributes_over_limit", len(found) - ATTRIBUTES_MAX)
        found = dict(islice(found.items(), ATTRIBUTES_MAX))
    return found


def _message(record: logging.LogRecord, attributes: dict[str, Any]) -> str:
    if isinstance(record.msg, dict) and isinstance(event := record.msg.get("event"), str):
        # An event of structlog's on its way to a formatter, which would make text of it.
        attributes.update((str(key), value) for key, value in record.msg.items() if key != "event")
        return event
    try:
        return record.getMessage()
    except Exception as error:
        # `log.info("%d", "x")`: logging prints a traceback and loses the record; the reader wants both.
        count("message_not_formatted")
        attributes["log.format_error"] = f"{type(error).__name__}: {plain(error)}"
        attributes["log.args"] = plain(record.args)
        return record.msg if isinstance(record.msg, str) else str(plain(record.msg))


def _exception(exc_info: Any) -> dict[str, str] | None:
    error = _error_of(exc_info)
    return exception_fields(error) if error is not None else None


def _ids_of_failure(exc_info: Any) -> bytes:
    """The ids of the span that an exception has left before somebody outside logged it."""
    error = _error_of(exc_info)
    ids = failures.origin(error) if error is not None else None
    return fastline.ids(*ids) if ids is not None else b""


def _error_of(exc_info: Any) -> BaseException | None:
    """`exc_info` as logging leaves it on a record: a triple, of `None`s outside an `except`."""
    error = exc_info[1] if isinstance(exc_info, tuple) and len(exc_info) == 3 else exc_info
    return error if isinstance(error, BaseException) else None


# ---------------------------------------------------------------- writing


class _Depth(threading.local):
    """How deep this thread is in log calls inside log calls."""

    value = 0


_depth: Final = _Depth()


def write(record: logging.LogRecord) -> None:
    """Write a record's line to the sink. Never raises."""
    if not write_usual(record):
        write_carefully(record)


def write_carefully(record: logging.LogRecord) -> None:
    """Write a record whose encoding may run code of the program: a `__repr__` that logs, for instance.

    Never raises.
    """
    if fuse.blown or is_recorded(record):
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
