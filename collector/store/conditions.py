"""What a search asks of a record: a small tree of conditions, and what each of them means.

`matches` is the definition; the stores translate the tree into their own queries and must answer
alike (the contract kit holds them to it). The search language (`collector/query/`) writes these trees.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from fnmatch import translate
from functools import lru_cache
from typing import Any, Final

import msgspec

from collector.errors import QueryError
from collector.model import Record
from tracing import semconv as sc

# Fields of the record line by the name that a person types; anything else names an attribute,
# `attributes.` and `resource.` in front say which kind.
TEXT_FIELDS: Final = {
    "level", "service", "trace_id", "span_id", "parent_span_id", "logger", "name", "span_kind", "kind",
    "instance", "uid", "exception.type", "source.file", "source.function", "status",
}  # fmt: skip
NUMBER_FIELDS: Final = {"timestamp_ns", "duration_ns", "severity_number", "source.line"}
WORD_FIELDS: Final = {"message", "exception.message"}
TOKEN_CHARS_MAX: Final = 256
# Where a deployment's environment stands: under today's name, and under the one it had before OpenTelemetry's
# semantic conventions 1.27.
ENVIRONMENT_FIELDS: Final = (f"resource.{sc.DEPLOYMENT_ENVIRONMENT}", "resource.deployment.environment")

_TOKEN: Final = re.compile(r"\w+")


def tokens(text: str) -> list[str]:
    """Cut a text into the words that a search can find: lower case, letters, digits and `_`."""
    return [word[:TOKEN_CHARS_MAX] for word in _TOKEN.findall(text.lower())]


class Everything(msgspec.Struct, frozen=True):
    """Every record."""


class Words(msgspec.Struct, frozen=True):
    """All words, one behind the other, in a field of words (`WORD_FIELDS`)."""

    words: tuple[str, ...]
    field: str = "message"


class Equals(msgspec.Struct, frozen=True):
    """The field has this value: numbers are compared as numbers, text exactly, booleans in any case."""

    field: str
    value: str | int | float | bool


class Wildcard(msgspec.Struct, frozen=True):
    """The field's whole text matches the pattern of `*` and `?`; in a field of words: one word does."""

    field: str
    pattern: str


class Range(msgspec.Struct, frozen=True):
    """The field lies between the bounds; `None` leaves a side open. Text is not compared."""

    field: str
    low: int | float | None = None
    high: int | float | None = None
    low_included: bool = True
    high_included: bool = True


class Exists(msgspec.Struct, frozen=True):
    """The record has the field at all."""

    field: str


class And(msgspec.Struct, frozen=True):
    """All of them; of none: every record."""

    parts: tuple[Condition, ...]


class Or(msgspec.Struct, frozen=True):
    """At least one of them; of none: no record."""

    parts: tuple[Condition, ...]


class Not(msgspec.Struct, frozen=True):
    """Not this one."""

    part: Condition


Condition = Everything | Words | Equals | Wildcard | Range | Exists | And | Or | Not


class Structure(msgspec.Struct, frozen=True, kw_only=True):
    """How spans stand in a trace: one for each step, each below the one of the step before.

    No store answers it; `collector.trace.structure` says of a call chain whether it has it.
    """

    steps: tuple[Condition, ...]  # from the top down; one alone is a plain search
    direct: tuple[bool, ...]  # for each step, whether it is a child of the one before; the first has none


def field_values(record: Record, field: str) -> Iterator[Any]:
    """Every value that a record has under a name a person typed; nothing when it has none."""
    if field.startswith("attributes."):
        yield from _flat(record.attributes.get(field[len("attributes.") :]))
        return
    if field.startswith("resource."):
        yield from _flat(record.resource.get(field[len("resource.") :]))
        return
    value = _own_value(record, field)
    if value is not None:
        yield value
    elif field not in TEXT_FIELDS and field not in NUMBER_FIELDS and field not in WORD_FIELDS:
        yield from _flat(record.attributes.get(field))
        yield from _flat(record.resource.get(field))


def matches(condition: Condition, record: Record) -> bool:
    """Whether a record fulfils a condition."""
    match condition:
        case Everything():
            return True
        case Words(words, field):
            return any(_has_phrase(tokens(text_of(value)), words) for value in field_values(record, field))
        case Equals(field, value):
            return any(_equal(found, value) for found in field_values(record, field))
        case Wildcard(field, pattern):
            return any(_wild(field, text_of(found), pattern) for found in field_values(record, field))
        case Range():
            return any(within(found, condition) for found in field_values(record, condition.field))
        case Exists(field):
            return any(True for _ in field_values(record, field))
        case And(parts):
            return all(matches(part, record) for part in parts)
        case Or(parts):
            return any(matches(part, record) for part in parts)
        case Not(part):
            return not matches(part, record)


def text_of(value: Any) -> str:
    """A value as a person types it: `true` and `false` in lower case, numbers as Python writes them."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def counted(condition: Condition) -> Condition:
    """The condition with `kind` limited to what counts as a record, unless it asks about `kind` itself."""
    if any(field == "kind" for field in fields_of(condition)):
        return condition
    kinds = Or((Equals("kind", "log"), Equals("kind", "span")))
    return kinds if isinstance(condition, Everything) else And((kinds, condition))


def fields_of(condition: Condition) -> Iterator[str]:
    """Every field that a condition asks about, as often as it does."""
    match condition:
        case And(parts) | Or(parts):
            for part in parts:
                yield from fields_of(part)
        case Not(part):
            yield from fields_of(part)
        case Everything():
            return
        case _:
            yield condition.field


def facet_field(field: str) -> str:
    """The field itself, when its values can be counted one by one.

    Raises:
        QueryError: it is a field of words, a time or a duration.
    """
    if field in WORD_FIELDS or field in ("timestamp_ns", "duration_ns"):
        raise QueryError(f"{field} has a value of its own on nearly every record; count by another field")
    return field


def _own_value(record: Record, field: str) -> Any:
    match field:
        case "status":
            return record.status.code if record.status else None
        case "exception.type":
            return record.exception.type if record.exception else None
        case "exception.message":
            return record.exception.message if record.exception else None
        case "source.file":
            return record.source.file if record.source else None
        case "source.line":
            return record.source.line if record.source else None
        case "source.function":
            return record.source.function if record.source else None
    if field in TEXT_FIELDS or field in NUMBER_FIELDS or field in WORD_FIELDS:
        return getattr(record, field)
    return None


def _flat(value: Any) -> Iterator[Any]:
    if isinstance(value, list | tuple):
        for item in value:
            yield from _flat(item)
    elif value is not None and not isinstance(value, dict):
        yield value


def _equal(found: Any, wanted: str | int | float | bool) -> bool:
    if isinstance(found, bool) or isinstance(wanted, bool):
        return str(found).lower() == str(wanted).lower()
    if isinstance(found, int | float) and isinstance(wanted, int | float):
        return found == wanted
    return str(found) == str(wanted)


def within(found: Any, bounds: Range) -> bool:
    """Whether a value is a number between the bounds."""
    if isinstance(found, bool) or not isinstance(found, int | float):
        return False
    if bounds.low is not None and (found < bounds.low or (found == bounds.low and not bounds.low_included)):
        return False
    return bounds.high is None or found < bounds.high or (found == bounds.high and bounds.high_included)


@lru_cache(maxsize=256)
def _pattern(pattern: str) -> re.Pattern[str]:
    # fnmatch knows [sets] too; ours does not, so the bracket is made an ordinary character
    return re.compile(translate(pattern.replace("[", "[[]")))


def _wild(field: str, text: str, pattern: str) -> bool:
    if field in WORD_FIELDS:
        return any(_pattern(pattern.lower()).match(word) for word in tokens(text))
    return _pattern(pattern).match(text) is not None


def _has_phrase(found: list[str], words: tuple[str, ...]) -> bool:
    if not words:
        return True
    last = len(found) - len(words)
    return any(
        found[at] == words[0] and tuple(found[at : at + len(words)]) == words for at in range(last + 1)
    )
