"""The OpenTelemetry Collector, built from its own modules: receives OTLP and hands it on over OTLP/HTTP.

The project's binaries are on no package registry that can be relied on; its parts are on the Go module
proxy, and its own builder puts them together. That takes two minutes of two cores, once.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Final
from urllib.error import URLError
from urllib.request import urlopen

from devservers.downloads import cached, progress
from devservers.process import ServerProcess, free_port, private_directory
from devservers.unavailable import ServerUnavailable

VERSION: Final = "0.165.0"
BUILD_TIMEOUT_S: Final = 1_800
START_TIMEOUT_S: Final = 60.0

_MODULES: Final = "go.opentelemetry.io/collector"
_MANIFEST: Final = f"""
dist: {{name: otelcol, output_path: ./dist, version: {VERSION}}}
receivers: [{{gomod: {_MODULES}/receiver/otlpreceiver v{VERSION}}}]
processors: [{{gomod: {_MODULES}/processor/batchprocessor v{VERSION}}}]
exporters: [{{gomod: {_MODULES}/exporter/otlphttpexporter v{VERSION}}}]
"""
_CONFIG: Final = """
receivers:
  otlp:
    protocols:
      http: {{endpoint: "127.0.0.1:{http_port}"}}
      grpc: {{endpoint: "127.0.0.1:{grpc_port}"}}
processors:
  batch: {{timeout: 100ms}}
exporters:
  otlp_http: {{endpoint: "{endpoint}", compression: {compression}}}
service:
  telemetry: {{metrics: {{level: none}}}}
  pipelines:
    traces: {{receivers: [otlp], processors: [batch], exporters: [otlp_http]}}
    logs: {{receivers: [otlp], processors: [batch], exporters: [otlp_http]}}
"""


def otel_collector_program() -> Path:
    """The built program, made if need be.

    Raises:
        ServerUnavailable: there is no Go, or it could not be built.
    """
    return cached(f"otelcol-{VERSION}", _build) / "otelcol"


class OtelCollector(ServerProcess):
    """One on loopback, which hands on all it gets."""

    def __init__(self, endpoint: str, *, compression: str = "zstd") -> None:
        """Prepare; `start` starts it.

        Args:
            endpoint: URL of what it hands everything on to.
            compression: how it packs its requests.
        Raises:
            ServerUnavailable: the program cannot be had.
        """
        program = otel_collector_program()
        directory = private_directory("otelcol")
        self.http_port, self.grpc_port = free_port(), free_port()
        self.http_url = f"http://127.0.0.1:{self.http_port}"
        self.grpc_url = f"http://127.0.0.1:{self.grpc_port}"
        config = directory / "config.yaml"
        config.write_text(
            _CONFIG.format(
                http_port=self.http_port,
                grpc_port=self.grpc_port,
                endpoint=endpoint,
                compression=compression,
            )
        )
        super().__init__(
            f"OpenTelemetry Collector {VERSION}",
            [str(program), "--config", str(config)],
            directory=directory,
            env={"PATH": "/usr/bin:/bin", "HOME": str(directory)},
            is_up=self._answers,
            start_timeout_s=START_TIMEOUT_S,
        )

    def _answers(self) -> bool:
        try:
            with urlopen(f"{self.http_url}/", timeout=5):
                return True
        except URLError as error:
            return hasattr(error, "code")  # it has said that there is no such path


def _build(directory: Path) -> None:
    go = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")
    if go is None:
        raise ServerUnavailable("the OpenTelemetry Collector is built with Go 1.25 or newer: no `go` here")
    (directory / "manifest.yaml").write_text(_MANIFEST)
    work = directory / "go"  # modules and objects, a gigabyte that nobody needs afterwards
    env = {
        **os.environ,
        "PATH": f"{Path(go).parent}:{os.environ.get('PATH', '')}",
        "GOPATH": str(work / "path"),
        "GOCACHE": str(work / "cache"),
        "GOFLAGS": "-modcacherw",
    }
    command = [go, "run", f"{_MODULES}/cmd/builder@v{VERSION}", "--config", "manifest.yaml"]
    with progress(f"building the OpenTelemetry Collector {VERSION}", 1, "program"):
        try:
            done = subprocess.run(
                command,
                cwd=directory,
                env=env,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=BUILD_TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise ServerUnavailable(
                f"the OpenTelemetry Collector: not built in {BUILD_TIMEOUT_S} s"
            ) from None
    built = directory / "dist" / "otelcol"
    if done.returncode != 0 or not built.is_file():
        tail = " ".join((done.stdout + done.stderr)[-400:].split())
        raise ServerUnavailable(f"the OpenTelemetry Collector could not be built: … {tail}")
    built.rename(directory / "otelcol")
    shutil.rmtree(work)
    shutil.rmtree(directory / "dist")
