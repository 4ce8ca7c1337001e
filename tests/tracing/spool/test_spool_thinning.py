"""Making room: what matters least is given up first, in its place stands what was lost."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tracing.spool import Shipper, Spool, start_shipper
from tracing.spool.format import SegmentHeader, segment_name
from tracing.spool.reader import READ_BYTES, Batch, SpoolReader, segment_paths
from tracing.spool.tail import Tail
from tracing.spool.thinning import NOTHING, thin

OpenOrders = Callable[..., Spool]
SPOOL_ID = "0123456789abcdef0123456789abcdef"
LEVELS = ("DEBUG", "INFO", "WARN", "ERROR")
SEVERITY = dict(zip(LEVELS, (5, 9, 13, 17), strict=True))


def segment_of(base: Path, lines: list[bytes]) -> Path:
    """One segment with these lines."""
    directory = base / SPOOL_ID
    directory.mkdir(exist_ok=True)
    path = directory / segment_name(0)
    header = SegmentHeader(spool_id=SPOOL_ID, segment=0, first_offset=0, resource={"service.name": "orders"})
    path.write_bytes(header.encode() + b"".join(lines))
    return path


def sent_as(path: Path) -> dict[int, bytes]:
    """The lines of a spool as a collector gets them: by the place in the body of the request."""
    reader, found, offset = SpoolReader(path.parent), {}, 0
    while (batch := reader.read(offset, READ_BYTES)) is not None:
        assert isinstance(batch, Batch)
        offset = batch.offset
        for line in batch.data.split(b"\n")[:-1]:
            found[offset] = line
            offset += len(line) + 1
    reader.close()
    return found


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lines=st.lists(
        st.tuples(st.sampled_from(LEVELS), st.integers(min_value=0, max_value=400)), min_size=1, max_size=60
    ),
    floors=st.lists(st.sampled_from([9, 13]), min_size=1, max_size=2),
    begin_at=st.integers(min_value=0, max_value=60),
)
def test_what_is_kept_keeps_its_offset_and_what_is_not_is_told(
    tmp_path: Path, helpers: Any, lines: list[tuple[str, int]], floors: list[int], begin_at: int
) -> None:
    """Whatever the levels and lengths, once or twice, from any offset on."""
    written = [helpers.line("x" * length, level) for level, length in lines]
    offsets = [sum(map(len, written[:number])) for number in range(len(written) + 1)]
    begin = offsets[min(begin_at, len(written))]
    path = segment_of(tmp_path, written)
    size = path.stat().st_size
    freed = lost = 0
    for floor in floors:
        thinned = thin(path, floor, begin=begin)
        freed += thinned.freed_bytes
        lost += thinned.lost_lines
    assert path.stat().st_size == size - freed
    found = sent_as(path)
    losses = {
        offset: orjson.loads(line)["loss"] for offset, line in found.items() if b'"kind":"loss"' in line
    }
    kept = {offset for offset in found if offset not in losses}
    for number, (level, _) in enumerate(lines):
        offset = offsets[number]
        holes = [loss for loss in losses.values() if loss["from"] <= offset < loss["to"]]
        if offset in kept:
            assert found[offset] + b"\n" == written[number]
            assert not holes
        else:
            assert len(holes) == 1
            assert SEVERITY[level] < max(floors)
            assert offset >= begin
    assert kept <= set(offsets)
    assert sum(loss["count"] for loss in losses.values()) == lost == len(lines) - len(kept)
    assert all(offset == loss["from"] for offset, loss in losses.items())
    tail = Tail.open(path.parent)
    assert tail is not None
    assert tail.end_offset == offsets[-1]
    tail.close()


def test_a_segment_of_warnings_is_left_alone(tmp_path: Path, helpers: Any) -> None:
    """Nothing to give up: the file is not touched."""
    path = segment_of(tmp_path, [helpers.line(f"m{number}", "WARN") for number in range(100)])
    status = path.stat()
    assert thin(path, 13) == NOTHING
    assert path.stat() == status


def test_thinning_frees_what_debug_lines_took(tmp_path: Path, helpers: Any) -> None:
    """Runs of them cost one loss line each."""
    lines = [helpers.line("d" * 300, "DEBUG") for _ in range(50)] + [helpers.line("kept", "ERROR")]
    path = segment_of(tmp_path, lines * 10)
    thinned = thin(path, 9)
    assert thinned.lost_lines == 500
    assert thinned.freed_bytes > 0.95 * sum(map(len, lines)) * 10 * 0.95
    assert path.stat().st_mode & 0o777 == 0o600
    assert [record for record in path.parent.iterdir() if record != path] == []


def test_a_segment_that_has_gone_is_nothing(tmp_path: Path) -> None:
    """It was sent and deleted meanwhile."""
    assert thin(tmp_path / SPOOL_ID / segment_name(0), 9) == NOTHING


def test_a_disk_without_room_leaves_the_segment_as_it_is(
    tmp_path: Path, helpers: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a new file is worth nothing."""
    from tracing.spool import thinning

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    path = segment_of(tmp_path, [helpers.line("d" * 300, "DEBUG") for _ in range(50)])
    before = path.read_bytes()
    monkeypatch.setattr(thinning, "write_whole", full)
    assert thin(path, 9) == NOTHING
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def has_failed(shipper: Shipper, times: int) -> bool:
    """Whether the collector has said no so often."""
    return shipper.stats()["ship_failures"] >= times


def test_a_spool_near_its_bound_makes_room_for_what_matters(
    open_orders: OpenOrders, root: Path, ingest: Any, quick: Any, helpers: Any
) -> None:
    """The collector is away: old DEBUG lines go, errors go on being taken, and each hole is told at last."""
    spool = open_orders(
        service_bytes_max=131_072, segment_bytes_max=8192, recheck_interval_s=0.0, loss_interval_s=0.0
    )
    ingest.answer = lambda _headers, _body: (503, {}, b"")
    shipper: Shipper = start_shipper(
        root, service="orders", url=ingest.url, token=None, spool=spool, limits=quick
    )
    number = 0
    while spool.stats()["lost_thinned"] < 100:
        for _ in range(50):
            spool.write(helpers.line(f"debug {number} {'d' * 200}", "DEBUG"), 5)
            number += 1
        failures = shipper.stats()["ship_failures"] + 1
        helpers.eventually(partial(has_failed, shipper, failures), "a look at the bounds")
    for error in range(20):
        spool.write(helpers.line(f"error {error}", "ERROR"), 17)
    directory = root / "orders" / spool.spool_id
    assert sum(path.stat().st_size for path in segment_paths(directory)) < 131_072
    ingest.answer = None
    assert shipper.flush(30.0)
    shipper.stop(5.0)
    messages = [record["message"] for record in ingest.records()]
    losses = [record["loss"] for record in ingest.records("loss")]
    stats = spool.stats()
    assert messages[-20:] == [f"error {error}" for error in range(20)]
    assert len([message for message in messages if message.startswith("debug")]) == (
        number - stats["lost_thinned"] - stats["lost_over_bound"]
    )
    for reason in ("thinned", "over_bound"):
        told = sum(loss["count"] for loss in losses if loss["reason"] == reason)
        assert told == stats[f"lost_{reason}"]
    assert ingest.conflicts == []
