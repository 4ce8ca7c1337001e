"""The hops of this group are those that `backtrail doctor` tries."""

from __future__ import annotations

from tracing.doctor.hops.rabbitmq import HOPS

BROKER = "rabbitmq"

__all__ = ["BROKER", "HOPS"]
