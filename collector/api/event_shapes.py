"""The JSON objects about changes and findings; a part of `shapes`, which says what holds for all."""

from __future__ import annotations

from typing import Any, Literal

import msgspec


class ChangeObject(msgspec.Struct, frozen=True, kw_only=True):
    """Something that was changed on purpose."""

    uid: str  # of its record
    timestamp: str
    kind: str  # deployment, config, flag, infrastructure, or a word of whoever told it
    service: str | None  # whom it concerns; null: everybody
    name: str | None  # what was changed
    old: str | None
    new: str | None
    message: str
    attributes: dict[str, Any]


class ChangesObject(msgspec.Struct, frozen=True, kw_only=True):
    """A page of changes, newest first."""

    changes: list[ChangeObject]
    cursor: str | None  # for the next page; null: this was the last


class RecordedChangeObject(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a change that was told: it is durable, and found a moment later."""

    uid: str  # of its record


class FindingObject(msgspec.Struct, frozen=True, kw_only=True):
    """One moment of an episode in which a service was not as usual."""

    uid: str  # of its record
    id: str  # of the episode: the same in all its moments
    state: Literal["began", "ended", "usual"]  # usual: it lasted so long that it counts as normal now
    timestamp: str  # beginning of the minute in which it was so
    began: str  # of the episode
    service: str  # where to look
    operation: str | None
    instance: str | None
    fault: str
    summary: str
    confidence: float
    decades: float  # surprise: 4 means that one healthy minute in ten thousand looks like this
    entries: list[str]  # entry points through which it shows
    signals: list[str]
    location: str | None
    template: str | None
    evidence: list[str]  # uids of records
    traces: list[str]  # ids of traces that show it


class FindingsObject(msgspec.Struct, frozen=True, kw_only=True):
    """A page of findings, newest first."""

    findings: list[FindingObject]
    cursor: str | None  # for the next page; null: this was the last
