"""Imported by Python itself before the program begins: turns tracing on for `backtrail run`.

Python imports one `sitecustomize` only, the first on the path, and that is this one; so the one that would
have been imported without us comes first. Whatever goes wrong here, the program runs: it is told once, on
standard error.
"""

from __future__ import annotations

import importlib.util
import sys
from importlib.machinery import PathFinder
from pathlib import Path

_HERE = Path(__file__).resolve().parent


def _run_the_next_sitecustomize() -> None:
    others = [entry for entry in sys.path if not _is_here(entry)]
    spec = PathFinder.find_spec("sitecustomize", others)
    if spec is None or spec.loader is None:
        return
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)


def _is_here(entry: str) -> bool:
    try:
        return Path(entry).resolve() == _HERE
    except OSError:
        return False


def _turn_tracing_on() -> None:
    try:
        import tracing

        tracing.configure()
        tracing.instrument()
    except Exception as error:
        sys.stderr.write(f"backtrail: this process is not traced: {type(error).__name__}: {error}\n")


try:
    _run_the_next_sitecustomize()
finally:
    _turn_tracing_on()
