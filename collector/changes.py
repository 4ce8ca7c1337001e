"""What was changed on purpose: the event as a value, how it is found, and how one comes in over HTTP. Pure.

A change is a log record whose `event.name` is `backtrail.change`; programs write it with
`tracing.record_change`, pipelines and people with `POST /api/v1/changes`.
"""

from __future__ import annotations

import hashlib
import secrets
from typing import Annotated, Any, Final

import msgspec

from collector.errors import Refused
from collector.model import Record
from collector.store.conditions import And, Condition, Equals, Exists, Not, Or
from tracing import semconv as sc
from tracing.errors import InvalidLine
from tracing.line import encode, parse_timestamp

EVERYBODY: Final = "*"
# Who tells of a change that concerns everybody: a record needs a service.
TELLER: Final = "backtrail"
TEXT_CHARS_MAX: Final = 1_000  # of a name or a value
ATTRIBUTES_MAX: Final = 64

_Text = Annotated[str, msgspec.Meta(min_length=1, max_length=TEXT_CHARS_MAX)]
_Word = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
_Value = str | int | float | bool | None


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """Something that was changed on purpose."""

    uid: str  # of its record
    timestamp_ns: int
    kind: str  # deployment, config, flag, infrastructure, or a word of whoever told it
    service: str | None  # whom it concerns; None: everybody
    message: str
    name: str | None = None  # what was changed
    old: str | None = None
    new: str | None = None
    record: Record


class ToldChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A change as it is told over HTTP."""

    kind: _Word  # deployment, config, flag, infrastructure, or a word of your own
    service: _Text  # whom it concerns; `*`: everybody
    name: _Text | None = None  # what was changed
    old: _Value = None
    new: _Value = None
    timestamp: str | None = None  # RFC 3339; absent: now
    message: _Text | None = None  # one sentence; absent: made of the rest
    attributes: dict[str, Any] = {}


def change_of(record: Record) -> Change | None:
    """The change that a record tells of; None: it tells of none."""
    told = record.attributes
    if told.get(sc.EVENT_NAME) != sc.CHANGE_EVENT:
        return None
    service = str(told.get(sc.CHANGE_SERVICE) or record.service)
    return Change(
        uid=record.uid,
        timestamp_ns=record.timestamp_ns,
        kind=str(told.get(sc.CHANGE_KIND) or "change"),
        service=None if service == EVERYBODY else service,
        message=record.message or "",
        name=_text(told.get(sc.CHANGE_NAME)),
        old=_text(told.get(sc.CHANGE_OLD)),
        new=_text(told.get(sc.CHANGE_NEW)),
        record=record,
    )


def changes_condition(*, service: str | None = None, kind: str | None = None) -> Condition:
    """What finds the records of changes.

    Args:
        service: only those that concern it, or everybody.
        kind: only of this kind.
    """
    parts: list[Condition] = [Equals(f"attributes.{sc.EVENT_NAME}", sc.CHANGE_EVENT)]
    if kind is not None:
        parts.append(Equals(f"attributes.{sc.CHANGE_KIND}", kind))
    if service is not None:
        named = f"attributes.{sc.CHANGE_SERVICE}"
        own = And((Equals("service", service), Not(Exists(named))))
        parts.append(Or((own, Equals(named, service), Equals(named, EVERYBODY))))
    return And(tuple(parts))


def change_line(told: ToldChange, *, now_ns: int) -> tuple[str, bytes]:
    """Write a change that was told.

    Args:
        now_ns: its time, where it names none.
    Returns:
        Identity and line of the record. The identity is that of the content where a time is named, so that
        telling it again changes nothing; else it is drawn.
    Raises:
        Refused: its time cannot be read, or it has too many attributes.
    """
    if len(told.attributes) > ATTRIBUTES_MAX:
        raise Refused("not_a_change", f"at most {ATTRIBUTES_MAX} attributes are taken", field="attributes")
    try:
        timestamp_ns = now_ns if told.timestamp is None else parse_timestamp(told.timestamp)
    except InvalidLine as error:
        raise Refused("not_a_change", str(error), field="timestamp") from None
    is_for_all = told.service == EVERYBODY
    attributes = {
        **told.attributes,
        sc.EVENT_NAME: sc.CHANGE_EVENT,
        sc.CHANGE_KIND: told.kind,
        sc.CHANGE_NAME: told.name,
        sc.CHANGE_OLD: told.old,
        sc.CHANGE_NEW: told.new,
        sc.CHANGE_SERVICE: EVERYBODY if is_for_all else None,
    }
    line = encode(
        {
            sc.TIMESTAMP: timestamp_ns,
            sc.LEVEL: "INFO",
            sc.SERVICE: TELLER if is_for_all else told.service,
            sc.MESSAGE: told.message or _sentence(told.kind, told.name, told.old, told.new),
            sc.ATTRIBUTES: {key: value for key, value in attributes.items() if value is not None},
        }
    )
    uid = hashlib.sha256(line).hexdigest()[:32] if told.timestamp else secrets.token_hex(16)
    return uid, line


def _sentence(kind: str, name: str | None, old: object, new: object) -> str:
    """`flag new-pricing changed from off to on`."""
    what = f"{kind} {name}" if name else kind
    before = f" from {old}" if old is not None else ""
    after = f" to {new}" if new is not None else ""
    return f"{what} changed{before}{after}"


def _text(value: Any) -> str | None:
    return None if value is None else str(value)
