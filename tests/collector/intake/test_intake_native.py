"""Native intake: what is acknowledged is durable, once, and in its place."""

from __future__ import annotations

import gzip
import json
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.admit import REASONS
from collector.client import IMPORT_HEADERS, import_bodies
from collector.errors import Overloaded, Refused, StoreFailed
from collector.intake import Intake, IntakeLimits, open_log
from collector.ledger import Ledger
from collector.wal import Wal, WalLimits
from tracing.line import encode
from tracing.spool.format import SegmentHeader, close_line, loss_line

SPOOL = "0123456789abcdef" * 2
LIMITS = WalLimits(segment_bytes_max=65_536, frame_bytes_max=4096, disk_free_bytes_min=0)


def line(number: int, **fields: Any) -> bytes:
    return encode(
        {
            "timestamp": 1_700_000_000_000_000_000 + number,
            "level": "INFO",
            "service": "orders",
            "message": f"line {number}",
            **fields,
        }
    )


def header(spool_id: str = SPOOL) -> bytes:
    return SegmentHeader(
        spool_id=spool_id, segment=0, first_offset=0, resource={"service.name": "orders", "process.pid": 7}
    ).encode()


def headers(offset: int, spool_id: str = SPOOL, **more: str) -> dict[str, str]:
    return {
        "backtrail-format": "1",
        "backtrail-spool": spool_id,
        "backtrail-offset": str(offset),
        **more,
    }


class Collector:
    """A log, a ledger and an intake on a directory; can be torn down as a crash would."""

    def __init__(self, directory: Path, **intake: Any) -> None:
        self.directory = directory
        self.wal: Wal
        self.ledger: Ledger
        self.start(**intake)

    def start(self, **intake: Any) -> None:
        self.wal, self.ledger = open_log(self.directory, durable_seq=0, wal_limits=LIMITS)
        self.intake = Intake(self.wal, self.ledger, **intake)

    def crash_and_restart(self) -> None:
        """Nothing is saved or closed in order, as after a kill."""
        self.wal._drop_writer()
        self.ledger._file.close()
        self.start()

    def stored(self) -> dict[str, bytes]:
        """Everything in the log by its identity; fails on a repetition."""
        found: dict[str, bytes] = {}
        after = 0
        while frames := self.wal.read(after, 1000):
            after = frames[-1].last_seq
            for frame in frames:
                uids = frame.uids() or [json.loads(text)["uid"] for text in frame.split()]
                for uid, text in zip(uids, frame.split(), strict=True):
                    assert uid not in found, f"{uid} is there twice"
                    found[uid] = text + b"\n"
        return found


@pytest.fixture
def collector(tmp_path: Path) -> Iterator[Collector]:
    one = Collector(tmp_path)
    yield one
    one.wal.close()
    one.ledger.close()


def at(lines: list[bytes], start: int = 0, spool_id: str = SPOOL) -> dict[str, bytes]:
    """Lines by the identity that their place gives them."""
    places = {}
    for text in lines:
        places[f"{spool_id}-{start}"] = text
        start += len(text)
    return places


def test_a_batch_is_acknowledged_and_in_the_log(collector: Collector) -> None:
    """To the byte, under `<spool id>-<offset>`."""
    lines = [line(n) for n in range(100)]
    answer = collector.intake.records(headers(0), header() + b"".join(lines))
    end = sum(map(len, lines))
    assert json.loads(answer.body()) == {
        "acknowledged_offset": end,
        "stored": 100,
        "already_stored": 0,
        "refused": [],
        "refused_count": 0,
    }
    assert collector.stored() == at(lines)
    assert collector.ledger.acknowledged(SPOOL, 0) == end


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_packed_batches(collector: Collector, encoding: str) -> None:
    """As the shipper sends them."""
    body = header() + line(1)
    packed = gzip.compress(body) if encoding == "gzip" else zstandard.ZstdCompressor().compress(body)
    answer = collector.intake.records(headers(0, **{"content-encoding": encoding}), packed)
    assert answer.stored == 1
    assert collector.stored() == at([line(1)])


def test_what_is_sent_again_is_stored_once(collector: Collector) -> None:
    """The answer got lost, the sender repeats itself, perhaps with more behind; before and after a crash."""
    lines = [line(n) for n in range(10)]
    body = header() + b"".join(lines)
    collector.intake.records(headers(0), body)
    for _ in range(2):
        again = collector.intake.records(headers(0), body)
        assert (again.stored, again.acknowledged_offset) == (0, sum(map(len, lines)))
        collector.crash_and_restart()
    more = [*lines[5:], line(10), line(11)]
    offset = sum(map(len, lines[:5]))
    answer = collector.intake.records(headers(offset), header() + b"".join(more))
    assert (answer.stored, answer.acknowledged_offset) == (2, offset + sum(map(len, more)))
    assert collector.stored() == at([*lines, line(10), line(11)])


def test_a_jump_is_taken_and_is_a_gap_until_it_is_filled(collector: Collector) -> None:
    """The sender is not held up by what is missing; what comes late finds its place."""
    lines = [line(n) for n in range(9)]
    parts = lines[:3], lines[3:6], lines[6:]
    offsets = [0, sum(map(len, parts[0])), sum(map(len, parts[0] + parts[1]))]

    def send(part: int) -> Any:
        return collector.intake.records(headers(offsets[part]), header() + b"".join(parts[part]))

    assert send(0).acknowledged_offset == offsets[1]
    end = offsets[2] + sum(map(len, parts[2]))
    assert send(2).acknowledged_offset == end
    (spool,) = collector.ledger.spools()
    assert [(hole["start"], hole["end"]) for hole in spool["missing"]] == [(offsets[1], offsets[2])]
    answer = send(1)
    assert (answer.stored, answer.acknowledged_offset) == (3, end)
    assert collector.ledger.spools()[0]["missing"] == []
    assert collector.stored() == at(lines)
    assert collector.intake.records(headers(0), header() + b"".join(lines)).stored == 0


def test_bad_lines_are_refused_and_count_as_done(collector: Collector) -> None:
    """Else the sender would be stuck on them for ever; after a crash they are still done."""
    lines = [b"bad\n", line(1), b"{}\n", line(2), b"\xff\n"]
    body = header() + b"".join(lines)
    answer = collector.intake.records(headers(50), body)
    places = list(at(lines, 50))
    assert answer.acknowledged_offset == 50 + sum(map(len, lines))
    assert [f"{SPOOL}-{one.offset}" for one in answer.refused] == [places[0], places[2], places[4]]
    assert all(one.reason in REASONS and one.message for one in answer.refused)
    assert collector.stored() == {places[1]: lines[1], places[3]: lines[3]}
    collector.crash_and_restart()
    again = collector.intake.records(headers(50), body)
    assert (again.stored, again.refused_count) == (0, 0)
    assert collector.ledger.spools()[0]["refused"] == {"not_json": 1, "missing_field": 1, "not_utf8": 1}
    assert collector.ledger.spools()[0]["missing"] == [{"start": 0, "end": 50}]


def test_a_batch_of_nothing_but_bad_lines_is_done(collector: Collector) -> None:
    """Durably: a later start does not take the stretch for a gap."""
    answer = collector.intake.records(headers(0), header() + b"bad\n" * 3)
    assert (answer.acknowledged_offset, answer.stored, answer.refused_count) == (12, 0, 3)
    collector.crash_and_restart()
    assert collector.intake.records(headers(12), header() + line(1)).stored == 1
    assert collector.ledger.spools()[0]["missing"] == []


def test_a_line_without_its_newline_is_not_there_yet(collector: Collector) -> None:
    """The rest of it may be under way: neither stored, nor refused, nor acknowledged."""
    answer = collector.intake.records(headers(0), header() + line(1) + line(2)[:-9])
    assert (answer.acknowledged_offset, answer.stored, answer.refused) == (len(line(1)), 1, [])
    assert collector.intake.records(headers(len(line(1))), header() + line(2)).stored == 1


def test_a_request_without_lines_asks_how_far_we_are(collector: Collector) -> None:
    """Cheap, and it changes nothing."""
    assert collector.intake.records(headers(70), header()).acknowledged_offset == 70
    collector.intake.records(headers(0), header() + line(1))
    assert collector.intake.records(headers(0), header()).acknowledged_offset == len(line(1))
    assert len(collector.stored()) == 1


def test_losses_and_the_end_reach_the_ledger(collector: Collector) -> None:
    """As the library writes them; the close line is no record."""
    loss = loss_line("orders", 5, reason="thinned", count=3, begin=10, end=20)
    close = close_line("orders", 6, count=2, end_offset=len(loss), ended="killed")
    answer = collector.intake.records(headers(0), header() + loss + close)
    assert (answer.stored, answer.acknowledged_offset) == (1, len(loss) + len(close))
    collector.crash_and_restart()
    (spool,) = collector.ledger.spools()
    assert spool["ended"] == "killed"
    assert [(one["reason"], one["count"]) for one in spool["losses"]] == [("thinned", 3)]
    assert collector.stored() == at([loss])


def test_a_stretch_that_begins_in_the_middle_of_a_line(collector: Collector) -> None:
    """A sender that counts differently can neither store a half line nor a line twice."""
    lines = [line(n) for n in range(4)]
    collector.intake.records(headers(0), header() + lines[0])
    shifted = [b" " + text for text in lines[1:]]
    answer = collector.intake.records(headers(len(lines[0]) - 5), header() + b"".join(shifted))
    assert answer.refused == []
    assert collector.stored() == at([lines[0]]) | dict(list(at(shifted, len(lines[0]) - 5).items())[1:])


@pytest.mark.parametrize(
    ("given_headers", "body", "reason"),
    [
        ({}, b"", "bad_header"),
        (headers(0), b"no header line", "bad_segment_header"),
        (headers(0), header("f" * 32) + line(1), "bad_segment_header"),
        (headers(0, **{"content-encoding": "gzip"}), b"xx", "bad_encoding"),
        (headers(0, **{"content-encoding": "br"}), b"xx", "unsupported_encoding"),
        (headers(0), header() + b"x" * 70_000, "body_too_large"),
    ],
)
def test_a_request_that_is_wrong_as_a_whole(
    tmp_path: Path, given_headers: dict[str, str], body: bytes, reason: str
) -> None:
    """Nothing of it is taken."""
    collector = Collector(tmp_path, limits=IntakeLimits(unpacked_bytes_max=65_536))
    with pytest.raises(Refused) as refusal:
        collector.intake.records(given_headers, body)
    assert refusal.value.reason == reason
    assert collector.stored() == {}


def test_a_full_log_takes_nothing_and_forgets_nothing(tmp_path: Path) -> None:
    """The mark stays where it was, so that the same request can come again."""
    limits = WalLimits(bytes_max=16_384, segment_bytes_max=4096, frame_bytes_max=1024, disk_free_bytes_min=0)
    wal, ledger = open_log(tmp_path, durable_seq=0, wal_limits=limits)
    intake = Intake(wal, ledger)
    body = b"".join(line(n) for n in range(20))
    offset = requests = 0
    with pytest.raises(Overloaded):
        while True:
            offset = intake.records(headers(offset), header() + body).acknowledged_offset or 0
            requests += 1
    assert ledger.acknowledged(SPOOL, 0) == offset == requests * len(body)
    assert ledger.wanted(SPOOL, offset, offset + len(body)) == [(offset, offset + len(body))]
    assert wal.last_seq == 20 * requests


def test_a_request_that_no_log_of_this_size_can_hold_is_to_be_cut(tmp_path: Path) -> None:
    """Refused, not put off: coming back with it would never help."""
    limits = WalLimits(bytes_max=8192, segment_bytes_max=4096, frame_bytes_max=1024, disk_free_bytes_min=0)
    wal, ledger = open_log(tmp_path, durable_seq=0, wal_limits=limits)
    with pytest.raises(Refused, match=r"send fewer at once \(wal_bytes_max 8192\)") as refusal:
        Intake(wal, ledger).records(headers(0), header() + b"".join(line(n) for n in range(100)))
    assert refusal.value.reason == "body_too_large"
    assert (ledger.acknowledged(SPOOL, 0), wal.last_seq) == (0, 0)


def test_the_same_batch_from_many_threads_is_stored_once(collector: Collector) -> None:
    """A client that gives up waiting repeats itself while the first attempt is still under way."""
    lines = [line(n) for n in range(50)]
    body = header() + b"".join(lines)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: collector.intake.records(headers(0), body), range(16)))
    assert sorted(answer.stored for answer in answers) == [0] * 15 + [50]
    assert {answer.acknowledged_offset for answer in answers} == {len(body) - len(header())}
    assert collector.stored() == at(lines)


def test_a_sender_that_waits_too_long_for_its_turn_is_told_to_come_back(tmp_path: Path) -> None:
    """Threads are few; one stuck request must not collect them all."""
    collector = Collector(tmp_path, limits=IntakeLimits(turn_wait_s=0.01))
    with (
        collector.intake._native._turns.of(SPOOL),
        ThreadPoolExecutor(1) as pool,
        pytest.raises(Overloaded, match="still under way"),
    ):
        pool.submit(collector.intake.records, headers(0), header() + line(1)).result(30)
    assert collector.intake.records(headers(0), header() + line(1)).stored == 1


def test_while_the_ledger_may_have_forgotten_lines_are_looked_up(tmp_path: Path) -> None:
    """A damaged ledger costs speed for a day, and no repetition."""
    (tmp_path / "ledger.sqlite").write_bytes(b"damage" * 1000)
    collector = Collector(tmp_path)
    collector.intake.records(headers(0), header() + line(1))
    (frame,) = collector.wal.read(0, 10)
    assert frame.envelope.check_uids and frame.uids() == [f"{SPOOL}-0"]


def test_numbers_begin_above_what_store_and_ledger_know(tmp_path: Path) -> None:
    """Though the log's directory was lost: the store would take them for repetitions."""
    wal, ledger = open_log(tmp_path, durable_seq=1000, wal_limits=LIMITS)
    Intake(wal, ledger).records(headers(0), header() + line(1))
    assert wal.last_seq == 1001
    ledger.save()
    wal.close()
    ledger.close()
    for path in (tmp_path / "wal").iterdir():
        path.unlink()
    wal, ledger = open_log(tmp_path, durable_seq=7, wal_limits=LIMITS)
    Intake(wal, ledger).records(headers(len(line(1))), header() + line(2))
    assert wal.last_seq == 1002


# ---------------------------------------------------------------- imports


def test_imported_lines_carry_their_identity(collector: Collector) -> None:
    """And are always looked up, since nobody knows what was imported before."""
    body = line(1)[:-2] + b',"uid":"u1"}\n' + line(2)[:-2] + b',"uid":"u2"}'
    answer = collector.intake.records({"backtrail-import": "1"}, body + b"\n" + line(3))
    assert (answer.acknowledged_offset, answer.stored) == (None, 2)
    assert [(one.reason, one.offset) for one in answer.refused] == [("missing_field", len(body) + 1)]
    (frame,) = collector.wal.read(0, 10)
    assert frame.envelope.check_uids and frame.envelope.named and frame.uids() is None
    assert list(collector.stored()) == ["u1", "u2"]


def test_an_import_of_nothing(collector: Collector) -> None:
    """Is no error."""
    assert collector.intake.records({"backtrail-import": "1"}, b"").stored == 0
    assert collector.wal.last_seq == 0


# ---------------------------------------------------------------- any order, any crash


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_history_of_sends_stores_each_line_once(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Repetitions, overlaps, jumps, crashes: what was acknowledged is there, once, under its place."""
    collector = Collector(tmp_path_factory.mktemp("history"))
    good = [line(n, attributes={"n": n}) for n in range(30)]
    grown = [text.replace(b'{"n":', b'{"n":%d' % 10**30) for text in good]  # mended, and longer then
    lines = [
        data.draw(st.sampled_from([text, text, mended, b"bad\n"]))
        for text, mended in zip(good, grown, strict=True)
    ]
    starts = [0]
    for text in lines:
        starts.append(starts[-1] + len(text))
    sent: set[int] = set()
    for _ in range(data.draw(st.integers(1, 12))):
        first = data.draw(st.integers(0, 29))
        last = data.draw(st.integers(first, 29))
        body = header() + b"".join(lines[first : last + 1])
        answer = collector.intake.records(headers(starts[first]), body)
        assert answer.acknowledged_offset is not None
        assert answer.acknowledged_offset >= starts[last + 1]
        assert answer.acknowledged_offset in starts
        sent |= set(range(first, last + 1))
        done = {index for index in range(30) if starts[first] <= starts[index] < answer.acknowledged_offset}
        assert done <= sent, "acknowledged, and never sent"
        if data.draw(st.integers(0, 3)) == 0:
            collector.crash_and_restart()
    expected = {f"{SPOOL}-{starts[index]}": index for index in sent if lines[index] != b"bad\n"}
    stored = collector.stored()
    assert stored.keys() == expected.keys()
    for uid, index in expected.items():
        assert f"line {index}" == json.loads(stored[uid])["message"]
    collector.wal.close()
    collector.ledger.close()


def test_counts_are_kept_by_protocol(collector: Collector) -> None:
    """Requests, bytes on the wire, lines taken, lines refused."""
    body = header() + line(1) + b"bad\n"
    collector.intake.records(headers(0), body)
    assert collector.intake.stats() == {
        "native.requests": 1,
        "native.bytes": len(body),
        "native.records": 1,
        "native.refused": 1,
    }


def test_what_was_imported_before_is_told_and_not_written_again(tmp_path: Path) -> None:
    """The store is asked; while it is away everything is taken, and the indexer finds out."""
    stored: set[str] = set()
    away: list[Exception] = []

    def existing(uids: Collection[str]) -> set[str]:
        if away:
            raise away[0]
        return stored & set(uids)

    wal, ledger = open_log(tmp_path, durable_seq=0, wal_limits=WalLimits(disk_free_bytes_min=0))
    intake = Intake(wal, ledger, existing=existing)
    (body,) = import_bodies((f"u-{n}", line(n)) for n in range(10))
    stored.update(f"u-{n}" for n in range(7))
    answer = intake.records(IMPORT_HEADERS, body)
    assert (answer.stored, answer.already_stored, wal.last_seq) == (3, 7, 3)
    assert [json.loads(text)["uid"] for frame in wal.read(0, 99) for text in frame.split()] == [
        "u-7",
        "u-8",
        "u-9",
    ]
    away.append(StoreFailed("the cluster is away"))
    answer = intake.records(IMPORT_HEADERS, body)
    assert (answer.stored, answer.already_stored, wal.last_seq) == (10, 0, 13)
