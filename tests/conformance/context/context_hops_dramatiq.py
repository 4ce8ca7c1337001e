"""dramatiq on Redis."""

from __future__ import annotations

import os

from context_hop import CONTEXTS
from context_tasks_dramatiq import hops
from dramatiq.brokers.redis import RedisBroker

BROKER = "redis"

HOPS = hops("Redis", lambda: RedisBroker(url=os.environ["BROKER_URL"]), CONTEXTS, 100)
