"""Whatever holds headers: dictionaries, lists of pairs, WSGI environments, header objects of frameworks.

Names of headers are compared without case, as HTTP has it; OpenTelemetry's getters, which know the
carriers of its instrumentations, are asked in lower case, as they expect.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, MutableMapping, MutableSequence
from itertools import islice
from typing import Any

from opentelemetry.propagators.textmap import Getter, Setter, default_getter, default_setter

from tracing.health import count

HEADERS_MAX = 1024  # of one carrier; beyond it, it is no set of headers

Get = Callable[[str], str | None]
Put = Callable[[str, str], None]


def reader(carrier: Any, getter: Getter[Any] = default_getter) -> Get:
    """Return a function from a header's name, in lower case, to its value; `None` where it is absent.

    A header that is there several times gives its values joined by commas (RFC 9110, section 5.3).
    A carrier that no header can be read from is counted; `None` is a message without headers.
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
    pairs = _pairs(carrier)
    headers = _by_lower_name(pairs or ())
    if not headers and pairs != []:
        count("unreadable_carrier")
    return lambda name: _joined(headers.get(name))


def names(carrier: Any, getter: Getter[Any] = default_getter) -> list[str]:
    """The names of the headers, in lower case, for formats that put data in names."""
    try:
        if getter is not default_getter:
            return [str(name).lower() for name in getter.keys(carrier)]  # not a dictionary
        return list(_by_lower_name(_pairs(carrier) or ()))
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


def _pairs(carrier: Any) -> list[Any] | None:
    """What should be pairs of names and values; `None`: the carrier is nothing that has any.

    Whatever has `items` is asked for them: `email.message.Message`, which `http.server` and `http.client`
    give, yields names only, and `wsgiref.headers.Headers` cannot be iterated at all.
    """
    if carrier is None:
        return []
    items = getattr(carrier, "items", None)
    if callable(items):
        return list(islice(items(), HEADERS_MAX))
    if isinstance(carrier, Iterable) and not isinstance(carrier, str | bytes):
        return list(islice(carrier, HEADERS_MAX))
    return None


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
