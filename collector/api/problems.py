"""Errors -> RFC 9457 problem details. The closed list of what the API can say went wrong.

Source: RFC 9457, sections 3.1 (members) and 4.1 (about registering problem types). The types are URNs,
because nothing is to be fetched under them.
"""

from __future__ import annotations

import http
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from collector.api.bodies import BodyTimeout, BodyTooLarge
from collector.api.parameters import InvalidParameter
from collector.errors import (
    CollectorError,
    Damaged,
    NotFound,
    Overloaded,
    QueryError,
    Refused,
    StoreFailed,
    TooCostly,
    TookTooLong,
)

CONTENT_TYPE: Final = "application/problem+json"
TYPE_PREFIX: Final = "urn:backtrail:problem:"

# kind -> (status, title); the kinds are the ends of the `type` URNs and never change their meaning
KINDS: Final[dict[str, tuple[int, str]]] = {
    "bad-request": (400, "The request is wrong as a whole"),
    "unauthorized": (401, "A token is needed"),
    "forbidden": (403, "This token may not do that"),
    "not-found": (404, "Nothing is stored under this id"),
    "no-such-path": (404, "No such path"),
    "method-not-allowed": (405, "The path does not know this method"),
    "timeout": (408, "The request did not come in time"),
    "too-large": (413, "The body is too long"),
    "unsupported-media-type": (415, "The body has a type or an encoding that is not read here"),
    "misdirected": (421, "The request names another host"),
    "invalid-parameter": (422, "A parameter cannot be understood"),
    "invalid-query": (422, "The query cannot be understood"),
    "too-costly": (422, "The query would read too much"),
    "too-many-requests": (429, "The sender has used up its share"),
    "head-too-long": (431, "The request's head is too long"),
    "internal": (500, "A fault of the collector"),
    "damaged": (500, "Stored data is damaged"),
    "overloaded": (503, "No room at the moment"),
    "stopping": (503, "The collector is stopping"),
    "took-too-long": (503, "The question was given up"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One RFC 9457 problem, ready to be sent."""

    kind: str  # a key of `KINDS`
    detail: str  # what is wrong, where, and what to do
    extensions: Mapping[str, Any] = field(default_factory=dict)  # further members, by kind
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def status(self) -> int:
        """HTTP status code."""
        return KINDS[self.kind][0]

    def body(self, instance: str) -> bytes:
        """The JSON text.

        Args:
            instance: path of the request that met the problem.
        """
        status, title = KINDS[self.kind]
        return orjson.dumps(
            {
                "type": TYPE_PREFIX + self.kind,
                "title": title,
                "status": status,
                "detail": self.detail,
                "instance": instance,
                **self.extensions,
            }
        )


class Stopping(CollectorError):
    """The service takes nothing more, because it is about to end."""


def problem_of(error: Exception) -> Problem:
    """Say what an error means to whoever asked. What is not ours is our own fault: `internal`."""
    match error:
        case TooCostly():
            return Problem(kind="too-costly", detail=str(error))
        case QueryError():
            position = {} if error.position is None else {"position": error.position}
            return Problem(kind="invalid-query", detail=str(error), extensions=position)
        case InvalidParameter():
            return Problem(kind="invalid-parameter", detail=str(error), extensions={"errors": error.errors})
        case TookTooLong():
            return Problem(kind="took-too-long", detail=str(error))
        case NotFound():
            return Problem(kind="not-found", detail=str(error))
        case Overloaded():
            return come_back("overloaded", str(error), error.retry_after_s)
        case StoreFailed():  # a disk that is full, a cluster that is away: what is taken in waits in the log
            return come_back("overloaded", str(error), 5.0)
        case Stopping():
            return come_back("stopping", "the collector is stopping; keep what you have, send it again", 2.0)
        case BodyTimeout():
            return Problem(kind="timeout", detail=str(error), headers={"Connection": "close"})
        case BodyTooLarge():
            detail = f"at most {error.bytes_max} bytes are taken in one request; send less (body_bytes_max)"
            return Problem(kind="too-large", detail=detail, headers={"Connection": "close"})
        case Refused():
            kind = _REFUSALS.get(error.reason, "bad-request")
            members = {"reason": error.reason}
            if error.field is not None:
                members["field"] = error.field
            return Problem(kind=kind, detail=str(error), extensions=members)
        case Damaged():
            return Problem(kind="damaged", detail=str(error))
        case CollectorError():
            return Problem(kind="internal", detail=str(error))
        case _:
            # The text of a foreign error may quote data: it belongs in our log, not in an answer.
            return Problem(
                kind="internal", detail=f"{type(error).__name__}; the collector's log has the details"
            )


def come_back(kind: str, detail: str, retry_after_s: float) -> Problem:
    """A problem that passes, and says when to come back; HTTP wants whole seconds, so upwards."""
    seconds = max(1, math.ceil(retry_after_s))
    return Problem(
        kind=kind,
        detail=detail,
        extensions={"retry_after_s": retry_after_s},
        headers={"Retry-After": str(seconds)},
    )


def problem_of_status(status: int, detail: str, headers: Mapping[str, str]) -> Problem:
    """The problem for an error status of the HTTP layer itself."""
    kinds = (kind for kind, (of_kind, _) in _BY_STATUS if of_kind == status)
    kind = next(kinds, "bad-request" if status < 500 else "internal")
    return Problem(kind=kind, detail=detail or http.HTTPStatus(status).description, headers=headers)


# Reasons of refused requests that have a status of their own; all others are 400.
_REFUSALS: Final = {
    "body_too_large": "too-large",
    "unsupported_content_type": "unsupported-media-type",
    "unsupported_encoding": "unsupported-media-type",
}
# HTTP's own 404 is about paths, not about ids
_BY_STATUS: Final = (("no-such-path", (404, "")), *KINDS.items())
