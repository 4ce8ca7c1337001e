"""`backtrail demo`: says what is missing before anything starts."""

from __future__ import annotations

import importlib.util
from typing import Final

from collector.cli_source import UsageError
from collector.errors import Unreachable
from collector.settings import did_you_mean

NEEDED: Final = ("celery", "flask", "grpc", "httpx", "starlette", "uvicorn")


def show_demo(fault: str, *, keep: bool, as_json: bool, seed: int) -> int:
    """Play a fault; the exit status is 0 only when the verdict names it.

    Raises:
        UsageError: there is no such fault.
        Unreachable: a package that the shop is made of is not installed.
    """
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise Unreachable(
            f"the demo needs {', '.join(missing)}; install it with: pip install 'backtrail[demo]'"
        )
    from collector.demo.faults import FAULTS
    from collector.demo.run import run_demo

    if fault not in FAULTS:
        raise UsageError(
            f"--fault {fault}: no such fault{did_you_mean(fault, FAULTS)}; there are {', '.join(FAULTS)}"
        )
    return run_demo(fault, keep=keep, as_json=as_json, seed=seed)
