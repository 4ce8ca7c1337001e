"""Deliveries: a request's headers and body -> what the intake answers. Blocking; runs in threads."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from starlette.responses import Response

from collector.intake import Intake

Deliver = Callable[[Mapping[str, str], bytes], Response]

JSON = "application/json"


def deliveries(intake: Intake) -> dict[str, Deliver]:
    """How each delivery is taken in, by its name in `operations.DELIVERIES`."""

    def records(headers: Mapping[str, str], body: bytes) -> Response:
        return Response(intake.records(headers, body).body(), media_type=JSON)

    return {"ingestRecords": records}
