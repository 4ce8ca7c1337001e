"""Redis Streams, sync and async: the trace is in fields of the entry beside the program's own.

A consumer without this library sees these fields; ours takes them out again, also where a stream is only
looked at (`XRANGE`). Entries that are read or claimed in a pipeline come, and are worked on, after `execute`.
Pub/sub and lists that serve as queues have no place for headers: programs that want the trace there use
`tracing.propagation.messages.wrap` and `unwrap`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from functools import wraps
from importlib import import_module
from typing import Any, Final, NamedTuple

from tracing.handoff import Handoff, Patch
from tracing.instrumentation.messaging import finished, fuse, is_wanted, received, sending, span_carried
from tracing.propagation import messages

SYSTEM: Final = "redis"
_FIELDS: Final = frozenset({"traceparent", "tracestate", "baggage", "x-trace-id"})
# Commands whose entries the program is to work on.
_DELIVERING: Final = frozenset({"XREAD", "XREADGROUP", "XCLAIM", "XAUTOCLAIM"})
_READING: Final = _DELIVERING | {"XRANGE", "XREVRANGE"}


class _Asked(NamedTuple):
    """A command, and its first argument, which for some is the stream."""

    command: str
    name: Any


def stream_patches() -> list[Handoff]:
    """Sending and reading, of both clients: they share the class that has the commands."""
    commands = import_module("redis.commands.core").StreamCommands
    reading = [Patch(commands, command.lower(), _reading(command)) for command in sorted(_READING)]
    return [Patch(commands, "xadd", _xadd), *reading]


def pipeline_patches() -> list[Handoff]:
    """What a pipeline or a transaction read, of the sync client."""
    return [Patch(import_module("redis.client").Pipeline, "execute", _execute)]


def async_pipeline_patches() -> list[Handoff]:
    """The same, of the async client."""
    return [Patch(import_module("redis.asyncio.client").Pipeline, "execute", _execute)]


def _xadd(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def xadd(self: Any, name: Any, fields: Any, *args: Any, **kwargs: Any) -> Any:
        if not is_wanted() or not isinstance(fields, Mapping) or not fields:
            return original(self, name, fields, *args, **kwargs)
        with sending(SYSTEM, _text(name)):
            return original(self, name, {**fields, **messages.texts()}, *args, **kwargs)

    return xadd


# ---------------------------------------------------------------- reading


def _reading(command: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def make(original: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(original)
        def read(self: Any, *args: Any, **kwargs: Any) -> Any:
            if span_carried() is not None:  # a task queue reads what is nobody's message, such as results
                return original(self, *args, **kwargs)
            asked = [_Asked(command, args[0] if args else kwargs.get("name"))]
            _end_before(self, asked)
            answer = original(self, *args, **kwargs)
            # A pipeline answers with itself, and that of the async client can be awaited, too.
            if inspect.iscoroutine(answer):
                return _later(self, asked, answer)
            return _taken(self, asked, [answer])[0]

        return read

    return make


def _execute(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def execute(self: Any, *args: Any, **kwargs: Any) -> Any:
        asked = _asked_by(self)
        if _READING.isdisjoint(one.command for one in asked):
            return original(self, *args, **kwargs)
        _end_before(self, asked)
        answers = original(self, *args, **kwargs)
        if inspect.iscoroutine(answers):
            return _all_later(self, asked, answers)
        return _taken(self, asked, answers)

    return execute


def _asked_by(pipeline: Any) -> list[_Asked]:
    try:
        return [_Asked(*(*arguments, None)[:2]) for arguments, _ in pipeline.command_stack]
    except Exception as error:
        fuse.failed(error)
        return []


def _source(client: Any) -> Any:
    """What entries come from: a pipeline is made for each use, and shares the pool with its client."""
    return getattr(client, "connection_pool", client)


def _end_before(client: Any, asked: list[_Asked]) -> None:
    if not _DELIVERING.isdisjoint(one.command for one in asked):
        finished(_source(client))


async def _later(client: Any, asked: list[_Asked], answer: Any) -> Any:
    return _taken(client, asked, [await answer])[0]


async def _all_later(client: Any, asked: list[_Asked], answers: Any) -> Any:
    return _taken(client, asked, await answers)


def _taken(client: Any, asked: list[_Asked], answers: list[Any]) -> list[Any]:
    """Tell of the entries that are to be worked on, and give all back without our fields."""
    if not is_wanted() or len(asked) != len(answers):
        return answers
    try:
        names: list[str] = []
        headers: list[dict[str, str]] = []
        for one, answer in zip(asked, answers, strict=True):
            for name, fields in _entries(one, answer):
                found = _headers_out_of(fields)
                if one.command in _DELIVERING:
                    names.append(_text(name))
                    headers.append(found)
        if headers:
            received(SYSTEM, names[0], headers, _source(client))
    except Exception as error:
        fuse.failed(error)
    return answers


def _entries(asked: _Asked, answer: Any) -> Iterator[tuple[Any, dict[Any, Any]]]:
    """The stream and the fields of each entry; what is answered otherwise, such as ids alone, has none."""
    command, name = asked
    streams: list[Any] = []
    if not isinstance(answer, list | tuple | dict):  # a pipeline's answer to being asked is itself
        return
    if command in ("XREAD", "XREADGROUP"):
        streams = list(answer.items() if isinstance(answer, dict) else answer)
    elif command == "XAUTOCLAIM":
        streams = [(name, answer[1])] if len(answer) > 1 else []
    elif command in _READING:
        streams = [(name, answer)]
    for stream, entries in streams:
        for entry in _flat(entries):
            if isinstance(entry, list | tuple) and len(entry) == 2 and isinstance(entry[1], dict):
                yield stream, entry[1]


def _flat(entries: Any) -> list[Any]:
    """Entries as pairs of id and fields; in RESP3 they are in one list more."""
    if not isinstance(entries, list | tuple):
        return []
    if entries and isinstance(entries[0], list) and entries[0] and isinstance(entries[0][0], list | tuple):
        return [pair for part in entries for pair in part]
    return list(entries)


def _headers_out_of(fields: dict[Any, Any]) -> dict[str, str]:
    found = {}
    for key in list(fields):
        if _text(key).lower() in _FIELDS:
            found[_text(key).lower()] = _text(fields.pop(key))
    return found


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
