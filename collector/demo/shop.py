"""Starts the collector and the shop as real processes, and ends every one of them whatever happens."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from collector.client import CollectorClient
from collector.demo.premises import DIRECTORY_VARIABLE, START_TIMEOUT_S, known_address

SERVICES: Final = ("gateway", "orders", "inventory", "payments")
STOP_TIMEOUT_S: Final = 1.5  # Celery alone needs five seconds for a warm end; nobody waits for its work here
_POLL_INTERVAL_S: Final = 0.05
_MODULE: Final = ("-P", "-m")  # -P: a module that happens to lie in the current directory is not ours
_LOG_LINES_SHOWN_MAX: Final = 15


class ShopFailed(Exception):
    """A process of the shop did not start or did not stay; the message quotes its last lines."""


@dataclass(slots=True)
class Shop:
    """A running shop with its collector; `start_shop` makes and ends it."""

    directory: Path
    collector_url: str
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def gateway_url(self) -> str:
        """Where customers place their orders."""
        address = known_address("gateway", self.directory)
        if address is None:
            raise ShopFailed("the gateway has not started")
        return address

    @property
    def data_directory(self) -> Path:
        """Where the collector keeps what it got; readable after the shop has ended."""
        return self.directory / "collector"

    @property
    def client(self) -> CollectorClient:
        """The shop's collector."""
        return CollectorClient(self.collector_url)

    def launch(self, name: str, *command: str, **more_environment: str) -> None:
        """Start one process in a group of its own, its output in `<name>.log`."""
        environment = {key: value for key, value in os.environ.items() if not _is_telemetry_setting(key)}
        environment |= {
            DIRECTORY_VARIABLE: str(self.directory),
            "TRACING_COLLECTOR_URL": self.collector_url,
            "TRACING_SPOOL_DIR": str(self.directory / "spool"),
            **more_environment,
        }
        with (self.directory / f"{name}.log").open("wb") as output:
            self.processes[name] = subprocess.Popen(
                [sys.executable, *_MODULE, "collector.demo.child", *command],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # so that Celery's children end with it
            )

    def wait_for(self, *names: str) -> None:
        """Return once these processes take work.

        Raises:
            ShopFailed: a process has ended, or one of these is not up after `START_TIMEOUT_S`.
        """
        deadline = time.monotonic() + START_TIMEOUT_S
        waiting = list(names)
        while waiting := [name for name in waiting if not self._is_up(name)]:
            for name, process in self.processes.items():
                if process.poll() is not None:
                    raise ShopFailed(f"{name} ended with status {process.returncode}:\n{self._tail(name)}")
            if time.monotonic() > deadline:
                tails = "\n".join(self._tail(name) for name in waiting)
                raise ShopFailed(f"not up after {START_TIMEOUT_S:.0f} s: {', '.join(waiting)}\n{tails}")
            time.sleep(_POLL_INTERVAL_S)

    def end(self, name: str) -> None:
        """End one process and all it started."""
        process = self.processes.pop(name)
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=STOP_TIMEOUT_S)
        _kill_group(process)
        process.wait()

    def stop(self) -> None:
        """End every process and all it started: politely, then not."""
        for process in self.processes.values():
            process.terminate()  # the leader alone: Celery's ends its own children in order
        deadline = time.monotonic() + STOP_TIMEOUT_S
        for process in self.processes.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=max(0.0, deadline - time.monotonic()))
        for process in self.processes.values():
            _kill_group(process)
            process.wait()

    def _is_up(self, name: str) -> bool:
        if name != "collector":
            return known_address(name, self.directory) is not None
        host, _, port = self.collector_url.removeprefix("http://").partition(":")
        with contextlib.suppress(OSError), socket.create_connection((host, int(port)), timeout=1):
            return True
        return False

    def _tail(self, name: str) -> str:
        lines = (self.directory / f"{name}.log").read_text(errors="replace").splitlines()
        return "\n".join(f"  {name}: {line}" for line in lines[-_LOG_LINES_SHOWN_MAX:])


@contextlib.contextmanager
def start_shop(directory: Path) -> Iterator[Shop]:
    """Run the collector and the four services in a directory until the block ends.

    Raises:
        ShopFailed: a process did not start; the others have been ended.
    """
    port = _free_port()
    shop = Shop(directory=directory, collector_url=f"http://127.0.0.1:{port}")
    try:
        data = str(shop.data_directory)
        shop.launch("collector", "collector", "serve", "--port", str(port), "--data-dir", data)
        for service in SERVICES:
            shop.launch(service, f"collector.demo.{service}")
        shop.wait_for("collector", *SERVICES)
        yield shop
    finally:
        shop.stop()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _is_telemetry_setting(name: str) -> bool:
    # the demo is the same for everybody, whatever their own programs are set to
    return name.startswith(("TRACING_", "OTEL_", "BACKTRAIL_"))


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    # A group outlives its leader, so the leader's end proves nothing about Celery's children.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
