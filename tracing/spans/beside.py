"""Our provider in OpenTelemetry's one place for it, and beside another one that is there or comes later."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Final

from opentelemetry import trace
from opentelemetry.util._once import Once

from tracing.spans.pipeline import pipeline
from tracing.spans.tracer import provider

if TYPE_CHECKING:
    from tracing.spans.processor import LineProcessor


class _Beside:
    """What we have done to OpenTelemetry's globals, to be undone."""

    def __init__(self) -> None:
        self.processor: LineProcessor | None = None
        self.setter: Any = None


_beside: Final = _Beside()


def join() -> None:
    """Become the provider; where another one is, get its spans through a processor instead."""
    found = trace.get_tracer_provider()
    if isinstance(found, trace.ProxyTracerProvider):
        trace.set_tracer_provider(provider)
    else:
        _stand_beside(found)
    _give_way_to_later_ones()


def leave() -> None:
    """Undo `join`; another provider stays where it is."""
    pipeline.foreign = None
    if _beside.processor is not None:
        _beside.processor.active = False
        _beside.processor = None
    if _beside.setter is not None:
        trace._set_tracer_provider = _beside.setter
        _beside.setter = None
    _vacate()


def _stand_beside(found: trace.TracerProvider) -> None:
    if found is provider or not hasattr(found, "add_span_processor"):
        return
    from tracing.spans.processor import LineProcessor

    _beside.processor = LineProcessor()
    found.add_span_processor(_beside.processor)
    pipeline.foreign = found


def _vacate() -> None:
    # OpenTelemetry has no way to take a provider back; without this nobody could set another.
    if getattr(trace, "_TRACER_PROVIDER", None) is provider:
        trace._TRACER_PROVIDER = None
        trace._TRACER_PROVIDER_SET_ONCE = Once()


def _give_way_to_later_ones() -> None:
    """Let a program that sets a provider of its own after `configure()` have it.

    OpenTelemetry would refuse it with a warning, and the program's own exporter would stay empty.
    """
    original = getattr(trace, "_set_tracer_provider", None)
    if original is None or _beside.setter is not None:
        return

    @functools.wraps(original)
    def set_provider(tracer_provider: trace.TracerProvider, *args: Any, **kwargs: Any) -> None:
        gives_way = tracer_provider is not provider and pipeline.active and pipeline.foreign is None
        if gives_way:
            _vacate()
        original(tracer_provider, *args, **kwargs)
        if gives_way:
            _stand_beside(tracer_provider)

    _beside.setter = original
    trace._set_tracer_provider = set_provider
