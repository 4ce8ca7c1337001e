"""The promises about counts and lists: facets, traces, services, operations, calls, figures."""

from __future__ import annotations

import pytest

from collector.errors import QueryError
from collector.store.conditions import Equals, Everything, Words
from collector.store.contract import Bucket, Edge, OperationSummary, ServiceSummary, Store, TraceSummary
from collector.store.durations import bucket_middle_ns, bucket_of
from collector.store.paging import place_of_trace
from collector.testing.store_samples import (
    DAY_NS,
    OTHER_TRACE,
    SECOND_NS,
    START_NS,
    TRACE,
    log,
    loss,
    span,
    span_id,
    span_start,
)


def rounded(duration_ns: int) -> int:
    """A duration as percentiles give it."""
    return bucket_middle_ns(bucket_of(duration_ns))


def buckets(**counts: int) -> list[Bucket]:
    """Facets as they are given."""
    return [Bucket(value=value, count=count) for value, count in counts.items()]


class CountsContract:
    """See `StoreContract`."""

    # ------------------------------------------------------------ facets

    def test_facets_count_values_by_frequency(self, store: Store) -> None:
        """Most frequent first, equal counts by value, no more than asked for, only what matches."""
        services = ["pay", "cart", "cart", "orders", "stock", "stock"]
        store.append([log(n, service=service) for n, service in enumerate(services)] + [loss(9)])
        store.commit()
        expected = buckets(cart=2, stock=2, orders=1, pay=1)
        assert store.facets("service") == expected
        assert store.facets("service", limit=1) == expected[:1]
        assert store.facets("service", limit=0) == []
        after = START_NS + 2 * SECOND_NS
        assert store.facets("service", start_ns=after) == buckets(stock=2, cart=1, orders=1)
        assert store.facets("service", Equals("service", "pay")) == buckets(pay=1)
        assert store.facets("service", Words(("unknown",))) == []

    def test_facets_of_attributes_count_each_record_once_for_a_value(self, store: Store) -> None:
        """Lists value by value; attributes and resource together; numbers and their text alike."""
        long = "x" * 400
        store.append(
            [
                log(1, attributes={"k": ["a", "b", "a"]}),
                log(2, attributes={"k": "a"}, resource={"k": "a"}),
                log(3, resource={"k": "c"}),
                log(4, attributes={"k": 5}),
                log(5, attributes={"k": ["5", 5, 5.0]}),
                log(6, attributes={"k": True}),
                log(7, attributes={"k": long}),
                log(8, attributes={"kk": "z"}),
                log(9, attributes={"k": None}),
            ]
        )
        store.commit()
        assert store.facets("k") == [
            Bucket(value="5", count=2),
            Bucket(value="a", count=2),
            Bucket(value="5.0", count=1),
            Bucket(value="b", count=1),
            Bucket(value="c", count=1),
            Bucket(value="true", count=1),
            Bucket(value=long, count=1),
        ]
        assert store.facets("resource.k") == buckets(a=1, c=1)
        assert store.facets("attributes.k", Equals("uid", log(1).uid)) == buckets(a=1, b=1)

    def test_facets_of_the_record_line_s_own_fields(self, store: Store) -> None:
        """Levels, kinds, instances and ids; absent ones count nowhere."""
        pod = {"service.instance.id": "pod-1"}
        store.append([log(1, level="ERROR", resource=pod), log(2), span(3, parent_span_id=span_id(9))])
        store.commit()
        assert store.facets("level") == buckets(INFO=2, ERROR=1)
        assert store.facets("kind") == buckets(log=2, span=1)
        assert store.facets("instance") == [Bucket(value="pod-1", count=1)]
        assert store.facets("trace_id") == [Bucket(value=TRACE, count=1)]
        assert store.facets("parent_span_id") == [Bucket(value=span_id(9), count=1)]
        assert store.facets("severity_number") == [Bucket(value="9", count=2), Bucket(value="17", count=1)]
        assert store.facets("name") == buckets(place=1)
        # A wildcard over ids is a condition that an index may only know in part.
        assert store.facets("level", Words(("placed",), "message")) == buckets(ERROR=1, INFO=1)

    def test_facets_of_words_and_times_are_refused(self, store: Store) -> None:
        """They would list nearly every record."""
        for field in ("message", "exception.message", "timestamp_ns", "duration_ns"):
            with pytest.raises(QueryError):
                store.facets(field)

    # ------------------------------------------------------------ lists of traces

    def test_a_trace_is_summarised_as_a_whole(self, store: Store) -> None:
        """Root, extent and counts are of all its records, not of those that matched."""
        store.append(
            [
                span(3, service="pay", name="charge", parent_span_id=span_id(1), error=True),
                span(1, duration_ns=9 * SECOND_NS, parent_span_id=span_id(77)),
                span(2, parent_span_id=span_id(1), received_ns=START_NS + DAY_NS),
                log(5, trace_id=TRACE),
                log(0, trace_id=TRACE, level="DEBUG"),
                span_start(2),
                loss(4, trace_id=TRACE),
            ]
        )
        store.commit()
        expected = TraceSummary(
            trace_id=TRACE,
            service="orders",
            name="place",
            start_ns=START_NS,
            duration_ns=10 * SECOND_NS,
            error=True,
            spans=3,
            logs=2,
        )
        assert store.find_traces() == [expected]
        assert store.find_traces(Equals("name", "charge")) == [expected]
        assert store.find_traces(start_ns=START_NS + 5 * SECOND_NS) == [expected]
        assert store.find_traces(start_ns=START_NS + 6 * SECOND_NS) == []

    def test_a_trace_of_logs_only_is_named_by_its_first(self, store: Store) -> None:
        """Somebody who only logs has traces, too."""
        store.append([log(2, trace_id=TRACE, message="then"), log(1, trace_id=TRACE, message="first")])
        store.commit()
        found = [(one.name, one.spans, one.logs, one.duration_ns) for one in store.find_traces()]
        assert found == [("first", 0, 2, SECOND_NS)]

    def test_traces_come_newest_first_by_their_start(self, store: Store) -> None:
        """By the start of the trace, not by the record that matched; the limit keeps the newest."""
        records = []
        for n in range(8):
            trace_id = f"{n + 1:032x}"
            records.append(span(n, trace_id=trace_id, received_ns=START_NS + n % 3 * DAY_NS))
            records.append(log(100 - n, trace_id=trace_id, received_ns=START_NS + n % 2 * DAY_NS))
        records.append(log(50))
        store.append(records)
        store.commit()
        newest = [f"{n + 1:032x}" for n in reversed(range(8))]
        for limit in (0, 1, 3, 8, 9):
            assert [found.trace_id for found in store.find_traces(limit=limit)] == newest[:limit]
            logged = store.find_traces(Equals("kind", "log"), limit=limit)
            assert [found.trace_id for found in logged] == newest[:limit]

    def test_pages_of_traces_give_each_once(self, store: Store) -> None:
        """In the order of one long list, also among traces that start together, whatever arrives then."""
        for n in range(9):
            trace_id = f"{n + 1:032x}"
            store.append(
                [
                    span_start(n // 4, trace_id=trace_id, uid=f"begun-{n}"),
                    span(n // 4, trace_id=trace_id, uid=f"span-{n}"),
                    log(20 + n % 2, trace_id=trace_id, uid=f"log-{n}"),
                ]
            )
        store.append([log(30, trace_id=f"{7:032x}", level="ERROR", received_ns=START_NS + DAY_NS)])
        store.commit()
        everything = store.find_traces(limit=99)
        assert len(everything) == 9
        for limit in (1, 2, 4, 9):
            found: list[TraceSummary] = []
            while page := store.find_traces(before=place_of_trace(found[-1]) if found else None, limit=limit):
                found += page
            assert found == everything
        middle = place_of_trace(everything[4])
        rest = store.find_traces(before=middle)
        store.append([span(40 + n, trace_id=f"{n + 100:032x}") for n in range(3)])
        store.commit()
        assert store.find_traces(before=middle) == rest == everything[5:]
        assert store.find_traces(Equals("level", "ERROR"), before=place_of_trace(everything[0])) == [
            one for one in everything if one.trace_id == f"{7:032x}"
        ]
        assert store.find_traces(error=False, before=middle, limit=1) == rest[:1]
        assert store.find_traces(before=(START_NS, f"{1:032x}")) == []

    def test_traces_are_asked_for_duration_and_error_as_a_whole(self, store: Store) -> None:
        """The error or the length may be in another record than the match."""
        slow, failed = f"{1:032x}", f"{2:032x}"
        store.append(
            [
                span(1, trace_id=slow, duration_ns=2 * SECOND_NS),
                log(9, trace_id=slow, received_ns=START_NS + DAY_NS),
                span(2, trace_id=failed, error=True),
                log(3, trace_id=failed, service="pay"),
            ]
        )
        store.commit()

        def ids(**asked: object) -> list[str]:
            return [found.trace_id for found in store.find_traces(Everything(), **asked)]  # type: ignore[arg-type]

        assert ids(min_duration_ns=8 * SECOND_NS) == [slow]
        assert ids(min_duration_ns=8 * SECOND_NS + 1) == []
        assert ids(error=True) == [failed]
        assert ids(error=False) == [slow]
        assert ids(error=True, min_duration_ns=3 * SECOND_NS) == []
        assert [one.trace_id for one in store.find_traces(Equals("service", "pay"), error=True)] == [failed]

    # ------------------------------------------------------------ services and operations

    def test_services_are_counted_exactly(self, store: Store) -> None:
        """Records, errors and operations; percentiles within the width of a bucket."""
        durations = [1_000, 50_000, 1_000_000, 3_000_000, 7 * SECOND_NS]
        store.append(
            [span(n, duration_ns=duration, name=f"op-{n % 2}") for n, duration in enumerate(durations)]
            + [span(9, service="pay", error=True, duration_ns=4_000), log(10, level="ERROR"), log(11)]
            + [log(12, service="audit"), span_start(13, service="new"), loss(14)]
        )
        store.commit()
        assert store.services() == [
            ServiceSummary(
                service="audit",
                spans=0,
                logs=1,
                errors=0,
                operations=0,
                duration_p50_ns=None,
                duration_p95_ns=None,
            ),
            ServiceSummary(
                service="orders",
                spans=5,
                logs=2,
                errors=1,
                operations=2,
                duration_p50_ns=rounded(1_000_000),
                duration_p95_ns=rounded(7 * SECOND_NS),
            ),
            ServiceSummary(
                service="pay",
                spans=1,
                logs=0,
                errors=1,
                operations=1,
                duration_p50_ns=rounded(4_000),
                duration_p95_ns=rounded(4_000),
            ),
        ]
        later = store.services(start_ns=START_NS + 10 * SECOND_NS, end_ns=START_NS + 12 * SECOND_NS)
        assert [(found.service, found.logs, found.spans) for found in later] == [("orders", 2, 0)]

    def test_services_and_operations_of_a_condition(self, store: Store) -> None:
        """Who has nothing that matches is left out, and only what matches is counted."""
        old, new = ({"service.version": version} for version in ("1", "2"))
        store.append(
            [
                span(0, resource=old, duration_ns=5_000),
                span(1, resource=new, duration_ns=90_000, error=True),
                span(2, resource=new, duration_ns=90_000, name="other"),
                log(3, resource=old),
                log(4, service="pay", resource=old),
            ]
        )
        store.commit()
        wanted = Equals("resource.service.version", "2")
        found = store.services(wanted)
        assert [(one.service, one.spans, one.logs, one.errors) for one in found] == [("orders", 2, 0, 1)]
        assert [(one.operations, one.duration_p50_ns) for one in found] == [(2, rounded(90_000))]
        operations = store.operations("orders", wanted)
        assert [(one.spans, one.duration_p50_ns) for one in operations] == [(1, rounded(90_000))] * 2
        assert store.operations("pay", wanted) == []
        # Asked for by their kind they are found, and still count as nothing.
        store.append([span_start(5, service="new"), loss(6, service="new")])
        store.commit()
        assert store.services(Equals("kind", "span_start")) == []

    def test_a_percentile_is_within_its_bucket(self, store: Store) -> None:
        """2.5 % off at the most."""
        durations = [int(10_000 * 1.07**n) for n in range(100)]
        store.append([span(n, duration_ns=duration) for n, duration in enumerate(durations)])
        store.commit()
        (found,) = store.operations("orders")
        for given, true in (
            (found.duration_p50_ns, durations[49]),
            (found.duration_p95_ns, durations[94]),
            (found.duration_p99_ns, durations[98]),
        ):
            assert abs(given - true) <= 0.026 * true

    def test_operations_of_a_service(self, store: Store) -> None:
        """By name, of that service only."""
        store.append(
            [
                span(1, name="place", duration_ns=5_000),
                span(2, name="cancel", duration_ns=5_000, error=True),
                span(3, name="cancel", duration_ns=5_000),
                span(4, name="cancel", service="pay"),
                log(5),
            ]
        )
        store.commit()
        five = rounded(5_000)
        cancel, place = (
            OperationSummary(
                service="orders",
                name=name,
                spans=spans,
                errors=errors,
                duration_p50_ns=five,
                duration_p95_ns=five,
                duration_p99_ns=five,
            )
            for name, spans, errors in (("cancel", 2, 1), ("place", 1, 0))
        )
        assert store.operations("orders") == [cancel, place]
        assert store.operations("orders", end_ns=START_NS + 2 * SECOND_NS) == [place]

    # ------------------------------------------------------------ calls

    def test_calls_between_services(self, store: Store) -> None:
        """Parent before or after its child, in one batch or two, in the same service, unknown."""
        root = span(1, service="gateway")
        before = span(2, service="orders", parent_span_id=span_id(1), error=True)
        orphan = span(3, service="stock", parent_span_id=span_id(4))
        inside = span(5, service="orders", parent_span_id=span_id(2))
        unknown = span(6, service="orders", parent_span_id=span_id(99))
        other_trace = span(7, service="mail", parent_span_id=span_id(1), trace_id=OTHER_TRACE)
        store.append([orphan, before, root])
        store.commit()
        store.append([inside, unknown, other_trace])
        store.append([span(4, service="orders", parent_span_id=span_id(1), received_ns=START_NS + DAY_NS)])
        store.commit()
        assert store.edges() == [
            Edge(caller="gateway", callee="orders", calls=2, errors=1),
            Edge(caller="orders", callee="stock", calls=1, errors=0),
        ]
        # The called span's time counts, wherever its parent's lies.
        assert store.edges(start_ns=START_NS + 3 * SECOND_NS) == [
            Edge(caller="gateway", callee="orders", calls=1, errors=0),
            Edge(caller="orders", callee="stock", calls=1, errors=0),
        ]

    def test_calls_of_a_condition(self, store: Store) -> None:
        """It is asked of the called span, as the times are, and not of its caller."""
        old, new = ({"service.version": version} for version in ("1", "2"))
        store.append(
            [
                span(1, service="gateway", resource=old),
                span(2, parent_span_id=span_id(1), resource=new, error=True),
                span(3, parent_span_id=span_id(1), resource=old),
                span(4, service="pay", parent_span_id=span_id(2), resource=new),
                span(5, service="pay", parent_span_id=span_id(6), resource=new),
                span(6, service="stock", parent_span_id=span_id(1), resource=old),
                span_start(7, service="mail", parent_span_id=span_id(1), resource=new),
            ]
        )
        store.commit()
        assert store.edges(Equals("resource.service.version", "2")) == [
            Edge(caller="gateway", callee="orders", calls=1, errors=1),
            Edge(caller="orders", callee="pay", calls=1, errors=0),
            Edge(caller="stock", callee="pay", calls=1, errors=0),
        ]
        in_time = store.edges(Equals("resource.service.version", "2"), end_ns=START_NS + 4 * SECOND_NS)
        assert in_time == [Edge(caller="gateway", callee="orders", calls=1, errors=1)]
        assert store.edges(Equals("kind", "span_start")) == []
        assert store.edges(Equals("service", "none")) == []

    def test_a_span_that_only_started_calls_too(self, store: Store) -> None:
        """A process that died in its span has called others before."""
        store.append([span_start(1, service="gateway"), span(2, parent_span_id=span_id(1))])
        store.commit()
        assert store.edges() == [Edge(caller="gateway", callee="orders", calls=1, errors=0)]

    # ------------------------------------------------------------ figures

    def test_stats_count_each_kind(self, store: Store) -> None:
        """And say how far the records reach, by their own time."""
        assert (store.stats().records, store.stats().oldest_ns, store.stats().newest_ns) == (0, None, None)
        store.append(
            [log(1), log(2), span(3), span_start(4), loss(5), span(7, received_ns=START_NS + DAY_NS)]
        )
        store.commit()
        found = store.stats()
        assert (found.records, found.logs, found.spans) == (4, 2, 2)
        assert (found.span_starts, found.losses) == (1, 1)
        assert (found.oldest_ns, found.newest_ns) == (START_NS + SECOND_NS, START_NS + 7 * SECOND_NS)
        assert (found.damaged_partitions, found.damaged_records) == (0, 0)
