"""The running service: start, stop, signals."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Final, Self

from collector.access.audit import AuditEvent
from collector.access.keyring import fixed_tokens
from collector.api.access import Access
from collector.errors import CollectorError
from collector.service import systemd, voice
from collector.service.parts import Parts, version
from collector.service.pipeline import Pipeline
from collector.settings import Settings, is_loopback, without_password

logger = logging.getLogger(__name__)

_TICK_S: Final = 1.0  # how often the service looks at itself
# What a running service can take over; everything else was used when it started.
_RELOADABLE: Final = frozenset(
    {"ingest_token", "read_token", "admin_token", "allowed_hosts", "log_level", "log_format"}
)


class Collector:
    """A collector in this process.

    `run` is the whole life of a service: start, wait for a signal, stop. `start` and `stop` are for
    programs and tests that hold one in passing.

    Args:
        settings: complete; nothing else is read.
        reload: gives new settings on SIGHUP; without it the signal is ignored.
    """

    def __init__(self, settings: Settings, *, reload: Callable[[], Settings] | None = None) -> None:
        self.settings = settings
        self._reload = reload
        self._wake = threading.Event()
        self._signals: list[int] = []
        self._parts: Parts | None = None

    @property
    def url(self) -> str:
        """Where it answers, with the port that was really taken."""
        host = self.settings.host
        shown = f"[{host}]" if ":" in host else "127.0.0.1" if host == "0.0.0.0" else host
        scheme = "http" if self._running.tls is None else "https"
        return f"{scheme}://{shown}:{self._running.server.port}"

    @property
    def grpc_port(self) -> int | None:
        """The port on which it takes OTLP over gRPC, if it does."""
        grpc = self._running.grpc
        return None if grpc is None else grpc.port

    @property
    def pipeline(self) -> Pipeline:
        """The rooms behind the network, for tests and for programs that embed a collector."""
        return self._running.pipeline

    def start(self) -> None:
        """Recover, then listen. Returns once calls are answered.

        Raises:
            DataDirectoryInUse: another collector has the data directory.
            ConfigurationError: an address cannot be listened on, or the data directory not be used.
            Damaged: the data directory is not one, or is of a newer version.
        """
        if self._parts is not None:
            raise CollectorError("this collector is running already")
        self._parts = Parts(self.settings)
        about = {
            "data_dir": str(self.settings.data_dir),
            "store": without_password(self.settings.store),
            "version": version(),
        }
        if self.grpc_port is not None:
            about["grpc_port"] = str(self.grpc_port)
        logger.info("listening on %s", self.url, extra=about)
        if self._running.tls is None and not is_loopback(self.settings.host):
            logger.warning(
                "tokens and records cross the network in the clear; set tls_cert_file and tls_key_file, or"
                " let a proxy in front of this port speak TLS"
            )

    def stop(self) -> None:
        """Take nothing more, finish what runs, index and commit what is left. Twice is harmless."""
        parts, self._parts = self._parts, None
        if parts is None:
            return
        if parts.close():
            logger.info("stopped; everything that was acknowledged is indexed")
        else:
            logger.error("stopped before all was indexed; it is safe in the log, the next start goes on")

    def run(self) -> None:
        """Run until SIGTERM or SIGINT; SIGHUP reads the settings again.

        Must be called in the main thread. Raises what `start` raises.
        """
        voice.set_up(self.settings)
        handled = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        before = {number: signal.signal(number, self._on_signal) for number in handled}
        try:
            self.start()
            systemd.notify("READY=1", f"STATUS=listening on {self.url}")
            self._wait()
            systemd.notify("STOPPING=1")
        finally:
            self.stop()
            for number, handler in before.items():
                signal.signal(number, handler)

    def reload(self, settings: Settings) -> list[str]:
        """Take over what may change while running: tokens, hosts, the log. Return what may not, by name."""
        changed = {
            name for name in Settings.model_fields if getattr(settings, name) != getattr(self.settings, name)
        }
        self.settings = self.settings.model_copy(
            update={name: getattr(settings, name) for name in changed & _RELOADABLE}
        )
        backend = self._running.backend
        backend.access.keyring.replace_fixed(fixed_tokens(self.settings))
        backend.access = Access.of(self.settings, backend.access.keyring)
        if changed & {"log_level", "log_format"}:
            voice.set_up(self.settings)
        return sorted(changed - _RELOADABLE)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def _running(self) -> Parts:
        if self._parts is None:
            raise CollectorError("this collector is not running")
        return self._parts

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._signals.append(number)
        self._wake.set()

    def _wait(self) -> None:
        """Look at ourselves every second until a signal says to stop."""
        while True:
            self._wake.wait(_TICK_S)
            self._wake.clear()
            while self._signals:
                number = self._signals.pop(0)
                logger.info("received %s", signal.Signals(number).name)
                if number != signal.SIGHUP:
                    return
                self._reload_by_signal()
            self._running.look()
            self._running.tick()

    def _reload_by_signal(self) -> None:
        if self._reload is None:
            return
        systemd.reloading()
        try:
            fixed = self.reload(self._reload())
        except CollectorError as error:
            logger.error("the settings stay as they were: %s", error)
        else:
            logger.info("read the settings again", extra={"need_restart": fixed} if fixed else None)
            event = AuditEvent(action="settings.reloaded", actor="SIGHUP", target="settings", result="done")
            self._running.backend.audit.note(event)
        systemd.notify("READY=1")
