"""The environment of a process as a carrier: `TRACEPARENT`, `TRACESTATE`, `BAGGAGE`, `X_TRACE_ID`.

Source: OpenTelemetry specification, "Environment Variables as Context Propagation Carriers": the names of the
headers, in upper case, with underscores.
"""

from __future__ import annotations

from collections.abc import Mapping

from opentelemetry.context.context import Context
from opentelemetry.propagators.textmap import TextMapPropagator

from tracing.propagation.propagator import inject


def to_environment(env: Mapping[str, str], context: Context | None = None) -> dict[str, str]:
    """A copy of an environment that names the current span, or that of `context`, for a child process."""
    headers: dict[str, str] = inject({}, context)
    return {**env, **{_variable(name): value for name, value in headers.items()}}


def from_environment(env: Mapping[str, str], propagator: TextMapPropagator) -> Context:
    """The context that a parent process left in the environment; an empty one where there is none."""
    found = {name: env[variable] for name, variable in _VARIABLES.items() if variable in env}
    return propagator.extract(found, Context()) if found else Context()


def _variable(name: str) -> str:
    return name.upper().replace("-", "_")


_VARIABLES = {name: _variable(name) for name in ("traceparent", "tracestate", "baggage", "x-trace-id")}
