"""Headers that are right, and headers that are nearly right: our reading is the specification's, always."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.baggage import get_all
from w3c_reference import KEY, KEY_FIRST, members_of, parent_of, sent_of

from tracing import health
from tracing.propagation import Propagator
from tracing.propagation.w3c import BAGGAGE_CHARS_MAX, BAGGAGE_MEMBERS_MAX, baggage_header, parse_baggage

FEW = settings(max_examples=300, deadline=None)
MANY = settings(max_examples=100_000, deadline=None, database=None, suppress_health_check=list(HealthCheck))
propagator = Propagator(["tracecontext", "baggage"])

# ---------------------------------------------------------------- what is sent

hex_digits = "0123456789abcdef"
versions = st.one_of(st.just("00"), st.text(hex_digits, min_size=2, max_size=2))
ids = st.text(hex_digits, min_size=1, max_size=1) | st.text(hex_digits, min_size=32, max_size=32)
flags = st.text(hex_digits, min_size=2, max_size=2)
rests = st.one_of(st.just(""), st.just("-more"), st.text("-0a. ", max_size=4))
parents = st.builds(
    lambda version, trace, parent, flag, rest: (
        f"{version}-{(trace * 32)[:32]}-{(parent * 16)[:16]}-{flag}{rest}"
    ),
    *(versions, ids, ids, flags, rests),
)
keys = st.builds(
    str.__add__, st.text(KEY_FIRST, min_size=1, max_size=1), st.text(KEY, max_size=6) | st.just("k" * 255)
)
printable = st.characters(min_codepoint=0x20, max_codepoint=0x7E, exclude_characters=",=")
values = st.one_of(
    st.text(printable, min_size=1, max_size=8), st.integers(1, 257).map(lambda length: "x" * length)
)
members = st.builds(
    lambda key, value, space: f"{key}={value}{space}", keys, values, st.sampled_from(["", " ", "\t"])
)
many = st.integers(30, 34).map(lambda number: [f"k{index}=1" for index in range(number)])
states = st.one_of(st.lists(members | st.sampled_from(["", " "]), max_size=4), many).map(",".join)


@st.composite
def nearly(draw: st.DrawFn, right: st.SearchStrategy[str]) -> str:
    """A header that is right, after up to two edits of a character."""
    header = draw(right)
    for _ in range(draw(st.integers(0, 2))):
        place = draw(st.integers(0, len(header)))
        char = draw(st.sampled_from("0fgAF-=@, \t.;%é\x00\x7f") | st.just(""))
        header = header[:place] + char + header[place + draw(st.integers(0, 1)) :]
    return header


# ---------------------------------------------------------------- what has to hold


def check_trace_context(parent: str, sent_states: list[str]) -> None:
    """What is read and passed on is what the specification says, and nothing fails inside."""
    failures = health.counts["hook_failed"]
    context = propagator.extract([("traceparent", parent), *(("tracestate", state) for state in sent_states)])
    out: dict[str, str] = {}
    propagator.inject(out, context)
    expected, wanted = parent_of(parent), {}
    if expected is not None:
        wanted["traceparent"] = f"00-{expected.trace_id}-{expected.parent_id}-{expected.flags:02x}"
        if (found := members_of(sent_states)) and (state := sent_of(found)):
            wanted["tracestate"] = state
    assert out == wanted
    assert health.counts["hook_failed"] == failures


def check_baggage(header: str) -> None:
    """Whatever comes: within the limits, and stable when it is written and read again."""
    context = propagator.extract({"baggage": header})
    found = {key: str(value) for key, value in get_all(context).items()}
    assert len(found) <= BAGGAGE_MEMBERS_MAX
    written = baggage_header(found)
    assert written.isascii() and len(written) <= BAGGAGE_CHARS_MAX
    assert parse_baggage(written) == dict(list(found.items())[: len(parse_baggage(written))])


entries = st.builds(
    lambda key, value, more: f"{key}={value}{more}",
    st.text("abK%0!.", min_size=1, max_size=5),
    st.text(printable, max_size=8) | st.sampled_from(["%20", "%C3%A9", "%zz", "a=b", "x" * 5000]),
    st.sampled_from(["", ";p", ";p=1;q", " ; p = 2 "]),
)
crowds = st.integers(60, 70).map(lambda number: [f"k{index}=1" for index in range(number)])
baggages = nearly(st.one_of(st.lists(entries, max_size=5), crowds).map(",".join))
TRACE_CONTEXT = (nearly(parents), st.lists(nearly(states), max_size=3))

test_trace_context: Callable[[], None] = FEW(given(*TRACE_CONTEXT)(check_trace_context))
test_baggage: Callable[[], None] = FEW(given(baggages)(check_baggage))
test_trace_context_100_000 = pytest.mark.soak(MANY(given(*TRACE_CONTEXT)(check_trace_context)))
test_baggage_100_000 = pytest.mark.soak(MANY(given(baggages)(check_baggage)))
