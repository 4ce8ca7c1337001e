"""The parts that need no server: options, guard, bulks and their answers, the number in flight, the state."""

from __future__ import annotations

import threading
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.errors import ConfigurationError, Damaged
from collector.model import Source, Status
from collector.store.codec import storable
from collector.store.elastic.bulk import STORED, Fate, Item, body_of, chunks, read_answer
from collector.store.elastic.documents import decode, document_id
from collector.store.elastic.encoding import DocumentEncoder
from collector.store.elastic.guard import MappingGuard
from collector.store.elastic.inflight import InFlight
from collector.store.elastic.names import Names
from collector.store.elastic.options import ElasticOptions
from collector.store.elastic.state import RESERVE, StateFile
from collector.testing.store_samples import log, nasty_records, span

# ---------------------------------------------------------------- options


def test_a_url_says_all_there_is_to_say() -> None:
    """Hosts, user, path, options; words win over the URL."""
    url = "https://me:p%40ss@one:9243,two/base?namespace=prod&retention_days=2.5&replicas=0"
    options = ElasticOptions.from_url(url, replicas=2, api_key=None)
    assert options.hosts == ("https://one:9243/base", "https://two:9200/base")
    assert (options.username, options.password) == ("me", "p@ss")
    assert (options.namespace, options.retention_days, options.replicas) == ("prod", 2.5, 2)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("one:9200", "write https://host:9200"),
        ("ftp://u:secret@h", "'ftp://h'"),
        ("http://h?shrads=1", "no such option: shrads"),
        ("http://h?shards=many", "shards"),
        ("http://u:p@h?api_key=x", "not both"),
    ],
)
def test_a_wrong_url_is_explained_and_never_quotes_a_password(url: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^store") as caught:
        ElasticOptions.from_url(url)
    assert said in str(caught.value)
    assert "secret" not in str(caught.value)


def test_names_follow_the_data_stream_scheme() -> None:
    """type-dataset-namespace, the dataset ending as OpenTelemetry's do."""
    names = Names("shop", "prod")
    assert names.streams == ("logs-shop.otel-prod", "traces-shop.otel-prod", "notes-shop.otel-prod")
    assert [names.stream_of(kind) for kind in ("log", "span", "span_start", "loss")] == [
        names.logs,
        names.spans,
        names.notes,
        names.notes,
    ]


# ---------------------------------------------------------------- documents


def encoder(**limits: int) -> DocumentEncoder:
    return DocumentEncoder(MappingGuard(**{"fields_max": 99, "new_keys_per_hour_max": 99, **limits}))


@pytest.mark.parametrize("bare", [False, True])
@pytest.mark.parametrize("fields_max", [0, 99])
def test_a_document_gives_the_record_back(bare: bool, fields_max: int) -> None:
    """Every nasty one, whichever of its attributes are fields."""
    encode = encoder(fields_max=fields_max).encode
    for record in nasty_records():
        assert decode(encode(record, bare=bare)) == storable(record)


@given(
    st.dictionaries(st.text(), st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists))
)
def test_any_attributes_come_back(attributes: dict[str, object]) -> None:
    """And what stands among the fields is what every server takes."""
    record = log(1, attributes=attributes, resource=attributes)
    document = encoder().encode(record)
    assert decode(document) == storable(record)
    for key, value in msgspec.json.decode(document).get("attributes", {}).items():
        assert key.strip(".") == key != ""
        assert "\0" not in key
        assert not isinstance(value, dict)


def test_what_is_remembered_of_records_changes_no_document() -> None:
    """An encoder that has seen much writes the very bytes of one that has seen nothing."""
    records = [
        *nasty_records(),
        *(log(number, seq=number, attributes={"n": number, "route": "/"}) for number in (1, 2)),
        *(span(number, seq=number, status=Status(code=code)) for number, code in ((3, "OK"), (4, "ERROR"))),
    ]
    seasoned = encoder()
    for _ in range(2):
        for record in records:
            seasoned.encode(record)
    for record in records:
        fresh = encoder()
        fresh._guard.learn(seasoned._guard._fields)
        assert seasoned.encode(record) == fresh.encode(record)


@given(
    attributes=st.dictionaries(
        st.text(max_size=9), st.booleans() | st.integers() | st.floats() | st.text(max_size=300)
    ),
    message=st.text(max_size=30),
    uid=st.text(max_size=600),
    line=st.integers(),
    times=st.tuples(st.integers(0, 2**64), st.integers(0, 2**64), st.integers(0, 2**64)),
)
def test_the_short_way_through_the_encoder_writes_what_the_long_one_does(
    attributes: dict[str, object], message: str, uid: str, line: int, times: tuple[int, int, int]
) -> None:
    """The short one is for records with nothing unusual; what it takes for that, the long one does, too."""
    timestamp_ns, received_ns, duration_ns = times
    record = storable(
        span(
            1,
            attributes=attributes,
            message=message,
            uid=uid,
            timestamp_ns=timestamp_ns,
            received_ns=received_ns,
            duration_ns=duration_ns,
            source=Source(line=line),
        )
    )
    short, long = encoder(), encoder()
    long._usual = lambda record, shared: None  # type: ignore[method-assign]
    for _ in range(2):  # the first time the guard has no field yet
        assert short.encode(record) == long.encode(record)
    assert decode(short.encode(record)) == record


def test_a_uid_is_its_own_id_unless_a_server_would_not_take_it() -> None:
    """Position ids stay what they are, so that they compress."""
    position = f"{'ab' * 16}-1234"
    assert document_id(position) == position
    for uid in ("", "u" * 513, "ü" * 257):
        assert len(document_id(uid)) < 64
    assert document_id("u" * 513) != document_id("u" * 514)


# ---------------------------------------------------------------- guard


def test_keys_beyond_the_limit_overflow() -> None:
    """By the hour, and at all; known keys stay fields."""
    guard = MappingGuard(fields_max=3, new_keys_per_hour_max=2)
    assert guard.split({"a": 1, "b": 2, "c": 3}, 0.0) == ({"a": 1, "b": 2}, {"c": "3"}, False)
    assert guard.split({"a": 9, "c": 3}, 1.0) == ({"a": 9}, {"c": "3"}, False)
    assert guard.split({"c": 3, "d": 4}, 3_700.0) == ({"c": 3}, {"d": "4"}, False)
    assert guard.split({"d": 4}, 9_000.0) == ({}, {"d": "4"}, False)
    assert (guard.fields, guard.counts["overflow"]) == (3, 4)


def test_a_key_that_begins_another_overflows() -> None:
    """An older server refuses a field below a field."""
    guard = MappingGuard(fields_max=9, new_keys_per_hour_max=9)
    assert guard.split({"http": 1, "http.route": 2, "httpx": 3}, 0.0)[0] == {"http": 1, "httpx": 3}
    guard = MappingGuard(fields_max=9, new_keys_per_hour_max=9)
    guard.learn(["http.request.method"])
    assert guard.split({"http.request": 1, "http": 2, "http.route": 3}, 0.0)[0] == {"http.route": 3}


# ---------------------------------------------------------------- bulks


def items(*sizes: int) -> list[Item]:
    return [Item(log(number), "logs", str(number), b"x" * size) for number, size in enumerate(sizes)]


def test_bulks_keep_their_limits() -> None:
    """In bytes and in records, nothing lost, the order kept; what is too long goes alone."""
    cut = [
        [item.id for item in bulk]
        for bulk in chunks(items(10, 10, 95, 10, 500, 10), bytes_max=100, records_max=9)
    ]
    assert cut == [["0", "1"], ["2"], ["3"], ["4"], ["5"]]
    assert [len(bulk) for bulk in chunks(items(*[1] * 7), bytes_max=10**9, records_max=3)] == [3, 3, 1]


def test_an_item_is_two_lines() -> None:
    """The action names stream and id, whatever is in the id."""
    action, document, rest = body_of([Item(log(1), "logs-x", 'a"b\n', b"{}")]).split(b"\n")
    assert msgspec.json.decode(action) == {"create": {"_index": "logs-x", "_id": 'a"b\n'}}
    assert (document, rest) == (b"{}", b"")


def answer(*outcomes: dict[str, object]) -> bytes:
    return msgspec.json.encode({"items": [{"create": outcome} for outcome in outcomes]})


@pytest.mark.parametrize(
    ("outcome", "fate"),
    [
        ({"status": 201}, Fate.STORED),
        ({"status": 409}, Fate.ALREADY_STORED),
        ({"status": 429, "error": {"type": "es_rejected_execution_exception"}}, Fate.LATER),
        ({"status": 503, "error": {"type": "unavailable_shards_exception"}}, Fate.LATER),
        ({"status": 403, "error": {"type": "cluster_block_exception"}}, Fate.LATER),
        ({"status": 403, "error": {"type": "security_exception"}}, Fate.HELD),
        ({"status": 404, "error": {"type": "index_not_found_exception"}}, Fate.HELD),
        ({"status": 400, "error": {"type": "validation_exception"}}, Fate.HELD),
        ({"status": 400, "error": {"type": "index_closed_exception"}}, Fate.HELD),
        ({"status": 400, "error": {"type": "document_parsing_exception"}}, Fate.REFUSED),
    ],
)
def test_each_outcome_has_one_fate(outcome: dict[str, object], fate: Fate) -> None:
    (verdict,) = read_answer(answer(outcome), items(1))
    assert verdict.fate is fate


def test_an_answer_that_all_was_stored_is_known_at_sight() -> None:
    """For just as many items; every other answer is read item by item."""
    stored = answer({"status": 201}, {"status": 201})
    assert [verdict is STORED for verdict in read_answer(stored, items(1, 1))] == [True, True]
    for outcome in ({"status": 201, "_index": "logs-1"}, {"status": 409, "_index": "logs-1"}):
        first, second = read_answer(answer({"status": 201}, outcome), items(1, 1))
        assert (first, second.index) == (STORED, "logs-1")
    with pytest.raises(Damaged):
        read_answer(stored, items(1))


def test_as_many_items_come_back_as_went_in_or_nothing_is_known() -> None:
    """An answer that is short, long, or no answer at all."""
    for body in (answer({"status": 201}), answer(*[{"status": 201}] * 3), b"", b"<html>", b'{"items":7}'):
        with pytest.raises(Damaged):
            read_answer(body, items(1, 1))


# ---------------------------------------------------------------- in flight


def test_the_number_in_flight_rises_slowly_and_falls_fast() -> None:
    """One more for each round of successes, half for each sign of strain, the least after a failure."""
    gate = InFlight(least=1, start=4, most=8, slow_s=5)
    for _ in range(4):
        gate.succeeded(0.1)
    assert 4.8 < gate.limit < 5.1
    gate.strained()
    assert 2.4 < gate.limit < 2.6
    gate.succeeded(6)  # slow
    assert gate.limit < 1.3
    gate.succeeded(0.1)
    gate.failed()
    assert gate.limit == 1
    for _ in range(99):
        gate.succeeded(0.1)
    assert gate.limit == 8


def test_no_more_get_in_than_the_limit() -> None:
    """The next one waits until somebody leaves."""
    gate = InFlight(least=1, start=1, most=1, slow_s=5)
    entered = threading.Event()

    def second() -> None:
        with gate.one():
            entered.set()

    with gate.one():
        thread = threading.Thread(target=second)
        thread.start()
        assert gate.inside == 1
        assert not entered.is_set()
    thread.join(30)
    assert entered.is_set()
    assert gate.inside == 0


# ---------------------------------------------------------------- state


def test_the_state_survives_and_reserves_in_advance(tmp_path: Path) -> None:
    """What was sent at most is known without a write a batch."""
    state = StateFile(tmp_path / "elastic.json", stream="logs")
    assert state.begin("cluster")
    state.reserve(7)
    assert state.state.reserved_seq == 7 + RESERVE
    state.make_durable(5)
    state.make_durable(3)
    again = StateFile(tmp_path / "elastic.json", stream="logs")
    assert (again.durable_seq, again.state.reserved_seq) == (5, 7 + RESERVE)
    assert again.begin("cluster")
    assert not again.begin("another cluster")
    assert again.durable_seq == 0
    assert StateFile(tmp_path / "elastic.json", stream="other logs").durable_seq == 0


def test_a_state_that_is_not_ours_stops_the_start(tmp_path: Path) -> None:
    """With what to do about it."""
    (tmp_path / "elastic.json").write_text("{")
    with pytest.raises(Damaged, match="remove it"):
        StateFile(tmp_path / "elastic.json", stream="logs")
