"""The slot that finished lines are written to. `runtime` fills it; `logs` and `spans` only write.

Keeping the slot in a room of its own is what lets the hot path know nothing of spools, exporters and
configuration.
"""

from __future__ import annotations

from typing import Protocol


class Sink(Protocol):
    """Takes finished lines. Never raises, never blocks on anything but the write, safe from any thread."""

    def write(self, line: bytes, severity_number: int) -> None:
        """Take one line, its newline included; `severity_number` decides what is shed first."""
        ...


class NullSink:
    """Takes everything and keeps nothing: before `configure()`, and with `TRACING_ENABLED=false`."""

    def write(self, line: bytes, severity_number: int) -> None:
        """Forget the line."""


class _Slot:
    """One mutable place, so that a hot path can hold on to it and still see a later `configure()`."""

    __slots__ = ("sink",)

    def __init__(self) -> None:
        self.sink: Sink = NullSink()


slot = _Slot()
