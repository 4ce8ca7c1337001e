"""The running service, and a data directory without one."""

from __future__ import annotations

from collector.service.local import LocalCollector, open_local
from collector.service.running import Collector

__all__ = ["Collector", "LocalCollector", "open_local"]
