"""Redis Streams, sync and async: the trace is in fields of the entry beside the program's own.

A consumer without this library sees these fields; ours takes them out again. Pub/sub has no place for
headers: programs that want the trace there use `tracing.propagation.messages.wrap`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import wraps
from importlib import import_module
from typing import Any, Final

from tracing.handoff import Handoff, Patch
from tracing.instrumentation.messaging import finished, fuse, is_wanted, received, sending
from tracing.propagation import messages

SYSTEM: Final = "redis"
_FIELDS: Final = frozenset({"traceparent", "tracestate", "baggage", "x-trace-id"})


def stream_patches() -> list[Handoff]:
    """Sending and reading, of both clients: they share the class that has the commands."""
    commands = import_module("redis.commands.core").StreamCommands
    return [
        Patch(commands, "xadd", _xadd),
        Patch(commands, "xread", _read),
        Patch(commands, "xreadgroup", _read),
    ]


def _xadd(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def xadd(self: Any, name: Any, fields: Any, *args: Any, **kwargs: Any) -> Any:
        if not is_wanted() or not isinstance(fields, Mapping) or not fields:
            return original(self, name, fields, *args, **kwargs)
        with sending(SYSTEM, _text(name)):
            return original(self, name, {**fields, **messages.texts()}, *args, **kwargs)

    return xadd


def _read(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def read(self: Any, *args: Any, **kwargs: Any) -> Any:
        finished(self)
        answer = original(self, *args, **kwargs)
        if inspect.isawaitable(answer):
            return _read_later(self, answer)
        return _taken(self, answer)

    return read


async def _read_later(client: Any, answer: Any) -> Any:
    return _taken(client, await answer)


def _taken(client: Any, answer: Any) -> Any:
    """Tell of the entries, and give them back without our fields; what a pipeline answers comes as it is."""
    if not isinstance(answer, list | dict) or not is_wanted():
        return answer
    try:
        streams = answer.items() if isinstance(answer, dict) else answer
        names: list[str] = []
        headers: list[dict[str, str]] = []
        for name, entries in streams:
            for _, fields in _flat(entries):
                if fields:
                    names.append(_text(name))
                    headers.append(_headers_out_of(fields))
        if headers:
            received(SYSTEM, names[0], headers, client)
    except Exception as error:
        fuse.failed(error)
    return answer


def _flat(entries: Any) -> list[Any]:
    """Entries as pairs of id and fields; in RESP3 they are in one list more."""
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
