"""OpenTelemetry's own scopes, left in another context than they were entered in.

Its `detach` reports "Failed to detach context" at level ERROR for every generator that is closed early
(open-telemetry/opentelemetry-python #2606): the token belongs to another execution context. There is
nothing to put back here then, and nothing that the program could do about it, so it is passed over.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Final

from opentelemetry.context.contextvars_context import ContextVarsRuntimeContext

from tracing.handoff.patch import Patch


def _detach(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def detach(self: ContextVarsRuntimeContext, token: Any) -> None:
        try:
            original(self, token)
        except ValueError:
            if not context_detach.on:
                raise

    return detach


context_detach: Final = Patch(ContextVarsRuntimeContext, "detach", _detach)
