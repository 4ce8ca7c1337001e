"""Attribute values -> values within the limits. Pure; what is changed is counted by reason."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

from collector.admit.limits import INTEGER_MAX, INTEGER_MIN, AdmitLimits
from tracing.line import cut, dumps, plain


def mended_attributes(
    attributes: Mapping[Any, Any], limits: AdmitLimits, mended: Counter[str]
) -> dict[str, Any]:
    """The attributes as they may be stored; the first `attributes_max` of them."""
    kept: dict[str, Any] = {}
    for key, value in attributes.items():
        if len(kept) >= limits.attributes_max:
            mended["attributes_dropped"] += len(attributes) - len(kept)
            break
        kept[_key(key, limits, mended)] = _mended_item(key, value, limits, mended, limits.depth_max)
    return kept


def mended_value(value: Any, limits: AdmitLimits, mended: Counter[str], depth_max: int) -> Any:
    """A value as it may be stored.

    Args:
        depth_max: containers inside one another, this one included; the rest becomes JSON text.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return mended_text(value, limits.text_chars_max, mended)
    if isinstance(value, int):
        if INTEGER_MIN <= value <= INTEGER_MAX:
            return value
        mended["integer_as_text"] += 1
        return _integer_text(value)
    if isinstance(value, float):
        if math.isfinite(value):
            return value
        mended["not_a_number"] += 1
        return str(value)
    if isinstance(value, Mapping | list | tuple):
        if depth_max <= 0:
            mended["nesting_cut"] += 1
            return mended_text(_as_text(value), limits.text_chars_max, mended)
        if isinstance(value, Mapping):
            items = list(value.items())[: limits.items_max]
            mended["items_dropped"] += len(value) - len(items)
            return {
                _key(key, limits, mended): _mended_item(key, item, limits, mended, depth_max - 1)
                for key, item in items
            }
        mended["items_dropped"] += max(0, len(value) - limits.items_max)
        return [mended_value(item, limits, mended, depth_max - 1) for item in value[: limits.items_max]]
    return mended_text(str(plain(value)), limits.text_chars_max, mended)


def _mended_item(key: Any, value: Any, limits: AdmitLimits, mended: Counter[str], depth_max: int) -> Any:
    if isinstance(value, str) and isinstance(key, str) and key.endswith("stacktrace"):
        return mended_text(value, limits.stacktrace_chars_max, mended)
    return mended_value(value, limits, mended, depth_max)


def mended_text(text: str, chars_max: int, mended: Counter[str]) -> str:
    """A text that UTF-8 can carry, cut with a mark when it is long."""
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            mended["bad_text"] += 1
            text = text.encode("utf-8", "replace").decode()
    if len(text) > chars_max:
        mended["text_cut"] += 1
        return cut(text, chars_max)
    return text


def _key(key: Any, limits: AdmitLimits, mended: Counter[str]) -> str:
    text = mended_text(str(key), limits.text_chars_max, mended)
    if len(text) <= limits.key_chars_max:
        return text
    mended["key_cut"] += 1
    return text[: limits.key_chars_max]


def _integer_text(value: int) -> str:
    # Python refuses to write integers of more than 4 300 digits, which take quadratic time
    return str(value) if value.bit_length() <= 4_096 else hex(value)


def _as_text(value: Any) -> str:
    try:
        text: str = dumps(value).decode()
        return text
    except Exception:  # too deep for the encoder, or with values that it has no word for
        return str(plain(value))
