"""What the API offers: every operation, declared once for the router and the OpenAPI document."""

from __future__ import annotations

from typing import Final

from collector.api import catalogue_contexts, catalogue_events, catalogue_letters, exports, shapes
from collector.api.answers import PAGE_RECORDS_MAX
from collector.api.operations import Order, Page, Question, Removal, Stream
from collector.api.parameters import Parameter

_TIME: Final = "in human words (`15m`, `2h`, `yesterday 14:00`), RFC 3339, or epoch nanoseconds"
TRACE_ID: Final = Parameter(
    name="trace_id",
    kind="trace_id",
    description="the trace: 32 hexadecimal digits; a UUID with dashes is taken, too",
    example="4bf92f3577b34da6a3ce929d0e0e4736",
)
START: Final = Parameter(
    name="start", kind="time", description=f"earliest time, included: {_TIME}", example="15m"
)
END: Final = Parameter(
    name="end", kind="time", description=f"latest time, not included: {_TIME}", example="now"
)
QUERY: Final = Parameter(
    name="q",
    kind="text",
    description='search text, for instance `service:orders level:ERROR "card declined"`; empty: everything',
    example="level:>=WARN",
    default="",
)
LEVEL: Final = Parameter(name="level", kind="text", description="this level or above", example="WARN")
SERVICE: Final = Parameter(name="service", kind="text", description="name of the service", example="orders")
ENVIRONMENT: Final = Parameter(
    name="environment", kind="text", description="`deployment.environment.name`", example="production"
)
VERSION: Final = Parameter(name="version", kind="text", description="`service.version`", example="1.4.2")
OPERATION: Final = Parameter(
    name="operation", kind="text", description="name of a span", example="POST /orders"
)
CURSOR: Final = Parameter(name="cursor", kind="text", description="`cursor` of the page before")
STEP: Final = Parameter(
    name="step",
    kind="duration",
    description="length of a step, whole minutes; absent: as short as gives 120 steps at most",
    example="1m",
)

_FILTERS: Final = (QUERY, SERVICE, ENVIRONMENT, VERSION, LEVEL, TRACE_ID)


def _in_path(parameter: Parameter) -> Parameter:
    return Parameter(
        name=parameter.name,
        kind=parameter.kind,
        description=parameter.description,
        example=parameter.example,
        place="path",
    )


def _limit(default: int) -> Parameter:
    return Parameter(
        name="limit",
        kind="integer",
        description="how many, newest first",
        minimum=1,
        maximum=PAGE_RECORDS_MAX,
        default=default,
        example=default,
    )


QUESTIONS: Final[tuple[Question, ...]] = (
    Question(
        name="findTraces",
        path="/api/v1/traces",
        summary="Find traces, newest first, a page at a time",
        ask=lambda answers, given: answers.traces(**given),
        answer=shapes.TracesObject,
        parameters=(
            Parameter(
                name="q",
                kind="text",
                description=(
                    "search text; `a >> b`: a span like `a` and anywhere below it one like `b`; `a > b`: a"
                    " child like `b`; empty: everything"
                ),
                example="service:gateway >> service:payments level:ERROR",
                default="",
            ),
            START,
            END,
            SERVICE,
            ENVIRONMENT,
            VERSION,
            OPERATION,
            Parameter(
                name="min_duration",
                kind="duration",
                description="shortest length of the whole trace",
                example="250ms",
            ),
            Parameter(
                name="error",
                kind="boolean",
                description="only traces with, or without, an error",
                example=True,
            ),
            _limit(20),
            CURSOR,
        ),
        problems=("invalid-query",),
    ),
    Question(
        name="getTrace",
        path="/api/v1/traces/{trace_id}",
        summary="The call chain of a trace: spans parents first, each with its logs, and what is missing",
        ask=lambda answers, given: answers.trace(**given),
        answer=shapes.TraceObject,
        parameters=(_in_path(TRACE_ID),),
        problems=("invalid-query", "not-found"),
    ),
    Question(
        name="findLogs",
        path="/api/v1/logs",
        summary="Find records, newest first, a page at a time",
        ask=lambda answers, given: answers.logs(**given),
        answer=shapes.LogsObject,
        parameters=(
            *_FILTERS,
            START,
            END,
            _limit(50),
            CURSOR,
            Parameter(name="total", kind="boolean", description="count all that match, too", example=False),
        ),
        problems=("invalid-query",),
    ),
    Question(
        name="countValues",
        path="/api/v1/logs/facets",
        summary="The most frequent values of a field in the records that match",
        ask=lambda answers, given: answers.facets(**given),
        answer=shapes.FacetsObject,
        parameters=(
            Parameter(
                name="field",
                kind="text",
                description="a field as in a search",
                example="service",
                required=True,
            ),
            *_FILTERS,
            START,
            END,
            _limit(20),
        ),
        problems=("invalid-query",),
    ),
    Question(
        name="getRootCause",
        path="/api/v1/root-cause",
        summary="What caused the fault of a trace, or of a time range, with the records that prove it",
        ask=lambda answers, given: answers.root_cause(**given),
        answer=shapes.VerdictObject,
        parameters=(
            TRACE_ID,
            START,
            END,
            ENVIRONMENT,
            VERSION,
            Parameter(
                name="explain",
                kind="boolean",
                description="say how it was come by, too: each signal's figures, and the distributions",
                example=False,
            ),
        ),
        problems=("invalid-query", "not-found"),
    ),
    Question(
        name="listServices",
        path="/api/v1/services",
        summary="Every service seen, with counts and durations",
        ask=lambda answers, given: answers.services(**given),
        answer=shapes.ServicesObject,
        parameters=(ENVIRONMENT, VERSION, START, END),
        problems=("invalid-query",),
    ),
    Question(
        name="listOperations",
        path="/api/v1/services/{service}/operations",
        summary="Every operation of a service, with counts and durations",
        ask=lambda answers, given: answers.operations(**given),
        answer=shapes.OperationsObject,
        parameters=(_in_path(SERVICE), ENVIRONMENT, VERSION, START, END),
        problems=("invalid-query",),
    ),
    Question(
        name="getServiceRates",
        path="/api/v1/services/{service}/rates",
        summary="Requests that a service answered, those that failed, and how long they took, step by step",
        ask=lambda answers, given: answers.service_rates(**given),
        answer=shapes.RatesObject,
        parameters=(_in_path(SERVICE), OPERATION, ENVIRONMENT, VERSION, START, END, STEP),
        problems=("invalid-query",),
    ),
    Question(
        name="getRates",
        path="/api/v1/rates",
        summary="Spans, logs, errors and durations of what matches, step by step",
        ask=lambda answers, given: answers.rates(**given),
        answer=shapes.RatesObject,
        parameters=(QUERY, SERVICE, OPERATION, ENVIRONMENT, VERSION, START, END, STEP),
        problems=("invalid-query",),
    ),
    Question(
        name="listTemplates",
        path="/api/v1/templates",
        summary="What the logs that match say, values left out, with counts and their trend",
        ask=lambda answers, given: answers.templates(**given),
        answer=shapes.TemplatesObject,
        parameters=(*_FILTERS, START, END, _limit(50)),
        problems=("invalid-query",),
    ),
    Question(
        name="getTopology",
        path="/api/v1/topology",
        summary="Who calls whom",
        ask=lambda answers, given: answers.topology(**given),
        answer=shapes.TopologyObject,
        parameters=(ENVIRONMENT, VERSION, START, END),
        problems=("invalid-query",),
    ),
    Question(
        name="getStats",
        path="/api/v1/stats",
        summary="Counts and sizes; `records` counts logs and spans, each once; null: the store is away",
        ask=lambda answers, given: answers.stats(),
        answer=shapes.StatsObject,
    ),
    Question(
        name="getLedger",
        path="/api/v1/ledger",
        summary="What arrived of each process, what is missing, and whether it has ended",
        ask=lambda answers, given: answers.ledger(),
        answer=shapes.LedgerObject,
    ),
    *catalogue_contexts.QUESTIONS,
    *catalogue_events.QUESTIONS,
    *catalogue_letters.QUESTIONS,
)


STREAMS: Final[tuple[Stream, ...]] = (
    Stream(
        name="tailLogs",
        path="/api/v1/logs/tail",
        summary="Records as they become visible, as server-sent events without end",
        content_types=("text/event-stream",),
        parameters=_FILTERS,
    ),
    Stream(
        name="exportLogs",
        path="/api/v1/logs/export",
        summary="Every record that matches, newest first, in a format for other tools",
        content_types=("application/x-ndjson", "text/csv"),
        parameters=(
            Parameter(
                name="format",
                kind="text",
                description="`otlp-json` gives lines of `TracesData` and `LogsData`",
                choices=tuple(exports.FORMATS),
                default="ndjson",
                example="csv",
            ),
            *_FILTERS,
            START,
            END,
            Parameter(
                name="limit",
                kind="integer",
                description="how many, newest first; absent: all",
                minimum=1,
                maximum=1_000_000_000,
                example=1000,
            ),
        ),
    ),
    Stream(
        name="exportTrace",
        path="/api/v1/traces/{trace_id}/export",
        summary="One call chain as a Chrome trace, for Perfetto and chrome://tracing",
        content_types=("application/json",),
        parameters=(_in_path(TRACE_ID),),
        problems=("invalid-query", "not-found"),
    ),
)

REMOVALS: Final[tuple[Removal, ...]] = (
    Removal(
        name="deleteTrace",
        path="/api/v1/traces/{trace_id}",
        summary="Delete every record of a trace, at once and for good",
        parameters=(_in_path(TRACE_ID),),
    ),
    Removal(
        name="deleteLogs",
        path="/api/v1/logs",
        summary="Delete every record that matches, at once and for good; one parameter is needed",
        parameters=(*_FILTERS, START, END),
    ),
)

ORDERS: Final[tuple[Order, ...]] = (*catalogue_events.ORDERS, *catalogue_letters.ORDERS)

PAGES: Final[tuple[Page, ...]] = (
    Page(
        name="health",
        path="/healthz",
        summary="Whether the process answers at all",
        content_type="application/json",
        answers={200: "it does"},
    ),
    Page(
        name="readiness",
        path="/readyz",
        summary="Whether records that come in also become visible",
        content_type="application/json",
        answers={200: "they do", 503: "they do not: no room, no progress of the index, or it is stopping"},
    ),
    Page(
        name="metrics",
        path="/metrics",
        summary="Counters and gauges as Prometheus text",
        content_type="text/plain",
        answers={200: "Prometheus text format 0.0.4"},
        right="read",
        blocks=True,
    ),
    Page(
        name="openapi",
        path="/api/v1/openapi.json",
        summary="This document",
        content_type="application/json",
        answers={200: "OpenAPI 3.1"},
    ),
)
