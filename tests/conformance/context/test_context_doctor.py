"""`backtrail doctor` on a real broker: it is told where, tries, and leaves nothing there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable

import redis
from context_server import broker_url

TIMEOUT_S = 120.0


def test_a_broker_is_left_as_it_was(need: Callable[[bool, str], None]) -> None:
    """Streams are the doctor's own, and gone afterwards; what was there is there."""
    with broker_url("redis", need) as url:
        client = redis.Redis.from_url(url)
        client.xadd("orders", {"tag": "somebody's"})
        done = subprocess.run(
            [sys.executable, "-m", "tracing.launch", "doctor", "--offline", "--only", "redis", "--json"],
            env={**os.environ, "REDIS_URL": url},
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        hops = json.loads(done.stdout)["hops"]
        assert {hop["hop"]: hop["state"] for hop in hops} == {
            "Redis stream, consumer group": "kept",
            "Redis stream, asyncio": "kept",
            "Redis pub/sub, our envelope": "kept",
        }
        assert client.keys() == [b"orders"]
        assert client.xlen("orders") == 1
