"""What all tests share: where the recorded faults are, and how a missing server is treated."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
SHARED_RCA = REPOSITORY.parent / "shared" / "data" / "rca"


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of this checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared_rca() -> Path:
    """Folder of the recorded faults; skips where the checkout has none beside it."""
    if not SHARED_RCA.is_dir():
        pytest.skip("no recorded faults beside this checkout (../shared/data/rca)")
    return SHARED_RCA


@pytest.fixture(scope="session")
def need() -> Callable[[bool, str], None]:
    """Call `need(present, what)`: skips loudly without a server or tool, fails where CI=true."""

    def check(present: bool, what: str) -> None:
        if present:
            return
        if os.environ.get("CI") == "true":
            pytest.fail(f"CI needs {what}, and it is not here")
        pytest.skip(f"needs {what}")

    return check


@pytest.fixture
def free_port() -> Callable[[], int]:
    """Call it for a loopback port that nobody listened on a moment ago."""

    def pick() -> int:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
            return port

    return pick
