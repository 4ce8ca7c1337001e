"""Files for import: every packing, both formats, and nothing lost in silence."""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import orjson
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from collector.receive.files import ImportReport, import_uids, read_files, read_records
from collector.receive.lines import record_from_line
from tracing.line import LINE_BYTES_MAX, encode

OWN = [
    encode({"timestamp": 1_700_000_000_000_000_000 + n, "level": "INFO", "service": "s", "message": f"m{n}"})
    for n in range(5)
]
SPAN = (
    b'{"kind":"span","timestamp":1674982096478000000,"service":"gw","instance":"gw-1",'
    b'"trace_id":"88ebfbcebbbc0884eabd9178e1808940","span_id":"c1a248a4d7f01503","parent_span_id":null,'
    b'"name":"/*","start":1674982096478000000,"end":1674982096794466220,"status":"UNSET",'
    b'"span_kind":"SERVER","level":null,"message":null}\n'
)
SPOOL_ID = "ab" * 16


def spool_segment(first_offset: int, lines: list[bytes]) -> bytes:
    header = {
        "backtrail_spool": 1,
        "spool_id": SPOOL_ID,
        "segment": 0,
        "first_offset": first_offset,
        "resource": {"service.instance.id": "one"},
    }
    return orjson.dumps(header) + b"\n" + b"".join(lines)


@pytest.mark.parametrize(
    "pack",
    [
        pytest.param(bytes, id="plain"),
        pytest.param(gzip.compress, id="gzip"),
        pytest.param(lambda data: gzip.compress(data[:100]) + gzip.compress(data[100:]), id="gzip members"),
        pytest.param(zstandard.compress, id="zstd"),
        pytest.param(
            lambda data: zstandard.compress(data[:100]) + zstandard.compress(data[100:]), id="zstd frames"
        ),
    ],
)
def test_the_packing_is_told_by_the_first_bytes(tmp_path: Path, pack: object) -> None:
    """A file's name says nothing; each packing gives the same lines and identities."""
    file = tmp_path / "anything"
    file.write_bytes(pack(b"".join(OWN)))  # type: ignore[operator]
    report = ImportReport()
    found = list(read_files([file], report=report))
    assert [item.line for item in found] == OWN
    assert [item.uid for item in found] == list(import_uids(line.rstrip() for line in OWN))
    assert (report.lines, report.records, report.unreadable.total()) == (5, 5, 0)
    assert report.bytes_read == report.bytes_total == file.stat().st_size


def test_standard_input_is_a_dash() -> None:
    """`-` reads the stream it is given; how much is to come is not known."""
    report = ImportReport()
    found = read_files(["-"], report=report, stdin=io.BytesIO(gzip.compress(b"".join(OWN))))
    assert [item.line for item in found] == OWN
    assert report.bytes_total is None


def test_equal_lines_of_a_file_are_different_records() -> None:
    """The ordinal tells equal lines apart, and the same file gives the same identities again."""
    lines = [b"a", b"b", b"a", b"a", b"b"]
    uids = list(import_uids(lines))
    assert len(set(uids)) == 5
    assert list(import_uids([*lines, b"c"]))[:5] == uids
    assert all(len(uid) == 32 and int(uid, 16) for uid in uids)
    assert next(import_uids([b"b"])) == uids[1]  # its own ordinal, whatever stands before it


@given(st.lists(st.sampled_from([f"line {n}".encode() for n in range(2000)]), max_size=4000))
def test_every_line_of_a_file_has_an_identity_of_its_own(lines: list[bytes]) -> None:
    """However many lines are equal, and however often the table has grown."""
    assert len(set(import_uids(lines))) == len(lines)


def test_a_recorded_line_becomes_a_record_line(tmp_path: Path) -> None:
    """The recorded format is read into the same record whether or not it goes through a line."""
    file = tmp_path / "case.ndjson"
    file.write_bytes(SPAN)
    [item] = read_files([file])
    [record] = read_records([file])
    assert record_from_line(item.line, uid=item.uid, resource={}) == record
    assert (record.kind, record.service, record.instance) == ("span", "gw", "gw-1")
    assert record.duration_ns == 316_466_220


def test_formats_may_be_mixed_in_a_file(tmp_path: Path) -> None:
    """Each line is told by itself, so that files can be concatenated."""
    file = tmp_path / "mixed"
    file.write_bytes(OWN[0] + SPAN + b"\n" + OWN[1] + SPAN.replace(b'"timestamp":', b'"timestamp" : '))
    assert [record.kind for record in read_records([file])] == ["log", "span", "log", "span"]


def test_a_spool_segment_keeps_its_positions_and_its_process(tmp_path: Path) -> None:
    """A line of a spool has the identity it would have had, had it been shipped."""
    close = b'{"timestamp":"2023-11-14T22:13:21Z","level":"INFO","service":"s","kind":"close","close":{}}\n'
    file = tmp_path / "00000000.ndjson"
    file.write_bytes(spool_segment(700, [*OWN[:2], close]) + bytes(4096))
    report = ImportReport()
    first, second = read_records([file], report=report)
    assert first.uid == f"{SPOOL_ID}-700"
    assert second.uid == f"{SPOOL_ID}-{700 + len(OWN[0])}"
    assert first.instance == "one"
    line = next(read_files([file])).line
    assert record_from_line(line, uid=first.uid, resource={}) == first
    assert (report.records, report.passed_over, report.unreadable.total()) == (2, 2, 0)


def test_bad_lines_are_counted_and_their_neighbours_kept(tmp_path: Path) -> None:
    """Each bad line has a reason, a field where there is one, and its number."""
    bad = {
        2: (b"{not json\n", "not_json", None),
        3: (b'{"timestamp":"yesterday","level":"INFO","service":"s"}\n', "bad_timestamp", "timestamp"),
        4: (b'{"timestamp":12,"kind":"span","service":"s"}\n', "missing_field", "trace_id"),
        5: (b'{"timestamp":12,"kind":"metric","service":"s"}\n', "bad_kind", "kind"),
        6: (b'{"timestamp":12,"kind":"log","service":7}\n', "wrong_type", "service"),
        7: (SPAN.replace(b'"end":1674982096794466220', b'"end":1'), "bad_duration", "end"),
        8: (b'{"timestamp":12,"kind":"log"}\n', "missing_field", "service"),
        9: (b'{"timestamp":"' + b"9" * (2 * LINE_BYTES_MAX) + b'"}\n', "line_too_long", None),
        10: (b"[1]\n", "not_object", None),
    }
    file = tmp_path / "some-bad"
    file.write_bytes(OWN[0] + b"".join(line for line, _, _ in bad.values()) + OWN[1])
    report = ImportReport()
    assert [item.line for item in read_files([file], report=report)] == OWN[:2]
    assert {trouble.line_number: (trouble.reason, trouble.field) for trouble in report.first_unreadable} == {
        number: (reason, field) for number, (_, reason, field) in bad.items()
    }
    assert report.lines == report.records + report.unreadable.total()


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress])
def test_a_file_that_is_cut_off_gives_what_it_has(tmp_path: Path, pack: object) -> None:
    """The whole lines in front of the damage are read, and the damage is told."""
    lines = [OWN[n % 5].replace(b"m0", str(n * 7919).encode()) for n in range(20_000)]
    packed: bytes = pack(b"".join(lines))  # type: ignore[operator]
    file = tmp_path / "cut"
    file.write_bytes(packed[: len(packed) // 2])
    report = ImportReport()
    found = [item.line for item in read_files([file], report=report)]
    assert 0 < len(found) < len(lines)
    assert found == lines[: len(found)]
    assert report.unreadable["damaged"] == 1


def test_a_missing_file_does_not_stop_the_others(tmp_path: Path) -> None:
    """The list of files is worked through, whatever one of them is."""
    file = tmp_path / "there"
    file.write_bytes(OWN[0])
    report = ImportReport()
    found = list(read_files([tmp_path / "not-there", tmp_path, file], report=report))
    assert [item.line for item in found] == [OWN[0]]
    assert report.unreadable == {"cannot_open": 2}


def test_files_are_read_as_they_are_drawn(tmp_path: Path) -> None:
    """The first line comes out before the second megabyte is read."""
    file = tmp_path / "long"
    file.write_bytes(OWN[0] * 100_000)
    report = ImportReport()
    stream = read_files([file], report=report)
    next(stream)
    assert report.bytes_read < 2_000_000 < file.stat().st_size


@given(st.binary(max_size=400))
def test_no_content_breaks_the_reader(data: bytes) -> None:
    """Whatever the bytes are, the reader ends, and each line is a record, passed over or counted."""
    report = ImportReport()
    list(read_files(["-"], report=report, stdin=io.BytesIO(data)))
    whole_file = sum(trouble.line_number == 0 for trouble in report.first_unreadable)
    assert report.lines == report.records + report.passed_over + report.unreadable.total() - whole_file


@pytest.mark.shared
def test_the_recorded_files_are_read_whole(shared_rca: Path) -> None:
    """All 29 TrainTicket files: every line is a record with an identity of its own."""
    files = sorted((shared_rca / "trainticket-2023-01-29").glob("*.zst"))
    report = ImportReport()
    uids = {item.uid for item in read_files(files, report=report)}
    assert (len(files), report.records, len(uids), report.unreadable.total()) == (29, 186_978, 186_978, 0)


def test_an_exported_line_keeps_its_identity(tmp_path: Path) -> None:
    """What was exported and is imported again, here or elsewhere, is the same record."""
    file = tmp_path / "exported"
    exported = [line[:-2] + b',"uid":"u-%d"}\n' % number for number, line in enumerate(OWN[:2])]
    file.write_bytes(b"".join([*exported, OWN[2]]))
    found = [line.uid for line in read_files([file])]
    assert found == ["u-0", "u-1", *import_uids([OWN[2].strip()])]


def test_a_thinned_segment_goes_on_where_its_jump_says(tmp_path: Path) -> None:
    """The offsets behind a hole are those of the spool; a jump that is none is told, and breaks nothing."""
    lines = [OWN[0], b'{"backtrail_offset":5000}\n', OWN[1], b'{"backtrail_offset":"x"}\n', OWN[2]]
    file = tmp_path / "00000000.ndjson"
    file.write_bytes(spool_segment(100, lines))
    report = ImportReport()
    after = 5000 + len(OWN[1])
    assert [line.uid for line in read_files([file], report=report)] == [
        f"{SPOOL_ID}-{at}" for at in (100, 5000, after)
    ]
    assert (report.passed_over, report.unreadable) == (2, {"wrong_type": 1})


@pytest.mark.parametrize("end", [b'{"timestamp":"2026', b'{"timest\0\0\0\0', bytes(4096)])
def test_the_torn_end_of_a_spool_is_no_bad_line(tmp_path: Path, end: bytes) -> None:
    """A killed process, or a mapped segment, leaves one; its data ends at the last newline."""
    file = tmp_path / "00000000.ndjson"
    file.write_bytes(spool_segment(0, [OWN[0], end]))
    report = ImportReport()
    assert [line.uid for line in read_files([file], report=report)] == [f"{SPOOL_ID}-0"]
    assert not report.unreadable
