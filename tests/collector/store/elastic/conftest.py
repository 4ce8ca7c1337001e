"""Live Elasticsearch servers for the tests of the store on them."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[4] / "deploy" / "dev"))

from devservers.fixtures import elasticsearch

__all__ = ["elasticsearch"]
