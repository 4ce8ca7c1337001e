"""Admission: which records are taken, which are mended, which are refused, and why."""

from __future__ import annotations

from collector.admit.fields import line_of
from collector.admit.limits import MENDS, REASONS, REFUSALS, AdmitLimits
from collector.admit.lines import MESSAGE_CHARS_MAX, Admitted, RefusedLine, admit_lines
from collector.admit.notes import Close, Loss

__all__ = [
    "MENDS",
    "MESSAGE_CHARS_MAX",
    "REASONS",
    "REFUSALS",
    "AdmitLimits",
    "Admitted",
    "Close",
    "Loss",
    "RefusedLine",
    "admit_lines",
    "line_of",
]
