"""The other ways out: standard output, a file, any OpenTelemetry backend. One setting chooses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from tracing.errors import ConfigurationError
from tracing.export.stream import STDOUT_FD, FileExporter, StreamExporter
from tracing.settings import Settings
from tracing.sink import Sink

__all__ = ["Exporter", "FileExporter", "StreamExporter", "open_exporter"]


class Exporter(Sink, Protocol):
    """A sink that can be waited for and ended."""

    def flush(self, timeout_s: float) -> bool:
        """Wait until what was written so far has arrived; False when the time passed first."""
        ...

    def close(self, ended: str = "exit") -> None:
        """Nothing more will be written."""
        ...

    def stats(self) -> dict[str, int]:
        """Counts by name."""
        ...


def open_exporter(settings: Settings, resource: Mapping[str, Any]) -> Exporter:
    """Open what `settings.exporter` names: `stdout`, `file` or `otlp`.

    Args:
        resource: attributes of the process; `process.pid` is kept right in forked children.
    Raises:
        ConfigurationError: the file or the endpoint cannot be used.
    """
    if settings.exporter == "stdout":
        return StreamExporter(STDOUT_FD, resource)
    if settings.exporter == "file":
        if settings.export_file is None:
            raise ConfigurationError("exporter='file' needs export_file, the path to write to")
        try:
            return FileExporter(settings.export_file, resource)
        except OSError as error:
            raise ConfigurationError(f"export_file={settings.export_file}: {error.strerror}") from None
    if settings.exporter == "otlp":
        return _open_otlp(settings, resource)
    raise ConfigurationError(f"exporter={settings.exporter!r}: no other way out has this name")


def _open_otlp(settings: Settings, resource: Mapping[str, Any]) -> Exporter:
    from tracing.export.otlp import OtlpExporter
    from tracing.spool.limits import SpoolLimits

    # Beside the spools for our own collector, never among them: whoever adopts one must know whom to ship to.
    root = settings.spool_dir.with_name(f"{settings.spool_dir.name}-otlp")
    return OtlpExporter(
        root,
        service=settings.service,
        resource=resource,
        endpoint=settings.otlp_endpoint or settings.collector_url,
        protocol=settings.otlp_protocol,
        headers=settings.otlp_headers,
        token=settings.token,
        tls_files=settings.tls_files,
        ship=settings.ship,
        spool_limits=SpoolLimits(
            service_bytes_max=settings.spool_bytes_max, fsync=settings.spool_fsync == "always"
        ),
    )
