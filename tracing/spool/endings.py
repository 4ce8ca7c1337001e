"""Endings that `atexit` does not see: workers of `multiprocessing` and Celery leave by `os._exit`.

Without this, each of them would look as if it had been killed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Final

# Both run the finalizers of `util` at the end of a child, the ones with a priority last of all; billiard
# is Celery's copy of the standard library's package.
_PACKAGES: Final = ("multiprocessing", "billiard")
_AFTER_ALL_OTHERS: Final = -1000


def close_at_the_end_of_a_worker(close: Callable[[str], None]) -> None:
    """Have `close("exit")` called when this process is a worker and ends in order.

    Does nothing in any other process, nor when the packages have not been imported.
    """
    for package in _PACKAGES:
        process, util = sys.modules.get(f"{package}.process"), sys.modules.get(f"{package}.util")
        if process is None or util is None:
            continue
        if type(process.current_process()).__name__ != "_MainProcess":
            util.Finalize(None, close, args=("exit",), exitpriority=_AFTER_ALL_OTHERS)
    celery_signals = sys.modules.get("celery.signals")
    if celery_signals is not None:  # its pool runs no finalizers, but this, in each child that ends in order
        celery_signals.worker_process_shutdown.connect(lambda **_: close("exit"), weak=False)
