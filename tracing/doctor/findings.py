"""What the doctor has seen: values, no I/O."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal

State = Literal["good", "note", "bad"]  # `note`: worth knowing, and nothing is lost by it

COLUMNS: Final = ("log ids", "parent", "baggage", "exception", "cancellation", "concurrent")
NOT_APPLICABLE: Final = "–"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was seen about settings, the program or the way to the collector.

    Attributes:
        where: `file:line` of what is to be changed.
        advice: what to do.
    """

    state: State
    what: str
    where: str | None = None
    advice: str | None = None

    def shape(self) -> dict[str, Any]:
        """As JSON has it."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class HopResult:
    """What became of one hop.

    Attributes:
        layer: the heading that it stands under.
        by: names by which `instrument()` knows what carries the context.
        cells: a word a column of `COLUMNS`; empty where it was not tried.
        not_tried: why it was not tried.
        broken: what went wrong when it was.
        trace_id: of a request that went over it.
        arrived: whether the collector has that request's line; `None`: nobody asked.
        reason: why it is lost, as far as that is known.
        where: `file:line`, or the variable, of what is to be changed.
        advice: what to do.
    """

    hop: str
    layer: str
    by: tuple[str, ...] = ()
    cells: dict[str, str] = field(default_factory=dict)
    not_tried: str | None = None
    broken: str | None = None
    trace_id: str | None = None
    arrived: bool | None = None
    reason: str | None = None
    where: str | None = None
    advice: str | None = None

    @property
    def lost(self) -> list[str]:
        """The columns in which something was lost."""
        return [column for column, word in self.cells.items() if not _is_kept(word)]

    @property
    def is_kept(self) -> bool:
        """Whether it was tried and nothing was lost."""
        return bool(self.cells) and not self.lost

    def shape(self) -> dict[str, Any]:
        """As JSON has it."""
        state = "not tried" if self.not_tried else "kept" if self.is_kept else "lost"
        found = {name: value for name, value in asdict(self).items() if value not in (None, {}, ())}
        return {"state": state, **found}


def _is_kept(word: str) -> bool:
    kept, of, total = word.partition(" of ")
    return kept == total if of else word in ("kept", NOT_APPLICABLE)
