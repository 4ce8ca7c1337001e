"""The running service, and a data directory without one."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collector.service.local import LocalCollector, open_local
    from collector.service.running import Collector

# Loaded when asked for: a command on a data directory is over before a web server would be loaded.
_HOMES: Final = {
    "Collector": "collector.service.running",
    "LocalCollector": "collector.service.local",
    "open_local": "collector.service.local",
}

__all__ = ["Collector", "LocalCollector", "open_local"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
