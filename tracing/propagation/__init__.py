"""Headers in and out: W3C trace context and baggage, X-Trace-ID, B3, Jaeger."""

from tracing.propagation.propagator import DEFAULT_FORMATS, FORMATS, Propagator, extract, extracted, inject

__all__ = ["DEFAULT_FORMATS", "FORMATS", "Propagator", "extract", "extracted", "inject"]
