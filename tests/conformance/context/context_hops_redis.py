"""The hops of this group are those that `backtrail doctor` tries; the envelope is ours alone."""

from __future__ import annotations

import sys

from tracing.doctor.hops import redis

BROKER = "redis"

IS_OURS = sys.argv[1:2] == ["ours"]

HOPS = [hop for hop in redis.HOPS if IS_OURS or "our envelope" not in hop.name]

__all__ = ["BROKER", "HOPS"]
