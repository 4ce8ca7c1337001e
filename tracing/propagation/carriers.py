"""Whatever holds headers: dictionaries, lists of pairs, WSGI environments, header objects of frameworks.

Names of headers are compared without case, as HTTP has it; OpenTelemetry's getters, which know the
carriers of its instrumentations, are asked in lower case, as they expect.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, MutableMapping, MutableSequence
from typing import Any

from opentelemetry.propagators.textmap import Getter, Setter, default_getter, default_setter

HEADERS_MAX = 1024  # of one carrier; beyond it, it is no set of headers

Get = Callable[[str], str | None]
Put = Callable[[str, str], None]


def reader(carrier: Any, getter: Getter[Any] = default_getter) -> Get:
    """Return a function from a header's name, in lower case, to its value; `None` where it is absent.

    A header that is there several times gives its values joined by commas (RFC 9110, section 5.3).
    """
    if getter is not default_getter:
        return lambda name: _joined(getter.get(carrier, name))
    if isinstance(carrier, Mapping):
        if "traceparent" in carrier or not carrier:
            get = carrier.get
            return lambda name: _joined(get(name))
        get = carrier.get
        lowered: dict[str, Any] = {}

        def look(name: str) -> str | None:
            value = get(name)
            if value is None:
                if not lowered:
                    lowered.update(_by_lower_name(carrier.items()))
                value = lowered.get(name)
            return _joined(value)

        return look
    if isinstance(carrier, Iterable) and not isinstance(carrier, str | bytes):
        pairs = _by_lower_name(carrier)
        return lambda name: _joined(pairs.get(name))
    return lambda name: None


def names(carrier: Any, getter: Getter[Any] = default_getter) -> list[str]:
    """The names of the headers, in lower case, for formats that put data in names."""
    try:
        if getter is not default_getter:
            return [str(name).lower() for name in getter.keys(carrier)]  # not a dictionary
        if isinstance(carrier, Mapping):
            return list(_by_lower_name(carrier.items()))
        return list(_by_lower_name(carrier)) if isinstance(carrier, Iterable) else []
    except Exception:
        return []


def writer(carrier: Any, setter: Setter[Any] = default_setter) -> Put:
    """Return a function that puts a header into a carrier.

    Into a list go pairs with the name in lower case, as gRPC wants its metadata.
    """
    if setter is not default_setter:
        return lambda name, value: setter.set(carrier, name, value)
    if isinstance(carrier, MutableSequence) and not isinstance(carrier, MutableMapping):
        return lambda name, value: carrier.append((name.lower(), value))
    put: Put = carrier.__setitem__
    return put


def _joined(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if isinstance(value, Iterable):
        parts = [_joined(item) for item in value]
        return ",".join(part for part in parts if part is not None) if parts else None
    return str(value)


def _by_lower_name(pairs: Iterable[Any]) -> dict[str, list[Any]]:
    """Headers by their names in lower case; `HTTP_X_TRACE_ID` of a WSGI environment is `x-trace-id`."""
    found: dict[str, list[Any]] = {}
    for number, pair in enumerate(pairs):
        if number >= HEADERS_MAX:
            break
        try:
            name, value = pair
        except (TypeError, ValueError):
            continue  # not a pair, so not a header
        key = (_joined(name) or "").lower()
        if key.startswith("http_"):
            key = key.removeprefix("http_").replace("_", "-")
        found.setdefault(key, []).append(value)
    return found
