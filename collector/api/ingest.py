"""Deliveries: a request's headers and body -> what the intake answers. Blocking; runs in threads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import orjson
from starlette.responses import Response

from collector.api.problems import Problem
from collector.intake import Intake, OtlpAnswer

Take = Callable[[Mapping[str, str], bytes], Response]
Refuse = Callable[[Problem, str], tuple[str, bytes]]

JSON = "application/json"
PROTOBUF = "application/x-protobuf"


@dataclass(frozen=True, slots=True, kw_only=True)
class Receiver:
    """How one delivery is taken in, and how its protocol says that it was not."""

    take: Take  # headers, names in lower case, and body -> the answer
    # a problem in the words of the protocol, for the request's content type; None: as everywhere else
    refuse: Refuse | None = None


def receivers(intake: Intake) -> dict[str, Receiver]:
    """The receiver of each delivery, by its name in `operations.DELIVERIES`."""

    def records(headers: Mapping[str, str], body: bytes) -> Response:
        return Response(intake.records(headers, body).body(), media_type=JSON)

    def otlp(take: Callable[[str | None, str | None, bytes], OtlpAnswer]) -> Receiver:
        def taken(headers: Mapping[str, str], body: bytes) -> Response:
            answer = take(headers.get("content-type"), headers.get("content-encoding"), body)
            return Response(answer.body, media_type=answer.content_type)

        return Receiver(take=taken, refuse=otlp_status)

    return {
        "ingestRecords": Receiver(take=records),
        "ingestOtlpLogs": otlp(intake.otlp_logs),
        "ingestOtlpTraces": otlp(intake.otlp_traces),
        "ingestOtlpMetrics": otlp(intake.otlp_metrics),
    }


def otlp_status(problem: Problem, content_type: str) -> tuple[str, bytes]:
    """A problem as the `Status` that OTLP wants in the body of an error: content type and body.

    Source: OpenTelemetry protocol 1.9, "OTLP/HTTP Response", "Failures": only `message` is of use.
    """
    if content_type.partition(";")[0].strip().lower() == JSON:
        return JSON, orjson.dumps({"message": problem.detail})
    message = problem.detail.encode()
    return PROTOBUF, b"\x12" + varint(len(message)) + message  # field 2 of google.rpc.Status, a string


def varint(number: int) -> bytes:
    """A number as protobuf writes it: seven bits a byte, the lowest first."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)
