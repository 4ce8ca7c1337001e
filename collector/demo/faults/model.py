"""A fault that the shop can have: what it does, and what a right verdict about it says."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collector.demo.shop import Shop

# What happens to a value of the shop's code on its way: it is changed, or it takes its time, or it never
# arrives because the process has ended.
Spoil = Callable[[Any], Any]

EVERYBODY: Final = ("gateway", "orders", "inventory", "payments")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One fault and its known answer."""

    name: str  # as it is typed: `backtrail demo --fault NAME`
    story: str  # what happens, one sentence for the person who watches
    service: str | None  # where the cause is; None: nothing is wrong, and no cause may be named
    places: tuple[str, ...] = ()  # a right verdict names one of these as location, operation or template
    also_accepted: tuple[str, ...] = ()  # services that a careful person might name as well
    spoils: Mapping[str, Spoil] = field(default_factory=dict)  # by point of the shop's code
    around: Callable[[Shop], AbstractContextManager[None]] = lambda _: contextlib.nullcontext()
    reached: tuple[str, ...] = EVERYBODY  # services that must be in the chain before it is worth asking
    leaves_open: bool = False  # a process dies: its span never ends, and the chain has to say so
    spoils_the_order: bool = True  # False: the order that is asked about only suffers from what others met

    def is_named_by(self, verdict: Mapping[str, Any]) -> bool:
        """Whether the verdict's first cause is this fault's service and place."""
        return self.rank_in(verdict) == 1

    def rank_in(self, verdict: Mapping[str, Any]) -> int | None:
        """The place of the first right cause in a verdict, from 1; `None`: it has none.

        Where nothing is wrong the right verdict has no cause, and that is rank 1.

        Args:
            verdict: as the API gives it (`collector.api.shapes.VerdictObject`).
        """
        causes = verdict["causes"]
        if self.service is None:
            return None if causes else 1
        for rank, cause in enumerate(causes, start=1):
            if cause["service"] not in (self.service, *self.also_accepted):
                continue
            named = [cause[key] or "" for key in ("location", "operation", "template")]
            if any(place in text for place in self.places for text in named):
                return rank
        return None
