"""The hops of this group are those that `backtrail doctor` tries."""

from __future__ import annotations

from tracing.doctor.hops.kafka import HOPS

BROKER = "kafka"

__all__ = ["BROKER", "HOPS"]
