"""What keeps a store sound: now and then its files are read through, what was damaged is built anew, and what
was deleted leaves the disk.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Final, Protocol, runtime_checkable

from collector.errors import CollectorError
from collector.store.contract import Store

logger = logging.getLogger(__name__)

INTERVAL_S: Final = 60.0  # between two looks whether something waits to be built anew


@runtime_checkable
class Mendable(Protocol):
    """A store that finds damage in its own files, and can undo some of it. Any thread may ask it to."""

    def scrub(self, is_stopping: Callable[[], bool]) -> int:
        """Read every file and compare its checksum; set damaged parts aside; how many there were."""
        ...

    def purge_beside(self, is_stopping: Callable[[], bool]) -> int:
        """Take the bytes of deleted records off the disk; how many parts of the store held any."""
        ...

    def rebuild(self, is_stopping: Callable[[], bool]) -> int:
        """Build anew what was set aside, where that is possible; how many records are back."""
        ...


class Mending:
    """Looks after the store's files, in a thread of its own: neither the start nor a sender waits for it.

    Args:
        store: one that is not `Mendable` is left alone.
        scrub_interval_s: time between two scrubs.
        interval_s: time between two looks whether something waits to be built anew.
    """

    def __init__(self, store: Store, *, scrub_interval_s: float, interval_s: float = INTERVAL_S) -> None:
        self._store = store if isinstance(store, Mendable) else None
        self._scrub_interval_s = scrub_interval_s
        self._interval_s = interval_s
        self._scrubbed_s = time.monotonic()  # what is newest was read when the store was opened
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="backtrail-mending", daemon=True)
        self._counts: Counter[str] = Counter({"scrubs": 0, "failures": 0})

    def start(self) -> None:
        """Begin, with what was found damaged when the store was opened."""
        if self._store is not None:
            self._thread.start()

    def stop(self) -> None:
        """End; a rebuilding that is under way is given up, and begun again at the next start."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def stats(self) -> dict[str, int]:
        """Scrubs that were done, and looks that failed, since the start."""
        return dict(self._counts)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._look()
            except (CollectorError, OSError) as error:
                self._counts["failures"] += 1
                logger.warning("the store cannot be mended now: %s", error)
            self._stopping.wait(self._interval_s)

    def _look(self) -> None:
        assert self._store is not None
        if time.monotonic() - self._scrubbed_s >= self._scrub_interval_s:
            self._scrubbed_s = time.monotonic()
            self._store.scrub(self._stopping.is_set)
            self._store.purge_beside(self._stopping.is_set)
            self._counts["scrubs"] += 1
        self._store.rebuild(self._stopping.is_set)
