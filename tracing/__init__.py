"""backtrail's library: trace and span ids in every log line, header and message of a Python program.

```python
import logging
import tracing

tracing.configure(service="orders", level="INFO")  # every span, and every log line from INFO on
tracing.instrument()  # clients and servers that are installed carry the trace
log = logging.getLogger(__name__)

with tracing.span("charge", order=7):  # a piece of work
    log.info("charging")  # has the ids of the span
    headers = tracing.inject({})  # by hand, for what instrument() does not know
```
Without `level=` the loggers' own levels hold, which is WARNING where the program set none.
Nothing is imported before it is used: `import tracing` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from tracing import errors
    from tracing.changes import record_change
    from tracing.context import (
        bind,
        bound,
        current_span_id,
        current_trace_id,
        declare,
        unbind,
    )
    from tracing.current import current
    from tracing.errors import ConfigurationError, TracingError
    from tracing.instrumentation import instrument, uninstrument
    from tracing.instrumentation.asgi import asgi
    from tracing.instrumentation.wsgi import wsgi
    from tracing.logs import JsonFormatter, LogHandler
    from tracing.propagation import extract, extracted, inject
    from tracing.runtime import Handle, configure, flush, stats, uninstall
    from tracing.spans import get_tracer, span, traced

# Where each public name lives; the single list that `import *`, `dir()` and the tests go by.
_HOMES: Final = {
    "ConfigurationError": "tracing.errors",
    "Handle": "tracing.runtime",
    "JsonFormatter": "tracing.logs",
    "LogHandler": "tracing.logs",
    "TracingError": "tracing.errors",
    "asgi": "tracing.instrumentation.asgi",
    "bind": "tracing.context",
    "bound": "tracing.context",
    "configure": "tracing.runtime",
    "current": "tracing.current",
    "current_span_id": "tracing.context",
    "current_trace_id": "tracing.context",
    "declare": "tracing.context",
    "extract": "tracing.propagation",
    "extracted": "tracing.propagation",
    "flush": "tracing.runtime",
    "get_tracer": "tracing.spans",
    "inject": "tracing.propagation",
    "instrument": "tracing.instrumentation",
    "record_change": "tracing.changes",
    "span": "tracing.spans",
    "stats": "tracing.runtime",
    "traced": "tracing.spans",
    "unbind": "tracing.context",
    "uninstall": "tracing.runtime",
    "uninstrument": "tracing.instrumentation",
    "wsgi": "tracing.instrumentation.wsgi",
}

__all__ = [
    "ConfigurationError",
    "Handle",
    "JsonFormatter",
    "LogHandler",
    "TracingError",
    "asgi",
    "bind",
    "bound",
    "configure",
    "current",
    "current_span_id",
    "current_trace_id",
    "declare",
    "errors",
    "extract",
    "extracted",
    "flush",
    "get_tracer",
    "inject",
    "instrument",
    "record_change",
    "span",
    "stats",
    "traced",
    "unbind",
    "uninstall",
    "uninstrument",
    "wsgi",
]


def __getattr__(name: str) -> Any:
    if name == "errors":
        return import_module("tracing.errors")
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name == "LogHandler":
        import_module("tracing.runtime")  # it configures from the environment, which only runtime can do
    value = globals()[name] = getattr(import_module(home), name)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
