"""Frames: what is written is read back, and damage costs one frame."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from collector.admit import Close, Loss
from collector.wal import Envelope, WalBatch, WalFrame
from collector.wal.frames import _WINDOW_BYTES, HEAD, MAGIC, Damage, cut, scan

ORIGIN = "ab" * 16


def written(*batches: WalBatch, frame_bytes_max: int = 2048) -> tuple[bytes, list[WalFrame], list[int]]:
    """The bytes of batches as a log would write them, the frames in them, and where each ends."""
    data, frames, ends, seq = b"", [], [], 1
    for batch in batches:
        for part in cut(batch, frame_bytes_max=frame_bytes_max):
            data += b"".join(part.at(seq))
            frames.append(part.placed(seq))
            ends.append(len(data))
            seq += part.numbers
    return data, frames, ends


def read_from(data: bytes) -> Callable[[int, int], bytes]:
    return lambda offset, size: data[offset : offset + size]


def frames_in(data: bytes) -> list[WalFrame]:
    return [found[0] for found in scan(read_from(data), 0, len(data)) if not isinstance(found, Damage)]


lines = st.lists(st.binary(min_size=1, max_size=300).map(lambda raw: raw.hex().encode() + b"\n"), max_size=30)


@st.composite
def batches(draw: st.DrawFn) -> WalBatch:
    """A batch of a spool or of a foreign request, with lines missing in between, or longer than they were."""
    kept = draw(lines)
    is_spool = draw(st.booleans())
    jumps, first = [], draw(st.integers(0, 2**40))
    end = first + (sum(map(len, kept)) if is_spool else len(kept))
    for index in sorted(draw(st.sets(st.integers(0, max(len(kept) - 1, 0)), max_size=len(kept)))):
        grown = len(kept[index - 1]) - 1 if is_spool and index else 0
        by = draw(st.integers(-grown, 1000).filter(bool))
        jumps.append((index, by))
        end += by
    return WalBatch(
        Envelope(
            received_ns=draw(st.integers(0, 2**62)),
            resource=draw(st.dictionaries(st.text(max_size=20), st.text(max_size=20), max_size=3)),
            origin=ORIGIN,
            digest=None if is_spool else "cd" * 16,
            first=first,
            end=end,
            jumps=jumps,
            refused={"not_json": 3},
            losses=[Loss(reason="thinned", count=2)],
            close=Close(ended="killed"),
        ),
        b"".join(kept),
    )


@given(st.lists(batches(), min_size=1, max_size=4))
def test_what_is_written_is_read_back(given_batches: list[WalBatch]) -> None:
    """Lines, their identities and the facts of each batch survive; positions run on without a hole."""
    data, frames, _ = written(*given_batches)
    assert frames_in(data) == frames
    at = 0
    for batch in given_batches:
        parts = []
        while not parts or parts[-1].envelope.refused != batch.envelope.refused:
            parts.append(frames[at])
            at += 1
        assert b"".join(part.lines for part in parts) == batch.lines
        assert [part.envelope.first for part in parts[1:]] == [part.envelope.end for part in parts[:-1]]
        assert (parts[0].envelope.first, parts[-1].envelope.end) == (batch.envelope.first, batch.envelope.end)
        whole = WalFrame(1, batch.lines.count(b"\n"), batch.envelope, batch.lines)
        assert [uid for part in parts for uid in part.uids() or ()] == whole.uids()
        for part in parts:
            for uid in part.uids() or ():
                place = int(uid.removeprefix(f"{ORIGIN}-"))
                assert part.envelope.first <= place < part.envelope.end, "a frame settles what is in it"
        assert [part.envelope.losses for part in parts[:-1]] == [[]] * (len(parts) - 1)
    assert at == len(frames)


@given(st.lists(batches(), min_size=1, max_size=3), st.data())
def test_a_torn_tail_costs_the_torn_frame(given_batches: list[WalBatch], data: st.DataObject) -> None:
    """Cut at any byte: every frame before the cut is there, and nothing else."""
    written_bytes, frames, ends = written(*given_batches)
    size = data.draw(st.integers(0, len(written_bytes)))
    assert frames_in(written_bytes[:size]) == [
        frame for frame, end in zip(frames, ends, strict=True) if end <= size
    ]


@settings(max_examples=300)
@given(st.lists(batches(), min_size=2, max_size=4), st.data())
def test_a_flipped_bit_costs_one_frame(given_batches: list[WalBatch], data: st.DataObject) -> None:
    """Flip any bit: exactly the frame around it is gone, and the damage is reported if more follows."""
    written_bytes, frames, ends = written(*given_batches)
    bit = data.draw(st.integers(0, len(written_bytes) * 8 - 1))
    damaged = bytearray(written_bytes)
    damaged[bit // 8] ^= 1 << (bit % 8)
    hit = next(index for index, end in enumerate(ends) if bit // 8 < end)
    found = list(scan(read_from(bytes(damaged)), 0, len(damaged)))
    assert [one[0] for one in found if not isinstance(one, Damage)] == frames[:hit] + frames[hit + 1 :]
    start = ends[hit - 1] if hit else 0
    expected = [Damage(start, ends[hit] - start)] if hit < len(frames) - 1 else []
    assert [one for one in found if isinstance(one, Damage)] == expected


def test_a_length_that_lies_does_not_swallow_the_rest() -> None:
    """A damaged length may point beyond the next frames; these are found all the same."""
    data, frames, _ = written(*(WalBatch(Envelope(received_ns=n), b"{}\n") for n in range(3)))
    damaged = bytearray(data)
    damaged[4:8] = (2**31).to_bytes(4, "little")
    assert frames_in(bytes(damaged)) == frames[1:]


def test_noise_between_frames_is_passed_over() -> None:
    """Even noise that is full of magics and of whole windows of nothing."""
    first, frames, _ = written(WalBatch(Envelope(received_ns=1), b"{}\n"))
    noise = MAGIC * 700 + b"\0" * (5 * 1024**2) + MAGIC[:3]
    assert frames_in(first + noise + first) == frames * 2
    found = list(scan(read_from(first + noise + first), 0, 2 * len(first) + len(noise)))
    assert found[1] == Damage(len(first), len(noise))


def test_a_magic_that_lies_across_two_reads_is_found() -> None:
    """Files are read in windows; a frame after damage may begin at the very edge of one."""
    frame, frames, _ = written(WalBatch(Envelope(received_ns=1), b"{}\n"))
    for short_of_edge in range(len(MAGIC) + 1):
        data = b"\0" * (_WINDOW_BYTES - short_of_edge) + frame
        assert frames_in(data) == frames


def test_frames_are_small_and_a_long_line_goes_alone() -> None:
    """One flipped bit costs at most `frame_bytes_max`, or one line that is longer."""
    long_line = b"x" * 5000 + b"\n"
    short = b"y" * 99 + b"\n"
    batch = WalBatch(Envelope(received_ns=1, origin=ORIGIN, end=25_000), short * 20 + long_line + short * 20)
    parts = cut(batch, frame_bytes_max=2048)
    assert b"".join(part.lines for part in parts) == batch.lines
    assert long_line in [part.lines for part in parts]
    assert all(len(part.payload) <= 2048 for part in parts if part.lines != long_line)


def test_a_frame_without_lines_has_a_number_of_its_own() -> None:
    """So that "after this number" never means two places."""
    note = WalBatch(Envelope(received_ns=1, refused={"not_json": 9}))
    data, frames, _ = written(note, note, WalBatch(Envelope(received_ns=1), b"{}\n{}\n"))
    assert [(frame.first_seq, frame.last_seq) for frame in frames_in(data)] == [(1, 1), (2, 2), (3, 4)]
    assert frames[0].uids() is None and frames[0].split() == []


def test_the_head_is_what_the_format_says() -> None:
    """The layout is on disk: changing it needs another magic."""
    (part,) = cut(WalBatch(Envelope(received_ns=7), b"{}\n"), frame_bytes_max=2048)
    head, payload = part.at(5)
    assert payload == b'{"received_ns":7}\n{}\n'
    assert HEAD.unpack(head)[:4] == (b"\xffBW1", len(payload), 5, 1)
