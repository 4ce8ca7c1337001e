"""A fault that the shop can have, and what a right verdict about it says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One fault and its known answer."""

    name: str  # as it is typed: `backtrail demo --fault NAME`
    story: str  # what happens, one sentence for the person who watches
    service: str  # where the cause is
    places: tuple[str, ...]  # a right verdict names one of these as location, operation or template
    reached: tuple[str, ...]  # services that must be in the chain before it is worth asking
    leaves_open: bool = False  # a process dies: its span never ends, and the chain has to say so

    def is_named_by(self, verdict: Mapping[str, Any]) -> bool:
        """Whether the verdict's first cause is this fault's service and place.

        Args:
            verdict: as the API gives it (`collector.model.Verdict`).
        """
        causes = verdict.get("causes") or []
        if not causes or causes[0]["service"] != self.service:
            return False
        named = [causes[0].get(key) or "" for key in ("location", "operation", "template")]
        return any(place in text for place in self.places for text in named)
