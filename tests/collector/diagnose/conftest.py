"""A small shop whose traces are made up: what is wrong with it is known, so verdicts can be checked."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

import pytest

from collector.model import Event, ExceptionInfo, Record, Source, Status, Trace, TraceStatus
from collector.trace.build import build_trace

MS = 1_000_000
SECOND = 1_000 * MS
START_NS = 1_800_000_000 * SECOND

GRPC_CODE = "rpc.grpc.status_code"
KEY_ERROR = """Traceback (most recent call last):
  File "/usr/lib/python3.11/site-packages/grpc/_server.py", line 552, in _call_behavior
    response = behavior(argument, context)
  File "/srv/shop/inventory.py", line 31, in reserve
    shelf = shelf_label(row)
  File "/srv/shop/inventory.py", line 52, in shelf_label
    return row["shelf"]
KeyError: 'shelf'
"""


REFUSED = """Traceback (most recent call last):
  File "/srv/shop/orders.py", line 88, in reserve_stock
    return call(order)
  File "/usr/lib/python3.11/site-packages/grpc/_channel.py", line 999, in _end_unary_response_blocking
    raise _InactiveRpcError(state)
grpc._channel._InactiveRpcError: UNAVAILABLE: connection refused
"""


@dataclass(frozen=True)
class Work:
    """Time that a span spends itself."""

    ms: float


@dataclass(frozen=True)
class Line:
    """A log line."""

    text: str
    line: int
    level: str = "INFO"
    exception: ExceptionInfo | None = None


@dataclass(frozen=True)
class Call:
    """A span and what it does, in order."""

    service: str
    name: str
    kind: str | None
    steps: tuple[Work | Line | Call, ...] = ()
    error: bool = False
    raised: str | None = None
    never_ends: bool = False
    out_ms: float = 0.3  # on the way to another service, and back
    attributes: dict[str, object] = field(default_factory=dict)

    def edited(self, name: str, edit: Callable[[Call], Call]) -> Call:
        """The same with one span below changed (all that have this name)."""
        steps = tuple(step.edited(name, edit) if isinstance(step, Call) else step for step in self.steps)
        same = replace(self, steps=steps)
        return edit(same) if self.name == name else same


def checkout() -> Call:
    """What one healthy order does."""
    find = Call("inventory", "find stock", None, (Work(5), Line("{sku} found in aisle B", 40)))
    hold = Call("inventory", "hold items", None, (Work(3),))
    reserve = Call("inventory", "/shop/Reserve", "SERVER", (Work(0.5), find, hold))
    charge = Call(
        "payments",
        "charge",
        "CONSUMER",
        (Work(0.3), Line("charging order {number}", 12), Call("payments", "authorise", None, (Work(12),))),
        out_ms=20,
    )
    take = Call(
        "orders",
        "POST /orders",
        "SERVER",
        (
            Work(0.5),
            Call("orders", "check credit", None, (Work(4), Line("credit of customer {number} is good", 55))),
            Call("orders", "/shop/Reserve", "CLIENT", (reserve,)),
            Line("order {number} reserved", 61),
            Call("orders", "price order", None, (Work(2),)),
            Call("orders", "charge publish", "PRODUCER", (Work(0.1), charge)),
            Line("order {number} queued", 70),
        ),
    )
    return Call(
        "gateway",
        "POST /orders",
        "SERVER",
        (
            Work(1),
            Line("received order {number}", 20),
            Call("gateway", "POST", "CLIENT", (take,)),
            Line("accepted order {number}", 28),
            Work(0.5),
        ),
    )


class Shop:
    """Makes traces of a plan; everything is drawn from one seeded source of chance."""

    def __init__(self, seed: int = 1) -> None:
        self._rng = random.Random(seed)
        self._number = 0
        self._lines = 0

    def trace(self, plan: Call | None = None, *, at_s: float | None = None, killed: bool = False) -> Trace:
        """One order; by default healthy, and one second after the last."""
        records = self.records(plan, at_s=at_s)
        spools = {record.uid.partition("-")[0] for record in records}
        status = TraceStatus(ended=dict.fromkeys(spools, "killed") if killed else {})
        return build_trace(records[0].trace_id or "", records, status=status)

    def traces(self, count: int, plan: Call | None = None) -> list[Trace]:
        """Several orders, a second apart."""
        return [self.trace(plan) for _ in range(count)]

    def records(self, plan: Call | None = None, *, at_s: float | None = None) -> list[Record]:
        """The records of one order."""
        self._number += 1
        start_ns = START_NS + round((self._number if at_s is None else at_s) * SECOND)
        self._records: list[Record] = []
        self._trace_id = f"{self._number:032x}"
        self._emit(plan or checkout(), None, start_ns)
        return self._records

    def _emit(self, call: Call, parent: str | None, at_ns: int) -> int:
        span_id = f"{len(self._records) + 1:08x}{self._number:08x}"
        begin_ns, at = len(self._records), at_ns
        self._records.append(self._log(call, span_id, Line("placeholder", 0), at))
        for step in call.steps:
            if isinstance(step, Work):
                at += round(step.ms * self._rng.lognormvariate(0, 0.2) * MS)
            elif isinstance(step, Line):
                self._records.append(self._log(call, span_id, step, at))
            else:
                out_ns = 0
                if step.service != call.service:
                    out_ns = round(step.out_ms * self._rng.lognormvariate(0, 0.2) * MS)
                end = self._emit(step, span_id, at + out_ns)
                at = at + MS // 10 if step.kind == "CONSUMER" else end + out_ns
        events = ()
        if call.raised:
            attributes = {
                "exception.type": "KeyError",
                "exception.message": "'shelf'",
                "exception.stacktrace": call.raised,
            }
            events = (Event(timestamp_ns=at, name="exception", attributes=attributes),)
        self._records[begin_ns] = Record(
            uid=self._uid(call.service),
            kind="span_start" if call.never_ends else "span",
            timestamp_ns=at_ns,
            duration_ns=None if call.never_ends else at - at_ns,
            level="ERROR" if call.error else "INFO",
            severity_number=17 if call.error else 9,
            service=call.service,
            trace_id=self._trace_id,
            span_id=span_id,
            parent_span_id=parent,
            name=call.name,
            span_kind=call.kind,
            status=Status(code="ERROR" if call.error else "UNSET"),
            events=events,
            attributes=call.attributes,
            resource={"service.instance.id": f"{call.service}-1"},
        )
        return at

    def _log(self, call: Call, span_id: str, line: Line, at_ns: int) -> Record:
        text = line.text.replace("{number}", str(self._number)).replace("{sku}", "chair")
        return Record(
            uid=self._uid(call.service),
            timestamp_ns=at_ns,
            level=line.level,
            severity_number={"WARN": 13, "ERROR": 17}.get(line.level, 9),
            service=call.service,
            trace_id=self._trace_id,
            span_id=span_id,
            message=text,
            logger=f"shop.{call.service}",
            exception=line.exception,
            source=Source(file=f"shop/{call.service}.py", line=line.line, function="f"),
            resource={"service.instance.id": f"{call.service}-1"},
        )

    def _uid(self, service: str) -> str:
        # As a spool gives it: the process, and a position in its spool.
        self._lines += 1
        return f"{sum(service.encode()):032x}-{self._lines}"


def shortened(call: Call, keep: int, *more: Work | Line | Call) -> Call:
    """The same run, ended after its first steps."""
    return replace(call, steps=call.steps[:keep] + more)


def without(call: Call, name: str) -> Call:
    """The same run, without the span of this name."""
    kept = tuple(step for step in call.steps if not (isinstance(step, Call) and step.name == name))
    return replace(call, steps=kept)


def slower(call: Call, ms: float) -> Call:
    """The same run, longer by so much time of its own."""
    return replace(call, steps=(Work(ms), *call.steps))


class Faults:
    """Plans of an order in which something is wrong, by name."""

    def exception(self) -> Call:
        """Raised deep in the inventory, noticed by everybody above."""
        broken = checkout()
        for place, keep in (("/shop/Reserve", 2), ("POST", 1)):
            broken = broken.edited(place, lambda call, keep=keep: replace(call, steps=call.steps[:keep]))
        broken = broken.edited(
            "/shop/Reserve",
            lambda call: replace(call, error=True, raised=KEY_ERROR if call.kind == "SERVER" else None),
        )
        failing = Line("order {number}: no reservation", 63, "ERROR")

        def give_up(call: Call) -> Call:
            if call.service == "orders":
                return replace(shortened(call, 3, failing), error=True)
            lines = (Line("order {number} failed", 30, "ERROR"), Work(0.5))
            return replace(call, steps=(*call.steps[:3], *lines), error=True)

        return broken.edited("POST /orders", give_up).edited("POST", lambda call: replace(call, error=True))

    def slow(self) -> Call:
        """One step of the inventory takes its time."""
        return checkout().edited("find stock", lambda call: slower(call, 300))

    def missing_step(self) -> Call:
        """The credit check is left out, and nobody says a word."""
        return checkout().edited("POST /orders", lambda call: without(call, "check credit"))

    def missing_message(self) -> Call:
        """The payment is never taken up."""
        return checkout().edited("charge publish", lambda call: without(call, "charge"))

    def dependency_down(self) -> Call:
        """The inventory is not there: the call to it fails, and so do all above."""

        def refused(call: Call) -> Call:
            return (
                replace(call, steps=(Work(1),), error=True, raised=REFUSED) if call.kind == "CLIENT" else call
            )

        failing = Line("order {number}: no reservation", 63, "ERROR")

        def give_up(call: Call) -> Call:
            if call.service == "orders":
                return replace(shortened(call, 3, failing), error=True)
            return replace(
                call, steps=(*call.steps[:3], Line("order {number} failed", 30, "ERROR")), error=True
            )

        broken = checkout().edited("/shop/Reserve", refused)
        return broken.edited("POST /orders", give_up).edited("POST", lambda call: replace(call, error=True))

    def too_many_calls(self) -> Call:
        """One query for each row instead of one for all."""

        def each(call: Call) -> Call:
            if call.kind != "SERVER":
                return call
            find = [step for step in call.steps if isinstance(step, Call) and step.name == "find stock"]
            return replace(call, steps=(*find * 8, *call.steps[2:]))

        return checkout().edited("/shop/Reserve", each)

    def retries(self) -> Call:
        """The inventory answers with an error code twice, then as it should."""
        failing = Call("inventory", "/shop/Reserve", "SERVER", (Work(1),), attributes={GRPC_CODE: 14})
        in_vain = Call("orders", "/shop/Reserve", "CLIENT", (failing,), error=True)

        def again(call: Call) -> Call:
            if call.service != "orders":
                return call
            return replace(call, steps=(*call.steps[:2], in_vain, in_vain, *call.steps[2:]))

        return checkout().edited("POST /orders", again)

    def slow_network(self) -> Call:
        """Calls into the inventory are under way for long."""
        return checkout().edited(
            "/shop/Reserve", lambda call: replace(call, out_ms=150) if call.kind == "SERVER" else call
        )

    def slow_queue(self) -> Call:
        """The payment waits before it is taken up."""
        return checkout().edited("charge", lambda call: replace(call, out_ms=2_000))

    def error_line(self) -> Call:
        """An error is logged and swallowed."""
        line = Line("receipt printer is out of paper", 99, "ERROR")
        return checkout().edited("price order", lambda call: replace(call, steps=(*call.steps, line)))

    def warning(self) -> Call:
        """A setting that the orders do not know; they say so and go on."""
        line = Line("unknown rounding 'dwon', taking the exact price", 97, "WARN")
        return checkout().edited("price order", lambda call: replace(call, steps=(*call.steps, line)))

    def crash(self) -> Call:
        """The payment's process is gone in the middle of its work."""

        def die(call: Call) -> Call:
            return replace(call, never_ends=True, steps=call.steps[:3])

        return checkout().edited("charge", die).edited("authorise", die)


@pytest.fixture
def shop() -> Shop:
    """A shop with a seed of its own."""
    return Shop()


@pytest.fixture
def new_shop() -> Callable[[int], Shop]:
    """Makes shops by their seeds."""
    return Shop


@pytest.fixture
def faults() -> Faults:
    """Everything that can be wrong with an order."""
    return Faults()


@pytest.fixture
def plans() -> Plans:
    """The parts that plans are made of."""
    return Plans()


class Plans:
    """What a test needs to write a plan of its own."""

    Call, Line, Work = Call, Line, Work
    checkout = staticmethod(checkout)
    shortened = staticmethod(shortened)
    slower = staticmethod(slower)
    without = staticmethod(without)

    @staticmethod
    def built(records: Iterable[Record], status: TraceStatus | None = None) -> list[Trace]:
        """Traces of records."""
        by_trace: dict[str, list[Record]] = {}
        for record in records:
            by_trace.setdefault(record.trace_id or "", []).append(record)
        return [build_trace(trace_id, same, status=status) for trace_id, same in by_trace.items()]
