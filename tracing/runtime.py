"""`configure()`: introduces the rooms to each other, and puts everything back.

What it may raise is a `ConfigurationError`, at the start. After that nothing of ours raises into the
program; exit joins no thread and touches no network, because every line is already where it survives.
"""

from __future__ import annotations

import atexit
import os
import platform
import re
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import fields
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from opentelemetry import propagate
from opentelemetry.context.context import Context
from opentelemetry.propagators.textmap import TextMapPropagator

from tracing import health
from tracing import semconv as sc
from tracing.context import declare, declared
from tracing.errors import ConfigurationError
from tracing.logs import capture, uncaught
from tracing.propagation import Propagator
from tracing.propagation.environment import from_environment
from tracing.redact import Redactor
from tracing.scopes import get_context, set_context
from tracing.settings import Settings
from tracing.sink import NullSink, Sink, slot
from tracing.spans import beside, provider
from tracing.spans.pipeline import Limits, RandomIds, pipeline

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.id_generator import IdGenerator
    from opentelemetry.sdk.trace.sampling import Sampler

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
        """`flush`, then `uninstall()`, and tell the collector that this process has ended on purpose.

        All of it within the timeout; a second call does nothing and says True.
        """
        if self._closed or _runtime.handle is not self:
            return True
        self._closed = True
        deadline = time.monotonic() + timeout_s
        flushed = self.flush(timeout_s)
        _put_back(max(0.0, deadline - time.monotonic()) if flushed else 0.0)
        return flushed

    def stats(self) -> dict[str, int]:
        """Counts of what was written, shipped, refused, cut and dropped, by name."""
        return stats()


class _Parts:
    """What one `configure()` made, before any of it is installed."""

    def __init__(self, settings: Settings, sink: Sink | None, span_limits: Any) -> None:
        """Make it all.

        Raises:
            ConfigurationError: something cannot be made; nothing of it is installed yet.
        """
        self.resource = _resource(settings)
        self.redactor = _redactor(settings)
        self.propagator = Propagator(settings.propagators, trust_remote_ids=settings.trust_remote_ids)
        self.limits = _limits(span_limits)
        self.spool: Spool | None = None
        self.shipper: Shipper | None = None
        self.sink: Sink = sink if sink is not None else self._open(settings)

    def _open(self, settings: Settings) -> Sink:
        if settings.exporter == "none":
            return NullSink()
        if settings.exporter != "spool":
            from tracing.export import open_exporter

            return open_exporter(settings, self.resource)
        from tracing.spool import SpoolLimits, open_spool, start_shipper

        root, service = settings.spool_dir, settings.service
        limits = SpoolLimits(
            service_bytes_max=settings.spool_bytes_max,
            mode="mapped" if settings.spool_mode == "mapped" else "write",
            fsync=settings.spool_fsync == "always",
        )
        spool = self.spool = open_spool(root, service=service, resource=self.resource, limits=limits)
        if settings.ship:
            self.shipper = start_shipper(
                root,
                service=service,
                url=settings.collector_url,
                token=settings.token,
                spool=spool,
                tls_files=settings.tls_files,
            )
        return spool

    def flush(self, timeout_s: float) -> bool:
        """Wait until what was written so far has arrived."""
        if self.shipper is not None:
            return self.shipper.flush(timeout_s)
        flush = getattr(self.sink, "flush", None)  # a sink of the program's own need not have one
        return flush is None or flush(timeout_s) is not False

    def close(self, ended: str) -> None:
        """Say that nothing more will be written. Joins no thread and touches no network."""
        close = getattr(self.sink, "close", None)
        if close is not None:
            close(ended)

    def stats(self) -> dict[str, int]:
        """Counts of the sink and of the shipper, by name."""
        found: dict[str, int] = {}
        name = "spool" if self.spool is not None else "exporter"
        for part, source in ((name, self.sink), ("shipper", self.shipper)):
            stats = getattr(source, "stats", None)
            if stats is not None:
                found |= {f"{part}.{key}": value for key, value in stats().items()}
        return found


class _Runtime:
    """What is configured now. Changed under one lock, by `configure` and `uninstall` only."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.handle: Handle | None = None
        self.parts: _Parts | None = None
        self.textmap_before: TextMapPropagator | None = None
        self.exit_registered = False
        self.given: Context | None = None  # what the process that started this one left in the environment

    def flush(self, timeout_s: float) -> bool:
        parts = self.parts
        try:
            return provider.force_flush(int(timeout_s * 1000)) and (parts is None or parts.flush(timeout_s))
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
    customised = (
        sink is not None or id_generator is not None or span_limits is not None or sampler is not named
    )
    with _runtime.lock:
        known = _runtime.handle
        if known is not None and known.settings == read and not customised:
            return known
        parts = _Parts(read, sink, span_limits) if read.enabled else None
        if known is not None:
            uninstall()
        handle = _runtime.handle = Handle(read)
        slot.enabled = read.enabled
        if parts is None:
            return handle
        health.reset_fuses()
        _runtime.parts = parts
        slot.fill(parts.sink, service=read.service, resource=parts.resource, redactor=parts.redactor)
        slot.child_setup = None if customised else partial(_child_setup, read)
        slot.left_out = frozenset(read.instrument_exclude)
        slot.sql_comments = read.sql_comments
        slot.excluded_paths = tuple(map(re.compile, read.excluded_paths))
        declared.clean = parts.redactor.mapping if parts.redactor is not None else None
        for name in read.baggage_fields:
            declare(name, declared.kinds.get(name, str), baggage=True)
        _configure_spans(read, parts, sampler, id_generator)
        _runtime.given = _go_on_from_environment(parts.propagator)
        _runtime.textmap_before = propagate.get_global_textmap()
        propagate.set_global_textmap(parts.propagator)
        if read.capture_logs:
            capture.install(read.level)
            uncaught.install()
        if not _runtime.exit_registered:
            atexit.register(_at_exit)
            _runtime.exit_registered = True
        return handle


def uninstall() -> None:
    """Put everything back: logging, propagation, the tracer provider. What was written stays in the spool."""
    _put_back(0.0)


def _put_back(last_round_s: float) -> None:
    """Undo `configure()`; the shipper gets so many seconds for what the end itself writes."""
    with _runtime.lock:
        parts = _runtime.parts
        _runtime.handle = _runtime.parts = None
        slot.enabled = True
        if parts is None:
            return
        capture.remove()
        uncaught.remove()
        if isinstance(propagate.get_global_textmap(), Propagator) and _runtime.textmap_before is not None:
            propagate.set_global_textmap(_runtime.textmap_before)
        _runtime.textmap_before = None
        beside.leave()
        pipeline.active = False
        pipeline.processors = ()
        slot.empty()
        slot.child_setup = None
        if _runtime.given is not None and get_context() is _runtime.given:
            set_context(Context())
        _runtime.given = None
        declared.clean = None
        parts.close("uninstalled")  # first: the line that says so shall be shipped, too
        if parts.shipper is not None:
            parts.shipper.stop(last_round_s)


def current_handle() -> Handle | None:
    """What the last `configure()` gave back; `None`: nothing is configured."""
    return _runtime.handle


def flush(timeout_s: float = FLUSH_TIMEOUT_S) -> bool:
    """Bring what was written so far to the collector; `Handle.flush` says more."""
    return _runtime.flush(timeout_s)


def stats() -> dict[str, int]:
    """Counts by name: what the library refused or cut, then `spool.…` and `shipper.…`. Never raises."""
    found = dict(health.counts)
    parts = _runtime.parts
    if parts is not None:
        try:
            found |= parts.stats()
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


def _limits(given: Any) -> Limits:
    if given is None and not any(name.startswith("OTEL_") and "LIMIT" in name for name in os.environ):
        return Limits()  # OpenTelemetry's defaults, without an import that takes longer than all the rest
    from opentelemetry.sdk.trace import SpanLimits

    try:
        return Limits.of(given or SpanLimits())  # which reads OTEL_SPAN_…_LIMIT
    except ValueError as error:
        raise ConfigurationError(str(error)) from None


def _configure_spans(
    settings: Settings, parts: _Parts, sampler: str | Sampler | None, id_generator: IdGenerator | None
) -> None:
    pipeline.describe(parts.resource)
    pipeline.limits = parts.limits
    own = settings.sampler if sampler is None or isinstance(sampler, str) else sampler
    pipeline.sample_by(own, settings.sampler_arg)
    pipeline.draw_ids_from(id_generator or RandomIds())
    pipeline.slow_ns = int(settings.slow_span_s * 1e9)
    pipeline.active = True
    beside.join()


def _go_on_from_environment(propagator: Propagator) -> Context | None:
    """Belong to what started this program, where nothing is current yet."""
    context = from_environment(os.environ, propagator)
    if not context or get_context():
        return None
    set_context(context)
    return context


def _child_setup(settings: Settings) -> Callable[[], object]:
    """What a process that is started afresh by `multiprocessing` calls to be as this one is."""
    from tracing.instrumentation import instrumented

    given = {name.name: getattr(settings, name.name) for name in fields(settings)}
    return partial(_begin_as, given, instrumented())


def _begin_as(given: dict[str, Any], names: list[str]) -> None:
    """Configure with another process's settings, unless the program has configured this one itself."""
    from tracing.instrumentation import instrument

    if _runtime.handle is None:
        configure(**given)
        if names:
            instrument(*names)


def _at_exit() -> None:
    """The last thing: say that this process ended in order. No join, no network."""
    parts = _runtime.parts
    if parts is not None:
        parts.close("exit")


def _start_from_environment() -> None:
    configure(capture_logs=False)


def _after_fork() -> None:
    # A thread that is not in the child may have held it.
    _runtime.lock = threading.RLock()


slot.start = _start_from_environment
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
