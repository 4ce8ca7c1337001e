"""Looking up what may have come before costs what its window holds, not what the store holds."""

from __future__ import annotations

from pathlib import Path

from collector.store.contract import Appended
from collector.store.embedded import EmbeddedStore
from collector.testing.store_samples import DAY_NS, START_NS, log, numbered


def test_days_before_the_window_are_not_asked(tmp_path: Path) -> None:
    """The day in which the window begins still is; without a window every day."""
    store = EmbeddedStore.open(tmp_path)
    days = [START_NS + day * DAY_NS for day in range(3)]
    store.append(numbered([log(n, uid=f"u-{n}", received_ns=days[n]) for n in range(3)]))
    store.commit()
    again = [log(n, uid=f"u-{n}", received_ns=days[2]) for n in range(3)]
    since_ns = days[1] + DAY_NS // 2
    windowed = store.append(numbered(again, first=4), check_uids=True, check_since_ns=since_ns)
    assert windowed == Appended(stored=1, already_stored=2)
    assert store.append(numbered(again, first=7), check_uids=True) == Appended(stored=0, already_stored=3)
    store.close()
