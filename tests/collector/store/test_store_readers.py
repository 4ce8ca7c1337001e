"""Reading while somebody writes: in threads of the writer's process, and in another process."""

from __future__ import annotations

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import pytest

from collector.errors import CollectorError
from collector.store.conditions import Equals, Words
from collector.store.embedded import EmbeddedStore, StoreLimits
from collector.testing.store_samples import DAY_NS, START_NS, log, numbered

TRACE_RECORDS = 5
LIMITS = StoreLimits(partition_records_max=700)
RECORDS = numbered(
    [
        log(n, trace_id=f"{n // TRACE_RECORDS + 1:032x}", logger=f"l{n % 30}", message=f"number {n} placed")
        for n in range(4_000)
    ]
)
DEADLINE_S = 60


def test_threads_read_while_one_writes(tmp_path: Path) -> None:
    """Every answer is of one moment per partition: no record half there, none gone again."""
    store = EmbeddedStore.open(tmp_path, limits=LIMITS)
    done = Event()

    def read() -> int:
        seen = questions = 0
        while not done.is_set():
            count = store.count(Words(("placed",)))
            assert count >= seen
            seen = count
            page = store.search(limit=20)
            stamps = [record.timestamp_ns for record in page.records]
            assert stamps == sorted(stamps, reverse=True)
            trace = store.trace(RECORDS[0].trace_id or "", records_max=99)
            assert len(trace) in (0, TRACE_RECORDS)
            assert store.stats().records >= seen
            store.services()
            store.find_traces(limit=3)
            store.facets("logger", Equals("service", "orders"))
            questions += 1
        return questions

    with ThreadPoolExecutor(3) as pool:
        readers = [pool.submit(read) for _ in range(3)]
        for start in range(0, len(RECORDS), 100):
            store.append(RECORDS[start : start + 100])
            store.commit()
        done.set()
        assert all(reader.result() for reader in readers)
    assert store.count() == len(RECORDS)
    store.close()


WRITER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_store_readers import LIMITS, RECORDS
from collector.store.embedded import EmbeddedStore

store = EmbeddedStore.open(Path(sys.argv[1]), limits=LIMITS)
for start in range(0, len(RECORDS), 50):
    store.append(RECORDS[start : start + 50])
    print(store.commit(), flush=True)
sys.stdin.read()
store.close()
"""


@pytest.mark.timeout(120)
def test_another_process_reads_what_is_committed(tmp_path: Path, repository: Path) -> None:
    """Without being told, through new partitions and merges; never less than before."""
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path), str(Path(__file__).parent)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=repository,
    )
    try:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "50\n"
        reader = EmbeddedStore.open(tmp_path, read_only=True, limits=StoreLimits(reload_interval_s=0.01))
        seen, deadline = 50, time.monotonic() + DEADLINE_S
        while seen < len(RECORDS) or reader.stats().durable_seq < len(RECORDS):
            assert time.monotonic() < deadline
            count = reader.count()
            assert count >= seen
            seen = count
            assert len(reader.trace(RECORDS[0].trace_id or "", records_max=99)) == TRACE_RECORDS
            assert len(reader.search(limit=1_000).records) >= min(count, 1_000)
            assert reader.facets("service")[0].count >= count
        assert reader.stats().damaged_partitions == 0
        for forbidden in (reader.commit, lambda: reader.append(RECORDS[:1]), reader.purge):
            with pytest.raises(CollectorError, match="reading only"):
                forbidden()
        reader.close()
    finally:
        writer.communicate("")
    assert writer.returncode == 0


def test_a_reader_of_nothing(tmp_path: Path) -> None:
    """A directory that is not there yet is an empty store; what appears in it is seen."""
    reader = EmbeddedStore.open(tmp_path / "store", read_only=True)
    assert reader.stats().records == 0
    store = EmbeddedStore.open(tmp_path / "store")
    store.append(numbered([log(1), log(2, received_ns=START_NS + DAY_NS)]))
    store.commit()
    reader.refresh()
    assert reader.count() == 2
    assert store.drop_before(START_NS + DAY_NS) == 1
    reader.refresh()
    assert reader.count() == 1
    reader.close()
    store.close()


def test_what_is_dropped_gives_its_space_back(tmp_path: Path) -> None:
    """The oldest days go until the rest fits; the newest stays."""
    store = EmbeddedStore.open(tmp_path)
    days = 4
    for day in range(days):
        records = [log(n, uid=f"{day}-{n}", received_ns=START_NS + day * DAY_NS) for n in range(200)]
        store.append(numbered(records, first=1 + 200 * day))
    store.commit()
    before = store.stats()
    assert before.partitions == days
    assert store.shrink_to(before.bytes) == 0
    assert store.shrink_to(before.bytes // 2) in (400, 600)
    after = store.stats()
    on_disk = sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
    assert after.bytes <= before.bytes // 2
    assert on_disk < after.bytes + 2_000
    assert store.shrink_to(0) == after.records - 200
    assert {record.uid[0] for record in store.search(limit=999).records} == {"3"}
    # The day that was dropped does not come back by a replay.
    store.append(numbered([log(1, uid="0-1")], first=1))
    store.commit()
    assert store.count() == 200
    store.close()
