"""The running service: HTTP in front of a pipeline, signals, start and stop."""

from __future__ import annotations

import importlib.metadata
import logging
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Final, Self

import orjson
from starlette.responses import Response

from collector.api import metrics
from collector.api.access import Access
from collector.api.app import JSON, Backend, application
from collector.api.bodies import Bodies
from collector.api.ingest import receivers
from collector.api.metrics import RequestCounts
from collector.api.server import HttpServer
from collector.api.workers import Workers
from collector.client import IMPORT_HEADERS, import_bodies
from collector.errors import CollectorError
from collector.service import systemd, voice
from collector.service.canary import Canary, found_by
from collector.service.gauges import service_metrics
from collector.service.pipeline import Pipeline
from collector.service.readiness import Progress, Readiness
from collector.settings import Settings, without_password

logger = logging.getLogger(__name__)

_TICK_S: Final = 1.0  # how often the service looks at itself


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
        self._parts: _Parts | None = None

    @property
    def url(self) -> str:
        """Where it answers, with the port that was really taken."""
        host = self.settings.host
        shown = f"[{host}]" if ":" in host else "127.0.0.1" if host == "0.0.0.0" else host
        return f"http://{shown}:{self._running.server.port}"

    @property
    def pipeline(self) -> Pipeline:
        """The rooms behind the network, for tests and for programs that embed a collector."""
        return self._running.pipeline

    def start(self) -> None:
        """Recover, then listen. Returns once calls are answered.

        Raises:
            DataDirectoryInUse: another collector has the data directory.
            ConfigurationError: the address cannot be listened on.
            Damaged: the data directory is not one, or is of a newer version.
        """
        if self._parts is not None:
            raise CollectorError("this collector is running already")
        self._parts = _Parts(self.settings)
        logger.info(
            "listening on %s",
            self.url,
            extra={
                "data_dir": str(self.settings.data_dir),
                "store": without_password(self.settings.store),
                "version": version(),
            },
        )

    def stop(self) -> None:
        """Take nothing more, finish what runs, index and commit what is left. Twice is harmless."""
        parts, self._parts = self._parts, None
        if parts is not None:
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
            self.stop()
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
        self._running.backend.access = Access.of(self.settings)
        voice.set_up(self.settings)
        return sorted(changed - _RELOADABLE)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def _running(self) -> _Parts:
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
        systemd.notify("READY=1")


class _Parts:
    """What exists between start and stop. Made in the order of the fields, closed the other way round."""

    def __init__(self, settings: Settings) -> None:
        self.pipeline = Pipeline.open(settings)
        try:
            self._progress = Progress(stall_s=settings.ready_stall_s)
            self._lock = threading.Lock()  # guards `_progress`
            self.backend = Backend(
                answers=self.pipeline.answers,
                receivers=receivers(self.pipeline.intake),
                pages={"health": self._health, "readiness": self._readiness, "metrics": self._metrics},
                delete=self.pipeline.delete,
                access=Access.of(settings),
                bodies=Bodies(
                    body_bytes_max=settings.body_bytes_max,
                    in_flight_bytes_max=settings.in_flight_bytes_max,
                ),
                tail=self.pipeline.tail,
                query_workers=Workers(
                    "query",
                    threads_max=settings.query_threads_max,
                    waiting_max=settings.waiting_requests_max,
                ),
                ingest_workers=Workers(
                    "ingest",
                    threads_max=settings.ingest_threads_max,
                    waiting_max=settings.waiting_requests_max,
                ),
                counts=RequestCounts(),
                version=version(),
            )
            self.canary = _canary(self.pipeline, settings)
            self.server = HttpServer(
                application(self.backend),
                host=settings.host,
                port=settings.port,
                shutdown_timeout_s=settings.shutdown_timeout_s,
            )
            self.server.start()
            if self.canary is not None:
                self.canary.start()
        except BaseException:
            self.pipeline.close()
            raise

    def close(self) -> bool:
        self.backend.stopping = True
        if self.canary is not None:
            self.canary.stop()
        self.backend.tail.stop()
        self.server.stop()
        self.backend.ingest_workers.close()
        self.backend.query_workers.close()
        return self.pipeline.close()

    def look(self) -> Readiness:
        if self.backend.stopping:
            return Readiness("stopping", "the collector is stopping")
        with self._lock:
            return self._progress.look(
                taken_seq=self.pipeline.wal.last_seq,
                done_seq=int(self.pipeline.indexer.stats()["visible_seq"]),
            )

    def _health(self) -> Response:
        return Response(orjson.dumps({"status": "ok", "version": self.backend.version}), media_type=JSON)

    def _readiness(self) -> Response:
        readiness = self.look()
        body = orjson.dumps({"status": readiness.status, "detail": readiness.detail})
        return Response(body, status_code=200 if readiness.is_ready else 503, media_type=JSON)

    def _metrics(self) -> Response:
        text = metrics.render(
            service_metrics(self.pipeline, self.backend, ready=self.look().is_ready, canary=self.canary)
        )
        return Response(text, media_type=metrics.CONTENT_TYPE)


def _canary(pipeline: Pipeline, settings: Settings) -> Canary | None:
    if settings.canary_interval_s is None:
        return None

    def write(uid: str, line: bytes) -> None:
        for body in import_bodies([(uid, line)]):
            pipeline.intake.records(IMPORT_HEADERS, body)

    return Canary(write, found_by(pipeline.answers.trace), interval_s=settings.canary_interval_s)


# What a running service can take over; everything else was used when it started.
_RELOADABLE: Final = frozenset(
    {"ingest_token", "read_token", "admin_token", "allowed_hosts", "log_level", "log_format"}
)


def version() -> str:
    """Version of the distribution; `unknown` in a checkout that was never installed."""
    try:
        return importlib.metadata.version("backtrail")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
