"""Keeps attributes from exploding the mapping: which of them get a field of their own.

Every attribute is found by its terms whatever happens here (`documents`), so that the guard decides only
what people see as fields in Kibana. Elasticsearch itself stops an index at its field limit; long
before, new keys are capped by the hour, and keys that a server cannot take as a field's name are kept
out: an older one refuses the whole document for a key with a dot at its end, or for one that is the
beginning of another.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from threading import Lock
from typing import Any, Final

KEY_CHARS_MAX: Final = 255
LIST_VALUES_MAX: Final = 1_000  # of one attribute as a field
_HOUR_S: Final = 3_600.0
_KEY: Final = re.compile(r"[^\W_][^.*\x00-\x1f\x7f,\"\\<>|?#]*(\.[^.*\x00-\x1f\x7f,\"\\<>|?#]+)*")
INT64_MIN: Final = -(2**63)
INT64_MAX: Final = 2**63 - 1
_FIELD, _OVERFLOW, _ODD = "field", "overflow", "odd"
REASONS: Final = (_OVERFLOW, _ODD)  # why an attribute has no field: too many keys, or one no server takes


class MappingGuard:
    """Remembers which keys are fields; shared by all threads that encode."""

    def __init__(self, *, fields_max: int, new_keys_per_hour_max: int) -> None:
        """Start with no key known.

        Args:
            fields_max: keys that ever become fields; beyond, everything new overflows.
            new_keys_per_hour_max: of them, how many within an hour.
        """
        self._fields_max = fields_max
        self._new_keys_per_hour_max = new_keys_per_hour_max
        self._fates: dict[str, str] = {}
        self._fields: set[str] = set()
        self._inner: set[str] = set()  # every proper beginning of a field's key, cut at its dots
        self._hour_started_s = 0.0
        self._new_this_hour = 0
        self._lock = Lock()
        self.counts: Counter[str] = Counter()  # attributes by what became of them: `overflow`, `odd`

    def learn(self, keys: Iterable[str]) -> None:
        """Take over the keys that the server has fields for already."""
        with self._lock:
            for key in keys:
                self._add(key)

    @property
    def fields(self) -> int:
        """How many keys are fields."""
        return len(self._fields)

    def plain(self, attributes: Mapping[str, Any]) -> bool:
        """Whether all attributes can be fields as they are; the fast way through."""
        fields = self._fields
        for key, value in attributes.items():
            if key not in fields:
                return False
            kind = type(value)
            if kind is str or (kind is int and INT64_MIN <= value <= INT64_MAX):
                continue
            if kind is not bool and kind is not float:
                return False
        return True

    def split(
        self, attributes: Mapping[str, Any], now_s: float
    ) -> tuple[dict[str, Any], dict[str, str], bool]:
        """Part attributes into those with fields of their own and those that share the overflow field.

        Args:
            attributes: of one record or resource.
            now_s: a monotonic clock, seconds.
        Returns:
            Fields, overflow as text, and whether that is not the whole truth: something is in neither, or in
            another form.
        """
        fields: dict[str, Any] = {}
        overflow: dict[str, str] = {}
        whole = True
        for key, value in attributes.items():
            fate = self._fates.get(key) or self._decide(key, now_s)
            if fate == _FIELD and _indexable(value):
                fields[key] = value
                continue
            whole = False
            if fate == _OVERFLOW and isinstance(value, str | int | float):
                overflow[key] = str(value)[:KEY_CHARS_MAX]
            self.counts[_OVERFLOW if fate == _OVERFLOW else _ODD] += 1
        return fields, overflow, whole

    def _decide(self, key: str, now_s: float) -> str:
        with self._lock:
            fate = self._fates.get(key)
            if fate is not None:
                return fate
            if not is_field_name(key):
                return _ODD  # not remembered: there is no end to them
            if now_s - self._hour_started_s >= _HOUR_S:
                self._hour_started_s, self._new_this_hour = now_s, 0
            if len(self._fields) >= self._fields_max or self._new_this_hour >= self._new_keys_per_hour_max:
                return _OVERFLOW  # nor are these: their hour may come
            if key in self._inner or any(beginning in self._fields for beginning in _beginnings(key)):
                return self._fates.setdefault(key, _OVERFLOW)
            self._new_this_hour += 1
            self._add(key)
            return _FIELD

    def _add(self, key: str) -> None:
        self._fates[key] = _FIELD
        self._fields.add(key)
        self._inner.update(_beginnings(key))


def is_field_name(key: str) -> bool:
    """Whether every server takes a key as the name of a field."""
    return len(key) <= KEY_CHARS_MAX and key == key.strip() and _KEY.fullmatch(key) is not None


def _beginnings(key: str) -> list[str]:
    parts = key.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts))]


def _indexable(value: Any) -> bool:
    """Whether every server takes the value as a field's: a number in 64 bits, a text, a list of such."""
    kind = type(value)
    if kind is str or kind is bool or kind is float or value is None:
        return True
    if kind is int:
        return bool(INT64_MIN <= value <= INT64_MAX)
    return (
        kind is list
        and len(value) <= LIST_VALUES_MAX
        and all(type(item) is not list and _indexable(item) for item in value)
    )
