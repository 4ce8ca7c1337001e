"""The OpenTelemetry Collector, built from its own modules: receives OTLP and hands it on over OTLP/HTTP.

The project's binaries are on no package registry that can be relied on; its parts are on the Go module
proxy, and its own builder puts them together. That takes two minutes of two cores, once.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from functools import partial
from pathlib import Path
from typing import Final
from urllib.error import URLError
from urllib.request import urlopen

from devservers.downloads import cached, progress
from devservers.process import ServerProcess, free_port, give, private_directory
from devservers.unavailable import ServerUnavailable

VERSION: Final = "0.165.0"
BUILD_TIMEOUT_S: Final = 1_800
START_TIMEOUT_S: Final = 60.0

_MODULES: Final = "go.opentelemetry.io/collector"
_CONTRIB: Final = "github.com/open-telemetry/opentelemetry-collector-contrib"
_MANIFEST: Final = f"""
dist: {{name: otelcol, output_path: ./dist, version: {VERSION}}}
receivers: [{{gomod: {_MODULES}/receiver/otlpreceiver v{VERSION}}}]
processors: [{{gomod: {_MODULES}/processor/batchprocessor v{VERSION}}}]
exporters: [{{gomod: {_MODULES}/exporter/otlphttpexporter v{VERSION}}}]
"""
# A queue on disk is an extension, which half of the build time is for: only who wants one has it built.
_STORAGE: Final = f"extensions: [{{gomod: {_CONTRIB}/extension/storage/filestorage v{VERSION}}}]\n"
_CONFIG: Final = """
receivers:
  otlp:
    protocols:
      http: {{endpoint: "127.0.0.1:{http_port}"}}
      grpc: {{endpoint: "127.0.0.1:{grpc_port}"}}
processors:
  batch: {{timeout: 100ms}}
exporters:
  otlp_http: {{endpoint: "{endpoint}", compression: {compression}{queue}}}
{extensions}service:
  extensions: {service_extensions}
  telemetry: {{metrics: {{level: none}}}}
  pipelines:
    traces: {{receivers: [otlp], processors: [batch], exporters: [otlp_http]}}
    logs: {{receivers: [otlp], processors: [batch], exporters: [otlp_http]}}
"""


def otel_collector_program(*, with_storage: bool = False) -> Path:
    """The built program, made if need be.

    Args:
        with_storage: it can keep its queue on disk.
    Raises:
        ServerUnavailable: there is no Go, or it could not be built.
    """
    if with_storage:
        return cached(f"otelcol-{VERSION}-storage", partial(_build, _MANIFEST + _STORAGE)) / "otelcol"
    return cached(f"otelcol-{VERSION}", partial(_build, _MANIFEST)) / "otelcol"


class OtelCollector(ServerProcess):
    """One on loopback, which hands on all it gets."""

    def __init__(self, endpoint: str, *, compression: str = "zstd", queue_on_disk: bool = False) -> None:
        """Prepare; `start` starts it.

        Args:
            endpoint: URL of what it hands everything on to.
            compression: how it packs its requests.
            queue_on_disk: what it could not hand on yet survives it; else it is as it is without settings.
        Raises:
            ServerUnavailable: the program cannot be had.
        """
        program = otel_collector_program(with_storage=queue_on_disk)
        directory = private_directory("otelcol")
        queue = extensions = ""
        if queue_on_disk:
            (directory / "queue").mkdir()
            give(directory)
            queue = ", sending_queue: {storage: file_storage}"
            extensions = f'extensions: {{file_storage: {{directory: "{directory}/queue"}}}}\n'
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
                queue=queue,
                extensions=extensions,
                service_extensions="[file_storage]" if queue_on_disk else "[]",
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


def _build(manifest: str, directory: Path) -> None:
    go = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")
    if go is None:
        raise ServerUnavailable("the OpenTelemetry Collector is built with Go 1.25 or newer: no `go` here")
    (directory / "manifest.yaml").write_text(manifest)
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
