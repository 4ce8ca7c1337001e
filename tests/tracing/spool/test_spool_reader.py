"""Reading what crashes, full disks and bad memory have left: whole lines at their offsets, and no more."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tracing.spool.format import SegmentHeader, jump_line, loss_line, segment_name
from tracing.spool.reader import READ_BYTES, Batch, Hole, SpoolReader, read_lines, whole_lines

SPOOL_ID = "0123456789abcdef0123456789abcdef"
FILES = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def header(segment: int = 0, first_offset: int = 0, **fields: Any) -> SegmentHeader:
    """A segment's header."""
    resource = {"service.name": "orders"}
    return SegmentHeader(
        spool_id=SPOOL_ID, segment=segment, first_offset=first_offset, resource=resource, **fields
    )


def spool_of(base: Path, *segments: bytes) -> Path:
    """A spool whose segments hold these bytes after their headers, offsets running on."""
    directory = base / SPOOL_ID
    directory.mkdir(exist_ok=True)
    for path in directory.iterdir():
        path.unlink()
    offset = 0
    for number, data in enumerate(segments):
        (directory / segment_name(number)).write_bytes(header(number, offset).encode() + data)
        offset += len(data)
    return directory


def all_lines(helpers: Any, count: int) -> list[bytes]:
    """Lines of different lengths."""
    return [helpers.line(f"{number} {'x' * (number * 37 % 200)}") for number in range(count)]


def expected_offsets(lines: list[bytes]) -> dict[int, bytes]:
    """Each line by its offset."""
    found, offset = {}, 0
    for line in lines:
        found[offset] = line
        offset += len(line)
    return found


@FILES
@given(cut=st.integers(min_value=0, max_value=3000), zeros=st.integers(min_value=0, max_value=5000))
def test_data_ends_at_the_last_newline(tmp_path: Path, helpers: Any, cut: int, zeros: int) -> None:
    """Wherever the file was torn, and however many NULs follow: every whole line, and nothing else."""
    lines = all_lines(helpers, 15)
    data = b"".join(lines)[:cut]
    directory = spool_of(tmp_path, data + bytes(zeros))
    skipped = Counter[str]()
    assert [line for _, line in read_lines(directory, skipped)] == whole_lines(data)
    assert not skipped


@FILES
@given(first=st.integers(min_value=0, max_value=19), count=st.integers(min_value=1, max_value=5))
def test_a_hole_costs_only_the_lines_it_is_in(tmp_path: Path, helpers: Any, first: int, count: int) -> None:
    """NULs where lines were: what comes after keeps its offsets; the hole is counted once."""
    lines = all_lines(helpers, 25)
    holed = lines.copy()
    for number in range(first, first + count):
        holed[number] = bytes(len(lines[number]))
    directory = spool_of(tmp_path, b"".join(holed))
    skipped = Counter[str]()
    found = dict(read_lines(directory, skipped))
    lost = set(range(first, first + count + 1))  # the next newline is that of the line after the hole
    places = list(expected_offsets(lines).items())
    assert found == {offset: line for number, (offset, line) in enumerate(places) if number not in lost}
    assert skipped == {"damaged": 1}


@FILES
@given(
    flips=st.lists(
        st.tuples(st.integers(min_value=0, max_value=10_000), st.integers(min_value=1, max_value=255)),
        min_size=1,
        max_size=4,
    )
)
def test_flipped_bits_cost_the_lines_they_hit(
    tmp_path: Path, helpers: Any, flips: list[tuple[int, int]]
) -> None:
    """Anywhere, headers too: no exception, no endless loop, and no line at another's offset."""
    lines = all_lines(helpers, 40)
    half = len(b"".join(lines[:20]))
    directory = spool_of(tmp_path, b"".join(lines[:20]), b"".join(lines[20:]))
    places = expected_offsets(lines)
    hit: set[int] = set()
    for place, bits in flips:
        path = directory / segment_name(place % 2)
        data = bytearray(path.read_bytes())
        header_bytes = data.index(b"\n") + 1 if b"\n" in data else 0
        where = place // 2 % len(data)
        data[where] ^= bits
        path.write_bytes(data)
        if where >= header_bytes - 1:  # a newline that became something else joins two lines
            offset = where - header_bytes + (half if place % 2 else 0)
            hit |= {
                start for start, line in places.items() if start <= offset + 1 and offset <= start + len(line)
            }
    skipped = Counter[str]()
    found = dict(read_lines(directory, skipped))
    untouched = {offset: line for offset, line in places.items() if offset not in hit}
    readable = {offset: line for offset, line in found.items() if offset in untouched}
    assert all(untouched[offset] == line for offset, line in readable.items())
    if not any(place // 2 % 300 < 200 for place, _ in flips):  # both headers are whole
        assert readable == untouched


def test_a_damaged_header_is_inferred_from_its_neighbours(tmp_path: Path, helpers: Any) -> None:
    """The first segment begins at 0, a later one where the one before ends."""
    lines = all_lines(helpers, 30)
    parts = [b"".join(lines[start : start + 10]) for start in (0, 10, 20)]
    for damaged in range(3):
        directory = spool_of(tmp_path, *parts)
        path = directory / segment_name(damaged)
        path.write_bytes(path.read_bytes().replace(b'"backtrail_spool":1', b'"backtrail_spool":7', 1))
        assert dict(read_lines(directory)) == expected_offsets(lines)


def test_a_changed_offset_in_a_header_is_noticed(tmp_path: Path, helpers: Any) -> None:
    """One wrong digit would give every line of the segment another line's identity."""
    lines = all_lines(helpers, 20)
    directory = spool_of(tmp_path, b"".join(lines[:10]), b"".join(lines[10:]))
    path = directory / segment_name(1)
    offset = len(b"".join(lines[:10]))
    changed = path.read_bytes().replace(b'"first_offset":%d' % offset, b'"first_offset":%d' % (offset + 1), 1)
    path.write_bytes(changed)
    assert dict(read_lines(directory)) == expected_offsets(lines)


def test_a_segment_of_another_spool_is_not_believed(tmp_path: Path, helpers: Any) -> None:
    """Copied here by somebody, under the right name: its header says whose it is."""
    lines = all_lines(helpers, 2)
    directory = spool_of(tmp_path, lines[0])
    stranger = SegmentHeader(spool_id="f" * 32, segment=1, first_offset=7, resource={})
    (directory / segment_name(1)).write_bytes(stranger.encode() + lines[1])
    assert dict(read_lines(directory)) == expected_offsets(lines)


def test_broken_lines_are_skipped_and_counted_by_reason(tmp_path: Path, helpers: Any) -> None:
    """`read_lines` is for those without a collector, so it judges itself."""
    good = helpers.line("good")
    bad = [b"not json\n", b'{"timestamp":1}\n', b"[]\n", b"\xff\xfe\n"]
    directory = spool_of(tmp_path, good + b"".join(bad) + good)
    skipped = Counter[str]()
    found = list(read_lines(directory, skipped))
    assert found == [(0, good), (len(good) + sum(map(len, bad)), good)]
    assert skipped == {"not_json": 1, "wrong_type": 1, "not_object": 1, "not_utf8": 1}


def test_a_batch_is_bounded_and_never_cuts_a_line(tmp_path: Path, helpers: Any) -> None:
    """As many whole lines as fit; a longer line travels alone."""
    lines = [helpers.line("short"), helpers.line("l" * 9000), helpers.line("short again")]
    directory = spool_of(tmp_path, b"".join(lines))
    reader, batches, offset = SpoolReader(directory), [], 0
    while (batch := reader.read(offset, 4096)) is not None:
        assert isinstance(batch, Batch)
        assert batch.offset == offset
        batches.append(batch.data)
        offset = batch.end_offset
    reader.close()
    assert batches == lines


def test_a_reader_follows_a_growing_spool(tmp_path: Path, helpers: Any) -> None:
    """At the end of the data there is no more; a moment later there may be."""
    lines = all_lines(helpers, 4)
    directory = spool_of(tmp_path, lines[0])
    reader = SpoolReader(directory)
    batch = reader.read(0, READ_BYTES)
    assert isinstance(batch, Batch)
    assert reader.read(batch.end_offset, READ_BYTES) is None
    with (directory / segment_name(0)).open("ab") as file:
        file.write(lines[1] + lines[2][:10])
    batch = reader.read(len(lines[0]), READ_BYTES)
    assert isinstance(batch, Batch)
    assert batch.data == lines[1]
    offset = len(lines[0] + lines[1])
    (directory / segment_name(1)).write_bytes(header(1, offset).encode() + lines[3])
    batch = reader.read(offset, READ_BYTES)
    assert isinstance(batch, Batch)
    assert (batch.offset, batch.data) == (offset, lines[3])
    reader.close()


def test_a_missing_segment_is_a_hole(tmp_path: Path, helpers: Any) -> None:
    """In the middle it is damage, at the beginning somebody deleted it."""
    lines = all_lines(helpers, 3)
    directory = spool_of(tmp_path, *lines)
    (directory / segment_name(1)).unlink()
    reader = SpoolReader(directory)
    begin, end = len(lines[0]), len(lines[0] + lines[1])
    assert reader.read(begin, READ_BYTES) == Hole(begin, end, "damaged")
    (directory / segment_name(0)).unlink()
    reader.close()
    assert SpoolReader(directory).read(0, READ_BYTES) == Hole(0, end, "deleted")


def test_a_replaced_segment_is_opened_again(tmp_path: Path, helpers: Any) -> None:
    """A file that was written anew under the same name is what counts."""
    lines = all_lines(helpers, 2)
    directory = spool_of(tmp_path, lines[0])
    reader = SpoolReader(directory)
    assert reader.read(len(lines[0]), READ_BYTES) is None
    path = directory / segment_name(0)
    path.unlink()
    path.write_bytes(header().encode() + lines[0] + lines[1])
    reader.read(len(lines[0]), READ_BYTES)
    batch = reader.read(len(lines[0]), READ_BYTES)
    assert isinstance(batch, Batch)
    assert batch.data == lines[1]
    reader.close()


def thinned_spool(base: Path, helpers: Any, hole: int) -> tuple[Path, bytes, bytes, bytes, int]:
    """A thinned segment: a line, a loss line in place of `hole` bytes, another line."""
    before, after = helpers.line("before"), helpers.line("after")
    begin, end = len(before), len(before) + hole
    loss = loss_line("orders", 0, reason="thinned", count=3, begin=begin, end=end)
    assert len(loss) <= hole
    directory = base / SPOOL_ID
    directory.mkdir()
    data = header(thinned=True).encode() + before + loss + jump_line(end) + after
    (directory / segment_name(0)).write_bytes(data)
    return directory, before, loss, after, end


def test_a_thinned_hole_travels_as_a_loss_line_of_its_length(tmp_path: Path, helpers: Any) -> None:
    """Blanks fill the loss line up, so that every offset in the request is a place in the body."""
    directory, before, loss, after, end = thinned_spool(tmp_path, helpers, 700)
    batch = SpoolReader(directory).read(0, READ_BYTES)
    assert isinstance(batch, Batch)
    assert batch.data == before + loss[:-1] + b" " * (700 - len(loss)) + b"\n" + after
    assert batch.data.index(after) == end
    assert [offset for offset, _ in read_lines(directory)] == [0, len(before), end]


def test_a_wide_thinned_hole_begins_a_new_batch(tmp_path: Path, helpers: Any) -> None:
    """Nobody is sent megabytes of blanks."""
    directory, before, loss, after, end = thinned_spool(tmp_path, helpers, 1_000_000)
    reader = SpoolReader(directory)
    first = reader.read(0, READ_BYTES)
    assert isinstance(first, Batch)
    assert first.data == before + loss
    second = reader.read(first.end_offset, READ_BYTES)
    assert isinstance(second, Batch)
    assert (second.offset, second.data) == (end, after)
    assert reader.read(second.end_offset, READ_BYTES) is None
    again = reader.read(0, READ_BYTES)
    assert again == first


@pytest.mark.parametrize("content", [b"", b"\n", b"garbage", b"\0" * 5000, b"{}\n"])
def test_a_spool_that_cannot_be_placed_has_no_lines(tmp_path: Path, content: bytes) -> None:
    """Nothing is invented for a segment without a header, in a directory without neighbours."""
    directory = tmp_path / SPOOL_ID
    directory.mkdir()
    (directory / segment_name(5)).write_bytes(content)
    assert list(read_lines(directory)) == []
    assert list(read_lines(tmp_path / "absent")) == []
