"""Runs one contender: `python -m tests.bench.child MODULE:FUNCTION DIRECTORY OPERATIONS`.

Prints the seconds that the function measured; set-up and clean-up are not in them.
"""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path


def main() -> None:
    """Call the function and print what it measured."""
    module, _, function = sys.argv[1].partition(":")
    seconds = getattr(importlib.import_module(module), function)(Path(sys.argv[2]), int(sys.argv[3]))
    print(seconds, flush=True)
    os._exit(0)  # a peer's exit handlers, up to 30 s with a dead backend, are not what is measured here


if __name__ == "__main__":
    main()
