"""Runs one of the shop's services with timestamps that are ahead, as on a machine without NTP.

    python -m collector.demo.skewed MODULE ARGUMENT…

Only what stamps records is put forward. `time.time` itself is left alone: gRPC reckons its deadlines with
it and compares them with the kernel's clock.
"""

from __future__ import annotations

import logging
import os
import runpy
import sys
import time
from types import SimpleNamespace
from typing import Final

AHEAD_VARIABLE: Final = "SHOP_CLOCK_AHEAD_S"


def main() -> None:
    """Put the clock forward, then be the module."""
    ahead_s = int(os.environ[AHEAD_VARIABLE])
    right_ns = time.time_ns

    def ahead_ns() -> int:
        return right_ns() + ahead_s * 1_000_000_000

    time.time_ns = ahead_ns
    # logging stamps its records with `time.time` before Python 3.13 and with `time.time_ns` after
    clock = SimpleNamespace(**{**vars(time), "time": lambda: ahead_ns() / 1e9})
    logging.time = clock  # type: ignore[attr-defined]
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
