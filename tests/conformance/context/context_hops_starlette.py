"""The hops of this group are those that `backtrail doctor` tries."""

from __future__ import annotations

from tracing.doctor.hops.starlette import HOPS

__all__ = ["HOPS"]
