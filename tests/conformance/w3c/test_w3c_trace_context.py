"""W3C Trace Context, level 1 (Recommendation) and level 2 (Candidate Recommendation), case by case.

The cases are written from the text of the specification; section numbers are those of level 2. A service
continues a trace when its call has the trace's id and a span of its own, and restarts it otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from w3c_services import SERVICES, Headers, Service

from tracing import health
from tracing.propagation.w3c import VERSION_00
from tracing.testing import capturing

TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"
PARENT = f"00-{TRACE}-{SPAN}-01"
ALL_OF_KEY = "abcdefghijklmnopqrstuvwxyz0123456789_-*/"
ALL_OF_VALUE = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) not in ",=")


@pytest.fixture(params=SERVICES)
def service(request: pytest.FixtureRequest) -> Iterator[Service]:
    """One way for a request to come, with our library on."""
    with capturing(level="INFO"):
        yield SERVICES[request.param]


def continued(headers: dict[str, str]) -> bool:
    """Whether a call is in the caller's trace, with a span of its own; whatever it is, it is valid."""
    match = VERSION_00.fullmatch(headers["traceparent"])
    assert match is not None
    trace_id, span_id, flags = match.groups()
    assert trace_id.strip("0") and span_id.strip("0") and span_id != SPAN
    assert int(flags, 16) & ~0x03 == 0, "unknown flags are sent as zero"
    return bool(trace_id == TRACE)


# ---------------------------------------------------------------- 3.2 traceparent


@pytest.mark.parametrize("name", ["traceparent", "Traceparent", "TraceParent", "TRACEPARENT", "tRaCePaReNt"])
def test_the_name_is_taken_in_any_case(service: Service, name: str) -> None:
    """3.2.1: and it is sent in lower case."""
    sent = service([(name, PARENT)])
    assert continued(sent) and "traceparent" in sent


@pytest.mark.parametrize("name", ["trace-parent", "trace.parent", "traceparent2", "parent"])
def test_another_name_is_not_taken(service: Service, name: str) -> None:
    """3.2.1: one word without delimiters."""
    assert not continued(service([(name, PARENT)]))


@pytest.mark.parametrize(
    "value",
    [
        PARENT,
        f" {PARENT}",
        f"\t{PARENT}",
        f"{PARENT} ",
        f" \t {PARENT} \t",
        f"00-{TRACE}-{SPAN}-00",
        f"00-{TRACE}-{SPAN}-02",
        f"00-{TRACE}-{SPAN}-03",
        f"00-{TRACE}-{SPAN}-ff",
        f"00-{TRACE}-{'f' * 16}-01",
        f"00-{TRACE}-{'0' * 15}1-01",
    ],
)
def test_of_version_00(service: Service, value: str) -> None:
    """3.2.2: whatever the flags; the white space around a header's value is none of it (RFC 9110, 5.5)."""
    assert continued(service([("traceparent", value)]))


@pytest.mark.parametrize(
    "value",
    [
        # the version: 2 lower hex digits
        "",
        "-",
        f"{TRACE}-{SPAN}-01",
        f"0-{TRACE}-{SPAN}-01",
        f"000-{TRACE}-{SPAN}-01",
        f"0000-{TRACE}-{SPAN}-01",
        f".0-{TRACE}-{SPAN}-01",
        f"0.-{TRACE}-{SPAN}-01",
        f"0G-{TRACE}-{SPAN}-01",
        f"0A-{TRACE}-{SPAN}-01",
        f"ff-{TRACE}-{SPAN}-01",
        # the trace's id: 32 lower hex digits, not all of them 0
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-.{TRACE[1:]}-{SPAN}-01",
        f"00-{TRACE[:-1]}.-{SPAN}-01",
        f"00-{TRACE[:-1]}-{SPAN}-01",
        f"00-{TRACE}0-{SPAN}-01",
        f"00--{SPAN}-01",
        f"00-{TRACE[:8]}-{TRACE[8:12]}-{TRACE[12:16]}-{TRACE[16:]}-{SPAN}-01",
        # the parent's id: 16 of them
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE}-{SPAN.upper()}-01",
        f"00-{TRACE}-.{SPAN[1:]}-01",
        f"00-{TRACE}-{SPAN[:-1]}.-01",
        f"00-{TRACE}-{SPAN[:-1]}-01",
        f"00-{TRACE}-{SPAN}0-01",
        f"00-{TRACE}--01",
        # the flags: 2 of them, and the end
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-",
        f"00-{TRACE}-{SPAN}-1",
        f"00-{TRACE}-{SPAN}-001",
        f"00-{TRACE}-{SPAN}-.0",
        f"00-{TRACE}-{SPAN}-0.",
        f"00-{TRACE}-{SPAN}-0A",
        f"00-{TRACE}-{SPAN}-01-",
        f"00-{TRACE}-{SPAN}-01.",
        f"00-{TRACE}-{SPAN}-01-what-the-future-will-be-like",
        # the delimiters
        f"00_{TRACE}_{SPAN}_01",
        f"00 {TRACE} {SPAN} 01",
        f"00- {TRACE}-{SPAN}-01",
        f'"{PARENT}"',
        f"{PARENT};a=1",
    ],
)
def test_malformed(service: Service, value: str) -> None:
    """3.2.2, 4.3: the trace is restarted, and the `tracestate` beside it is not passed on."""
    sent = service([("traceparent", value), ("tracestate", "congo=1")])
    assert not continued(sent) and "tracestate" not in sent


def test_missing(service: Service) -> None:
    """4.2: a trace begins; a `tracestate` alone says nothing."""
    assert not continued(service([]))
    assert "tracestate" not in service([("tracestate", "congo=1")])


@pytest.mark.parametrize("second", [PARENT, PARENT.replace(TRACE, "1" * 32), ""])
def test_several(service: Service, second: str) -> None:
    """3.2.1: a single header; two of them are one that is malformed, even when they agree."""
    if second:
        assert not continued(service([("traceparent", PARENT), ("traceparent", second)]))
        assert not continued(service([("Traceparent", second), ("traceparent", PARENT)]))
    else:
        assert not continued(service([("traceparent", f"{PARENT},")]))


@pytest.mark.parametrize("rest", ["", "-", "-what-the-future-will-be-like", "-00-00", f"-{'x' * 300}"])
@pytest.mark.parametrize("version", ["01", "cc", "fe"])
def test_a_version_to_come(service: Service, version: str, rest: str) -> None:
    """3.2.4: its first four fields are read as version 00's, and version 00 is what goes out."""
    sent = service([("traceparent", f"{version}-{TRACE}-{SPAN}-01{rest}")])
    assert continued(sent) and sent["traceparent"].startswith("00-")


@pytest.mark.parametrize(
    "value",
    [
        f"cc-{TRACE}-{SPAN}-01.what",
        f"cc-{TRACE}-{SPAN}-011",
        f"cc-{TRACE}-{SPAN}-0",
        f"cc-{TRACE}-{SPAN}",
        f"cc-{TRACE.upper()}-{SPAN}-01",
        f"cc-{'0' * 32}-{SPAN}-01",
        f"cc-{TRACE}-{'0' * 16}-01",
        f"cc-{TRACE}-{SPAN}-01-{'x' * 100_000}",
    ],
)
def test_a_version_to_come_that_cannot_be_read(service: Service, value: str) -> None:
    """3.2.4: too short, no hex digits, no dash where one has to be, or prohibitively large."""
    assert not continued(service([("traceparent", value)]))


@pytest.mark.parametrize("flags", ["00", "01", "02", "03"])
@pytest.mark.parametrize("version", ["00", "01"])
def test_known_flags_go_on(service: Service, version: str, flags: str) -> None:
    """3.2.2.5.1: a sampled caller's call is sampled; 3.2.2.5.2: `random` is passed on unchanged."""
    sent = service([("traceparent", f"{version}-{TRACE}-{SPAN}-{flags}")])
    assert continued(sent) and sent["traceparent"].endswith(f"-{flags}")


@pytest.mark.parametrize("flags", ["04", "08", "10", "80", "fc", "ff"])
def test_unknown_flags_are_zero(service: Service, flags: str) -> None:
    """3.2.2.5.3: they are reserved."""
    sent = service([("traceparent", f"00-{TRACE}-{SPAN}-{flags}")])
    assert continued(sent) and sent["traceparent"].endswith(f"-{int(flags, 16) & 3:02x}")


def test_a_trace_that_begins_here_says_that_its_id_is_random(service: Service) -> None:
    """3.2.2.5.2 may be set where the last 7 bytes of the id are random. Ids of tests are not, so neither."""
    sent = service([])["traceparent"]
    assert int(sent[-2:], 16) in (0x01, 0x03)


def test_every_call_has_a_span_of_its_own(service: Service) -> None:
    """3.4: the parent's id is the one field that always changes."""
    sent = [service([("traceparent", PARENT)])["traceparent"] for _ in range(3)]
    assert len(set(sent)) == 3 and {value[:35] for value in sent} == {PARENT[:35]}


# ---------------------------------------------------------------- 3.3 tracestate


def passed_on(service: Service, *headers: str, name: str = "tracestate") -> str | None:
    """The `tracestate` of a call, after these came in; the trace goes on, whatever they are."""
    incoming: Headers = [("traceparent", PARENT), *((name, header) for header in headers)]
    sent = service(incoming)
    assert continued(sent), "3.3: a bad tracestate does not touch the traceparent"
    return sent.get("tracestate")


@pytest.mark.parametrize("name", ["tracestate", "TraceState", "TRACESTATE", "tRaCeStAtE"])
def test_the_state_s_name_is_taken_in_any_case(service: Service, name: str) -> None:
    """3.3.1."""
    assert passed_on(service, "congo=1", name=name) == "congo=1"


@pytest.mark.parametrize("name", ["trace-state", "trace.state", "state"])
def test_another_name_of_a_state_is_not_taken(service: Service, name: str) -> None:
    """3.3.1."""
    assert passed_on(service, "congo=1", name=name) is None


@pytest.mark.parametrize(
    "member",
    [
        "congo=t61rcWkgMzE",
        "a=1",
        "a-_*/0=1",
        f"{ALL_OF_KEY}={ALL_OF_VALUE}",
        f"{ALL_OF_KEY}@a-z0-9_-*/={ALL_OF_VALUE}",
        "tenant@vendor=1",  # level 1's multi-tenant form
        "0tenant@v=1",
        f"{'t' * 241}@{'v' * 14}=1",
        f"{'z' * 256}=1",
        f"a={'x' * 256}",
        "a=  1",  # spaces at the beginning of a value belong to it
        "a=1 2",
        "a=;:\"'",
        # level 2: a digit may begin any key, and the sign may stand anywhere but at the beginning
        "0congo=1",
        "congo@=1",
        "congo@@rojo=1",
        "congo@0=1",
        "a@b@c=1",
        f"{'t' * 242}@v=1",
        f"t@{'v' * 15}=1",
    ],
)
def test_a_member_that_is_right(service: Service, member: str) -> None:
    """3.3.1.3: it goes on as it came, beside another one."""
    assert passed_on(service, member) == member
    assert passed_on(service, f"rojo=1,{member}") == f"rojo=1,{member}"


@pytest.mark.parametrize(
    "member",
    [
        "congo",
        "congo=",
        "=1",
        "=",
        "CONGO=1",
        "Congo=1",
        "congo =1",
        "con go=1",
        "con.go=1",
        "con+go=1",
        "_congo=1",
        "-congo=1",
        "@congo=1",
        "congo=1=2",
        "congo==",
        "congo=\x7f",
        "congo=1\t2",
        "congo=\xe9",
        "\xe9=1",
        f"{'z' * 257}=1",
        f"a={'x' * 257}",
        "rojo=2",  # 3.3.1.4: one entry a key
    ],
)
def test_a_member_that_is_wrong(service: Service, member: str) -> None:
    """3.3.1.3: what cannot be parsed is not passed on, and nothing of what stands beside it."""
    before = health.counts["malformed_tracestate"]
    assert passed_on(service, f"rojo=1,{member}") is None
    assert passed_on(service, f"{member},rojo=1") is None
    assert health.counts["malformed_tracestate"] == before + 2


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        (["a=1,b=2", "c=3,d=4", "e=5"], "a=1,b=2,c=3,d=4,e=5"),
        (["a=1 , b=2", "\tc=3\t"], "a=1,b=2,c=3"),
        (["a=1 \t , \t b=2, \t c=3"], "a=1,b=2,c=3"),
        (["a=1\t \t,\t \tb=2"], "a=1,b=2"),
        ([" a=1 "], "a=1"),
        ([""], None),
        ([" "], None),
        ([","], None),
        ([" , ,\t, "], None),
        (["a=1", ""], "a=1"),
        (["", "a=1"], "a=1"),
        (["a=1,", ",b=2"], "a=1,b=2"),
        (["a=1,,,b=2"], "a=1,b=2"),
        (["b=2,a=1"], "b=2,a=1"),
    ],
)
def test_several_states_are_one(service: Service, headers: list[str], expected: str | None) -> None:
    """3.3.1.1: joined in their order; empty members and white space around members are no mistakes."""
    assert passed_on(service, *headers) == expected


def test_a_key_may_come_once(service: Service) -> None:
    """3.3.1.4: also over several headers."""
    assert passed_on(service, "a=1,a=1") is None
    assert passed_on(service, "a=1", "a=2") is None


def test_at_most_32_members(service: Service) -> None:
    """3.3.1.1: in one header or in several; empty ones do not count."""
    members = [f"k{number:02}=1" for number in range(33)]
    assert passed_on(service, ",".join(members[:32])) == ",".join(members[:32])
    assert passed_on(service, *members[:32]) == ",".join(members[:32])
    assert passed_on(service, ",".join(members[:32]), " , ,") == ",".join(members[:32])
    assert passed_on(service, ",".join(members)) is None
    assert passed_on(service, *members) is None


def test_512_characters_are_passed_on(service: Service) -> None:
    """3.3.1.5: counting commas; beyond, whole members are left out, and that is counted."""
    before = health.counts["tracestate_over_limit"]
    fits = ",".join(f"k{number}={'x' * 60}" for number in range(7)) + f",last={'x' * 59}"
    assert len(fits) == 512
    assert passed_on(service, fits) == fits
    assert health.counts["tracestate_over_limit"] == before
    over = f"{fits},more={'x' * 60}"
    assert passed_on(service, over) == fits, "from the end"
    assert health.counts["tracestate_over_limit"] == before + 1


def test_long_members_go_first(service: Service) -> None:
    """3.3.1.5: those of more than 128 characters, before any other."""
    short = [f"k{number}={'x' * 60}" for number in range(5)]
    long = f"long={'y' * 200}"
    assert passed_on(service, ",".join([long, *short])) == ",".join(short)
    edge = f"edge={'y' * 123}"  # 128 characters are not more than 128
    rest = ",".join(short[:4])
    assert passed_on(service, f"{edge},{long},{rest}") == f"{edge},{rest}"
    only = f"{'k' * 256}={'x' * 256}"
    assert passed_on(service, only) is None


def test_a_version_to_come_keeps_its_state(service: Service) -> None:
    """3.3.3: parsed to the best of our ability."""
    sent = service([("traceparent", f"cc-{TRACE}-{SPAN}-01-more"), ("tracestate", "congo=1")])
    assert continued(sent) and sent["tracestate"] == "congo=1"


def test_a_restart_cleans_the_state() -> None:
    """3.4: where a trust boundary is crossed, which is a setting of ours."""
    with capturing(level="INFO", trust_remote_ids=False):
        for service in SERVICES.values():
            sent = service([("traceparent", PARENT), ("tracestate", "congo=1")])
            assert not continued(sent) and "tracestate" not in sent
