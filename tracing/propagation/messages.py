"""Messages as carriers: headers in the shapes that brokers have them, and an envelope for those without.

Whatever is written leaves the body alone, so that a consumer without this library reads its messages as
before; only the envelope changes it, and is therefore for programs that open it again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

from opentelemetry.context.context import Context

from tracing.propagation.propagator import carrying_names, extract, inject

Pairs = list[tuple[str, bytes]]

# What an envelope begins with; the first byte is none of UTF-8's, so no text is mistaken for one.
_MAGIC: Final = b"\xffBTM1"
_FIRST: Final = "traceparent"
_LENGTH_BYTES: Final = 2  # of the headers, which are therefore at most 64 KiB


def texts() -> dict[str, str]:
    """The current trace as headers."""
    headers: dict[str, str] = inject({})
    return headers


def names() -> list[str]:
    """Names of the headers that carry a trace here, what says most first: where there is room for few."""
    return sorted(carrying_names(), key=lambda name: (name != _FIRST, name))


def told_pairs(headers: Any) -> Pairs:
    """Headers as Kafka has them, with the current trace; of a message that is passed on, in place of the old.

    Args:
        headers: pairs, or a mapping, or `None`; not changed.
    """
    given: Iterable[tuple[str, bytes]] = headers.items() if isinstance(headers, Mapping) else headers or ()
    added = texts()
    kept = [(name, value) for name, value in given if str(name).lower() not in _names(added)]
    return [*kept, *((name, value.encode()) for name, value in added.items())]


def told_text_pairs(headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Headers as MQTT 5 has them, with the current trace; `headers` is not changed."""
    added = texts()
    kept = [(name, value) for name, value in headers if str(name).lower() not in _names(added)]
    return [*kept, *added.items()]


def told_mapping(headers: Mapping[str, Any] | None) -> dict[str, Any]:
    """Headers as AMQP has them, with the current trace; `headers` is not changed."""
    added = texts()
    kept = {name: value for name, value in (headers or {}).items() if str(name).lower() not in _names(added)}
    return {**kept, **added}


def _names(added: Mapping[str, str]) -> set[str]:
    return {name.lower() for name in added}


def read(headers: Any) -> Context:
    """The context that a message's headers describe: pairs or a mapping, texts or bytes; never an error."""
    return extract(headers) if headers else Context()


def wrap(body: bytes) -> bytes:
    """Put a message into an envelope that says the current trace, for a broker without headers."""
    headers = json.dumps(texts()).encode()
    if len(headers) >= 1 << 8 * _LENGTH_BYTES:
        return body
    return b"%b%b%b%b" % (_MAGIC, len(headers).to_bytes(_LENGTH_BYTES, "big"), headers, body)


def unwrap(message: bytes) -> tuple[bytes, dict[str, str]]:
    """Open an envelope: the body, and headers for `tracing.extracted`; any other message is all body."""
    start = len(_MAGIC) + _LENGTH_BYTES
    if not message.startswith(_MAGIC) or len(message) < start:
        return message, {}
    end = start + int.from_bytes(message[len(_MAGIC) : start], "big")
    try:
        headers = json.loads(message[start:end])
    except ValueError:
        return message, {}
    return (message[end:], headers) if isinstance(headers, dict) else (message, {})


def told_frames(frames: Iterable[bytes]) -> list[bytes]:
    """The frames of a ZeroMQ message, with one more at the end that says the current trace, if there is one.

    At the front are what a subscription compares and whom a router sends to, so these stay where they were.
    """
    return [*frames, wrap(b"")] if texts() else list(frames)


def open_frames(frames: Iterable[bytes]) -> tuple[list[bytes], dict[str, str]]:
    """Take that frame off again: the others, and headers for `tracing.extracted`, empty without it."""
    given = list(frames)
    if given:
        body, headers = unwrap(bytes(given[-1]))
        if headers and not body:
            return given[:-1], headers
    return given, {}
