"""SIGKILL at any moment, a full disk, leftovers of a crash: what was committed is there, once."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest

from collector.errors import CollectorError, DataDirectoryInUse
from collector.store.embedded import EmbeddedStore, StoreLimits
from collector.store.embedded.partition import DICTIONARY
from collector.store.embedded.partitions import PARTITIONS
from collector.store.embedded.state import STATE
from collector.testing.store_samples import DAY_NS, START_NS, log, numbered

RECORDS = numbered(
    [
        # Two days of arrival and many profiles, so that a commit is several files' work.
        log(
            n, received_ns=START_NS + n % 2 * DAY_NS, logger=f"logger-{n % 50}", trace_id=f"{n // 9 + 1:032x}"
        )
        for n in range(6_000)
    ]
)
LIMITS = StoreLimits(partition_records_max=1_500)

# Appends and commits in small batches, and says after each commit what is durable.
WRITER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from test_store_crash import LIMITS, RECORDS
from collector.store.embedded import EmbeddedStore

store = EmbeddedStore.open(Path(sys.argv[1]), limits=LIMITS)
first = store.stats().durable_seq
print("open", first, flush=True)
for start in range(first, len(RECORDS), 50):
    store.append(RECORDS[start : start + 50])
    print("durable", store.commit(), flush=True)
print("done", flush=True)
"""


def start_writer(directory: Path, repository: Path) -> subprocess.Popen[str]:
    """A process that writes `RECORDS` from where the last one was killed."""
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(directory), "-", str(Path(__file__).parent)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=repository,
    )


@pytest.mark.timeout(240)
def test_sigkill_during_commits_loses_nothing_and_doubles_nothing(tmp_path: Path, repository: Path) -> None:
    """Every commit that was answered holds; the store opens each time; the replay ends complete."""
    rng = random.Random(7)
    directory, done = tmp_path / "store", False
    for _ in range(12):
        durable, lines = 0, rng.randrange(1, 20)
        with start_writer(directory, repository) as writer:
            assert writer.stdout is not None
            for line in writer.stdout:
                word, _, number = line.partition(" ")
                if word == "done":
                    done = True
                    break
                durable = int(number)
                lines -= 1
                if not lines:
                    break
            writer.kill()
        with_reader = EmbeddedStore.open(directory, read_only=True)
        stored = [record.seq for record in with_reader.search(limit=10_000).records]
        with_reader.close()
        assert len(stored) == len(set(stored))
        assert set(range(1, durable + 1)) <= set(stored)
        if done:
            break
    store = EmbeddedStore.open(directory, limits=LIMITS)
    assert store.stats().damaged_partitions == 0
    store.append(RECORDS)
    store.commit()
    assert sorted(record.seq for record in store.search(limit=10_000).records) == list(range(1, 6_001))
    store.close()


DISK_FULL = """
import resource, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_store_crash import LIMITS, RECORDS
from collector.errors import StoreFailed
from collector.store.embedded import EmbeddedStore

store = EmbeddedStore.open(Path(sys.argv[1]), limits=LIMITS)
store.append(RECORDS[:100])
print(store.commit())
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
for bytes_max in (0, 1_000, 20_000, 60_000):
    resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_max, hard))
    try:
        store.append(RECORDS)
        store.commit()
    except StoreFailed:
        pass
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert store.count() >= 100
    assert len(store.trace(RECORDS[0].trace_id, records_max=99)) == 9
store.append(RECORDS)
print(store.commit(), store.count())
store.close()
"""


@pytest.mark.timeout(120)
def test_a_full_disk_is_an_error_and_space_makes_it_good(tmp_path: Path, repository: Path) -> None:
    """The store goes on reading, and takes everything again once there is room, without a restart.

    A limit on the size of files stands in for the full disk: tantivy meets it at the same places.
    """
    directory = tmp_path / "store"
    finished = subprocess.run(
        [sys.executable, "-c", DISK_FULL, str(directory), str(Path(__file__).parent)],
        capture_output=True,
        text=True,
        cwd=repository,
        timeout=100,
    )
    assert (finished.stdout, finished.returncode) == ("100\n6000 6000\n", 0), finished.stderr
    store = EmbeddedStore.open(directory)
    assert store.count() == 6_000
    assert store.stats().durable_seq == 6_000
    store.close()


def test_what_a_crash_leaves_half_made_is_cleared_away(tmp_path: Path) -> None:
    """An unfinished partition, an unfinished removal, a torn line of the dictionary."""
    store = EmbeddedStore.open(tmp_path)
    store.append(RECORDS[:100])
    store.commit()
    store.abandon()
    home = tmp_path / PARTITIONS
    (home / ".new-2025-11-26.0" / "index").mkdir(parents=True)
    (home / ".dropped-2025-11-20.0").mkdir()
    (partition,) = (path for path in home.iterdir() if path.name.startswith("2025-11-24"))
    with (partition / DICTIONARY).open("ab") as dictionary:
        dictionary.write(b'0badc0de ["log","INFO",9')
    store = EmbeddedStore.open(tmp_path)
    assert not list(home.glob(".*"))
    store.append(RECORDS[100:200])
    store.commit()
    store.abandon()
    store = EmbeddedStore.open(tmp_path)
    assert store.stats().damaged_partitions == 0
    assert store.count() == 200
    store.close()


def test_a_lost_state_only_means_more_to_replay(tmp_path: Path) -> None:
    """`state.json` is written without waiting for the disk; the partitions know what they have."""
    store = EmbeddedStore.open(tmp_path)
    store.append(RECORDS[:500])
    store.commit()
    store.abandon()
    (tmp_path / STATE).write_bytes(b'{"format":1,"dura')
    store = EmbeddedStore.open(tmp_path)
    assert store.stats().durable_seq == 0
    store.append(RECORDS[:500])
    assert store.count() == 500
    store.close()


def test_only_one_writer(tmp_path: Path) -> None:
    """Also within a process; readers are welcome, and the next writer after the first."""
    store = EmbeddedStore.open(tmp_path)
    with pytest.raises(DataDirectoryInUse):
        EmbeddedStore.open(tmp_path)
    reader = EmbeddedStore.open(tmp_path, read_only=True)
    reader.close()
    store.close()
    EmbeddedStore.open(tmp_path).close()


def test_a_closed_store_says_so(tmp_path: Path) -> None:
    """An empty answer would be a wrong one, and a late append would go past the lock."""
    store = EmbeddedStore.open(tmp_path)
    store.append(RECORDS[:10])
    store.close()
    for use in (store.count, store.stats, store.commit, lambda: store.append(RECORDS[10:20])):
        with pytest.raises(CollectorError, match="closed"):
            use()
    store.close()
