"""`configure()`: introduces the rooms to each other, and puts everything back.

What it may raise is a `ConfigurationError`, at the start. After that nothing of ours raises into the
program; exit joins no thread and touches no network, because every line is already where it survives.
"""

from __future__ import annotations

import atexit
import os
import platform
import sys
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from opentelemetry import propagate, trace
from opentelemetry.propagators.textmap import TextMapPropagator
from opentelemetry.util._once import Once

from tracing import health
from tracing import semconv as sc
from tracing.context import declare, declared
from tracing.errors import ConfigurationError
from tracing.logs import capture
from tracing.logs.records import fuse as logs_fuse
from tracing.propagation import Propagator
from tracing.propagation.propagator import fuse as propagation_fuse
from tracing.redact import Redactor
from tracing.settings import Settings
from tracing.sink import NullSink, Sink, slot
from tracing.spans import provider
from tracing.spans.pipeline import Limits, RandomIds, pipeline
from tracing.spans.pipeline import fuse as spans_fuse

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.id_generator import IdGenerator
    from opentelemetry.sdk.trace.sampling import Sampler

    from tracing.spans.processor import LineProcessor
    from tracing.spool import Shipper, Spool

FLUSH_TIMEOUT_S: Final = 5.0


class Handle:
    """What `configure()` gives back. Its methods never raise."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._closed = False

    def flush(self, timeout_s: float = FLUSH_TIMEOUT_S) -> bool:
        """Bring what was written so far to the collector.

        Args:
            timeout_s: seconds to wait at most.
        Returns:
            Whether the collector has taken everything. False is no loss: the rest is in the spool.
        """
        return _runtime.flush(timeout_s)

    def shutdown(self, timeout_s: float = FLUSH_TIMEOUT_S) -> bool:
        """`flush`, then `uninstall()`; a second call does nothing and says True."""
        if self._closed or _runtime.handle is not self:
            return True
        self._closed = True
        flushed = self.flush(timeout_s)
        uninstall()
        return flushed

    def stats(self) -> dict[str, int]:
        """Counts of what was written, shipped, refused, cut and dropped, by name."""
        return stats()


class _Runtime:
    """What is configured now. Changed under one lock, by `configure` and `uninstall` only."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.handle: Handle | None = None
        self.sink: Sink = NullSink()
        self.spool: Spool | None = None
        self.shipper: Shipper | None = None
        self.processor: LineProcessor | None = None
        self.textmap_before: TextMapPropagator | None = None
        self.exit_registered = False

    def flush(self, timeout_s: float) -> bool:
        try:
            provider.force_flush(int(timeout_s * 1000))
            return self.shipper is None or self.shipper.flush(timeout_s)
        except Exception as error:
            _fuse.failed(error)
            return False


_runtime: Final = _Runtime()
_fuse: Final = health.Fuse("tracing runtime")


def configure(
    service: str | None = None,
    *,
    sampler: str | Sampler | None = None,
    id_generator: IdGenerator | None = None,
    span_limits: Any = None,
    sink: Sink | None = None,
    **settings: Any,
) -> Handle:
    """Turn tracing on: `tracing.configure(service="orders")`.

    From here on every record of every logger that passes its logger's level, and every span, is a line in
    the spool, and a background thread brings the lines to the collector. Calling it again with the same
    settings changes nothing; with others it starts anew.

    Args:
        service: name of this program; default: `TRACING_SERVICE`, `OTEL_SERVICE_NAME`.
        sampler: name of one of OpenTelemetry's samplers, or a `Sampler`; it drops spans, never log lines.
        id_generator: an SDK `IdGenerator`.
        span_limits: an SDK `SpanLimits`.
        sink: where lines go instead of the spool; for tests and for exporters of one's own.
        **settings: any field of `tracing.settings.Settings`, such as `level="INFO"` or `collector_url=…`.
    Returns:
        A handle to flush, shut down and ask for counts.
    Raises:
        ConfigurationError: a setting is malformed or unknown; nothing was changed.
    """
    named = sampler if isinstance(sampler, str) else None
    read = Settings.from_env(os.environ, service=service, sampler=named, **settings)
    custom = (None if named is not None else sampler, id_generator, span_limits, sink)
    with _runtime.lock:
        known = _runtime.handle
        if known is not None and known.settings == read and not any(custom):
            return known
        propagator = Propagator(read.propagators, trust_remote_ids=read.trust_remote_ids)
        if known is not None:
            uninstall()
        handle = _runtime.handle = Handle(read)
        if not read.enabled:
            return handle
        resource = _resource(read)
        redactor = _redactor(read)
        _runtime.sink = sink if sink is not None else _open_sink(read, resource)
        slot.fill(_runtime.sink, service=read.service, resource=resource, redactor=redactor)
        _configure_fields(read, redactor)
        _configure_spans(read, resource, sampler, id_generator, span_limits)
        _runtime.textmap_before = propagate.get_global_textmap()
        propagate.set_global_textmap(propagator)
        if read.capture_logs:
            capture.install(read.level)
        if not _runtime.exit_registered:
            atexit.register(_at_exit)
            _runtime.exit_registered = True
        return handle


def uninstall() -> None:
    """Put everything back: logging, propagation, the tracer provider. What was written stays in the spool."""
    with _runtime.lock:
        if _runtime.handle is None:
            return
        _runtime.handle = None
        capture.remove()
        if isinstance(propagate.get_global_textmap(), Propagator) and _runtime.textmap_before is not None:
            propagate.set_global_textmap(_runtime.textmap_before)
        _runtime.textmap_before = None
        _remove_spans()
        slot.empty()
        declared.clean = None
        if _runtime.shipper is not None:
            _runtime.shipper.stop(0.0)
        if _runtime.spool is not None:
            _runtime.spool.close("uninstalled")
        _runtime.sink, _runtime.spool, _runtime.shipper = NullSink(), None, None


def flush(timeout_s: float = FLUSH_TIMEOUT_S) -> bool:
    """Bring what was written so far to the collector; `Handle.flush` says more."""
    return _runtime.flush(timeout_s)


def stats() -> dict[str, int]:
    """Counts by name: what the library refused or cut, then `spool.…` and `shipper.…`. Never raises."""
    found = dict(health.counts)
    for part, source in (("spool", _runtime.spool), ("shipper", _runtime.shipper)):
        try:
            found |= {f"{part}.{name}": value for name, value in source.stats().items()} if source else {}
        except Exception as error:
            _fuse.failed(error)
    return found


# ---------------------------------------------------------------- the parts


def _resource(settings: Settings) -> dict[str, Any]:
    """What is known of this process, in OpenTelemetry's names; the operator's word counts most."""
    host = platform.node() or "localhost"
    return {
        sc.SERVICE_NAME: settings.service,
        sc.SERVICE_INSTANCE_ID: f"{host}:{os.getpid()}",  # children of a prefork server share their master's
        sc.HOST_NAME: host,
        sc.PROCESS_PID: os.getpid(),
        sc.PROCESS_COMMAND: sys.argv[0] if sys.argv and sys.argv[0] else sys.executable,
        "process.runtime.version": platform.python_version(),
        sc.TELEMETRY_SDK_NAME: "backtrail",
        sc.TELEMETRY_SDK_LANGUAGE: "python",
        sc.TELEMETRY_SDK_VERSION: _version(),
        **{key: value for key, value in settings.resource_attributes.items() if key != sc.SERVICE_NAME},
    }


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("backtrail")
    except PackageNotFoundError:  # run from a checkout that was never installed
        return "0"


def _redactor(settings: Settings) -> Redactor | None:
    if not settings.redact:
        return None
    return Redactor(
        keys=settings.redact_keys, patterns=settings.redact_patterns, emails=settings.redact_emails
    )


def _open_sink(settings: Settings, resource: Mapping[str, Any]) -> Sink:
    if settings.exporter == "none":
        return NullSink()
    if settings.exporter != "spool":
        from tracing.export import open_exporter

        return open_exporter(settings, resource)
    from tracing.spool import SpoolLimits, open_spool, start_shipper

    limits = SpoolLimits(
        service_bytes_max=settings.spool_bytes_max,
        mode="mapped" if settings.spool_mode == "mapped" else "write",
        fsync=settings.spool_fsync == "always",
    )
    spool = open_spool(settings.spool_dir, service=settings.service, resource=resource, limits=limits)
    _runtime.spool = spool
    if settings.ship:
        _runtime.shipper = start_shipper(
            settings.spool_dir,
            service=settings.service,
            url=settings.collector_url,
            token=settings.token,
            spool=spool,
        )
    return spool


def _configure_fields(settings: Settings, redactor: Redactor | None) -> None:
    declared.clean = _cleaner(redactor)
    for name in settings.baggage_fields:
        declare(name, declared.kinds.get(name, str), baggage=True)


def _cleaner(redactor: Redactor | None) -> Any:
    """What takes secrets out of bound fields, once, when they are bound."""
    if redactor is None:
        return None

    def clean(fields: Mapping[str, Any]) -> Mapping[str, Any]:
        return redactor.mapping(fields)

    return clean


def _configure_spans(
    settings: Settings,
    resource: Mapping[str, Any],
    sampler: str | Sampler | None,
    id_generator: IdGenerator | None,
    span_limits: Any,
) -> None:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import SpanLimits

    for hook in (logs_fuse, spans_fuse, propagation_fuse):
        hook.reset()
    pipeline.resource = Resource(dict(resource))
    try:
        pipeline.limits = Limits.of(span_limits or SpanLimits())  # reads OTEL_SPAN_…_LIMIT
    except ValueError as error:
        raise ConfigurationError(str(error)) from None
    own = settings.sampler if sampler is None or isinstance(sampler, str) else sampler
    pipeline.sample_by(own, settings.sampler_arg)
    pipeline.draw_ids_from(id_generator or RandomIds())
    pipeline.slow_ns = int(settings.slow_span_s * 1e9)
    pipeline.active = True
    _join(trace.get_tracer_provider())


def _join(found: trace.TracerProvider) -> None:
    """Become the provider, or stand beside the one that is there."""
    if isinstance(found, trace.ProxyTracerProvider):
        trace.set_tracer_provider(provider)
    elif found is not provider and hasattr(found, "add_span_processor"):
        from tracing.spans.processor import LineProcessor

        _runtime.processor = LineProcessor()
        found.add_span_processor(_runtime.processor)
        pipeline.foreign = found


def _remove_spans() -> None:
    pipeline.active = False
    pipeline.foreign = None
    pipeline.processors = ()
    if _runtime.processor is not None:
        _runtime.processor.active = False
        _runtime.processor = None
    # OpenTelemetry has no way to take a provider back; without this nobody could set another.
    if getattr(trace, "_TRACER_PROVIDER", None) is provider:
        trace._TRACER_PROVIDER = None
        trace._TRACER_PROVIDER_SET_ONCE = Once()


def _at_exit() -> None:
    """The last thing: say that this process ended in order. No join, no network."""
    spool = _runtime.spool
    if spool is not None:
        spool.close("exit")


def _start_from_environment() -> None:
    configure(capture_logs=False)


slot.start = _start_from_environment
