"""Records and conditions for the store's contract kit: small, telling, and nasty where it counts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import msgspec

from collector.model import Event, ExceptionInfo, Link, Record, Source, Status
from collector.store.conditions import (
    And,
    Condition,
    Equals,
    Everything,
    Exists,
    Not,
    Or,
    Range,
    Wildcard,
    Words,
)
from tracing.semconv import SERVICE_INSTANCE_ID

SECOND_NS: Final = 1_000_000_000
DAY_NS: Final = 86_400 * SECOND_NS
START_NS: Final = 1_763_942_400 * SECOND_NS  # a midnight, UTC, so that partitions by the day are tried too
TRACE: Final = "4bf92f3577b34da6a3ce929d0e0e4736"
OTHER_TRACE: Final = "0af7651916cd43dd8448eb211c80319c"
SEVERITIES: Final = {"DEBUG": 5, "INFO": 9, "WARN": 13, "ERROR": 17}


def log(number: int, **fields: Any) -> Record:
    """A log record of service `orders`, `number` seconds after the start."""
    level = fields.pop("level", "INFO")
    return _record(
        number, {"level": level, "severity_number": SEVERITIES[level], "message": "placed", **fields}
    )


def span(number: int, **fields: Any) -> Record:
    """A span of service `orders` in `TRACE`, `number` seconds after the start, one second long."""
    error = fields.pop("error", False)
    defaults = {
        "kind": "span",
        "level": "ERROR" if error else "INFO",
        "severity_number": 17 if error else 9,
        "trace_id": TRACE,
        "span_id": span_id(number),
        "name": "place",
        "span_kind": "SERVER",
        "duration_ns": SECOND_NS,
        "status": Status(code="ERROR") if error else None,
    }
    return _record(number, {**defaults, **fields})


def span_start(number: int, **fields: Any) -> Record:
    """The beginning of `span(number)`."""
    unended: dict[str, Any] = {"duration_ns": None, "uid": f"start-{number:06}", **fields}
    return msgspec.structs.replace(span(number, **unended), kind="span_start", status=None)


def loss(number: int, **fields: Any) -> Record:
    """A note that records are missing."""
    note = {"reason": "disk_full", "count": 3, "from": 10, "to": 90}
    return _record(number, {"kind": "loss", "level": "WARN", "severity_number": 13, "loss": note, **fields})


def span_id(number: int) -> str:
    """The id of `span(number)`."""
    return f"{number + 1:016x}"


def _record(number: int, fields: dict[str, Any]) -> Record:
    defaults: dict[str, Any] = {
        "uid": f"uid-{number:06}",
        "timestamp_ns": START_NS + number * SECOND_NS,
        "service": "orders",
        "received_ns": START_NS + 60 * SECOND_NS,
    }
    return Record(**{**defaults, **fields})


def numbered(records: Iterable[Record], first: int = 1) -> list[Record]:
    """The records as a write-ahead log would number them."""
    return [msgspec.structs.replace(record, seq=seq) for seq, record in enumerate(records, first)]


# Values that something on the way to an index has been seen to choke on: beyond 64 bits, beyond the
# precision of floats, text that looks like a date, a number or a path, characters with a meaning.
NASTY_VALUES: Final[tuple[Any, ...]] = (
    0,
    -0.0,
    1,
    1.0,
    -5,
    2.5,
    1e300,
    2**53,
    2**53 + 1,
    2**63,
    -(2**70),
    True,
    False,
    "true",
    "TRUE",
    "1",
    "1.0",
    "",
    " ",
    "*",
    "a*b?c",
    "2023-01-29T08:43:04Z",
    "/orders/{id}?x=1&y=[2]",
    "Straße ÉCOLE ½ 東京",
    "nul\0inside",
    "line\nbreak\ttab",
    'quote " and \\ backslash',
    "x" * 300,
    "y" * 20_000,
    [1, "1", [2.5, True]],
    [],
    {"nested": {"deep": 1}},
    None,
)
NASTY_KEYS: Final = ("k", "user.id", "user", "with space", "nul\0key", "key:/é", "service", "z" * 400)


def nasty_records() -> list[Record]:
    """Every nasty value under some nasty key, and every optional field somewhere."""
    records = [
        log(
            number,
            message=f"Value {number} of Order-{number % 3}: {value!r:.40}",
            attributes={NASTY_KEYS[number % len(NASTY_KEYS)]: value, "k": NASTY_VALUES[-number]},
            resource={SERVICE_INSTANCE_ID: f"pod-{number % 2}", "k": value, "service.name": "orders"},
        )
        for number, value in enumerate(NASTY_VALUES)
    ]
    return [
        *records,
        log(900, message=None),
        log(901, message=""),
        log(902, message="Card declined: card 4711 card_declined", level="ERROR", logger="shop.pay"),
        log(903, message="w" * 300 + " ends", source=Source(file="/app/pay.py", line=12, function="charge")),
        log(904, exception=ExceptionInfo(type="ValueError", message="bad Amount", stacktrace="Traceback …")),
        log(905, exception=ExceptionInfo(), trace_flags=1, service="été"),
        log(906, uid="u" * 300, trace_id=TRACE, span_id=span_id(1)),
        log(907, timestamp_ns=2**63 + 5, uid="far"),
        log(908, timestamp_ns=2**63 + 4, uid="nearly as far"),
        log(909, timestamp_ns=0, uid="first"),
        span(910, duration_ns=0, error=True),
        span(911, duration_ns=2**64, parent_span_id=span_id(910), span_kind=None, service="pay"),
        span(
            912,
            events=(Event(timestamp_ns=START_NS + 5, name="retry", attributes={"n": 2}),),
            links=(Link(trace_id=OTHER_TRACE, span_id=span_id(3)),),
            status=Status(code="OK", message="fine"),
            logger="opentelemetry.wsgi",
        ),
        span_start(913),
        loss(914),
    ]


_FIELDS: Final = (
    "k",
    "attributes.k",
    "resource.k",
    "user.id",
    "nul\0key",
    "service",
    "attributes.service",
    "instance",
    "level",
    "kind",
    "name",
    "status",
    "uid",
    "trace_id",
    "parent_span_id",
    "exception.type",
    "exception.message",
    "message",
    "source.line",
    "severity_number",
    "timestamp_ns",
    "duration_ns",
    "no.such.field",
)


def telling_conditions() -> list[Condition]:
    """Conditions on every kind of field, each of which some mistaken index would answer wrongly."""
    scalars = [value for value in NASTY_VALUES if isinstance(value, str | int | float)]
    found: list[Condition] = [Everything(), And(()), Or(()), Not(Everything())]
    found += [Equals(field, value) for field in ("k", "attributes.k", "user.id") for value in scalars]
    for field in _FIELDS:
        found += [
            Exists(field),
            Not(Exists(field)),
            Equals(field, "orders"),
            Equals(field, 13),
            Wildcard(field, "*"),
            Wildcard(field, "?"),
            Wildcard(field, "*r*e*"),
            Wildcard(field, "[a-z]*"),
            Range(field, low=1),
            Range(field, high=2.5, high_included=False),
            Range(field, low=-(2**70), high=2**53, low_included=False),
            Words(("bad", "amount"), field),
            Words((), field),
        ]
    found += [
        Words(("card",)),
        Words(("card", "declined")),
        Words(("declined", "card")),
        Words(("Card",)),
        Words(("strasse",)),
        Words(("straße",)),
        Words(("order", "2")),
        Wildcard("message", "decl?ned"),
        Wildcard("message", "CARD_*"),
        Equals("message", "placed"),
        Equals("message", "Placed"),
        Equals("level", "ERROR"),
        Equals("source.line", 12.0),
        Equals("duration_ns", "0"),
        Range("timestamp_ns", low=2**63 + 5),
        Range("timestamp_ns", high=2**63 + 5, high_included=False),
        Range("duration_ns", low=2**63),
        Range("k", low=2**53, high=2**53, low_included=True),
        Range("k", low=2**53, low_included=False),
        Range("k", low=0, high=0),
        Equals("kind", "span_start"),
        Or((Equals("service", "pay"), Words(("declined",)), Equals("attributes.k", 1))),
        And((Equals("service", "orders"), Not(Equals("k", 1)), Range("severity_number", low=10))),
        Not(And((Equals("service", "orders"), Not(Words(("placed",)))))),
        Not(Wildcard("k", "y*")),
        And((Equals("instance", "pod-1"), Not(Wildcard("message", "*1*")))),
    ]
    return found
