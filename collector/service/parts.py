"""What exists between start and stop: the pipeline, the servers in front of it, and who looks after both."""

from __future__ import annotations

import importlib.metadata
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING

import orjson
from starlette.responses import Response

from collector.access.audit import AuditEvent
from collector.access.keyring import keyring_of
from collector.access.rates import SenderRates
from collector.access.tls import ServerTls
from collector.access.tokens import Token
from collector.api import metrics
from collector.api.access import Access
from collector.api.app import JSON, Backend, application
from collector.api.bodies import Bodies
from collector.api.costs import QueryCosts
from collector.api.ingest import receivers
from collector.api.metrics import RequestCounts
from collector.api.server import HttpServer
from collector.api.workers import Workers
from collector.listen.dialects import dialect_routes
from collector.service.canary import Canary, found_by
from collector.service.gauges import InCluster, service_metrics
from collector.service.listeners import Listeners
from collector.service.pipeline import Pipeline
from collector.service.readiness import Progress, Readiness
from collector.settings import Settings, check_reach

if TYPE_CHECKING:
    from collector.api.grpc_server import GrpcServer


class Parts:
    """A started collector; `close` ends it.

    Raises:
        ConfigurationError, DataDirectoryInUse, Damaged: it cannot start; nothing of it is left behind.
    """

    def __init__(self, settings: Settings) -> None:
        check_reach(settings)
        self.tls = ServerTls.of(settings)
        with ExitStack() as undo:
            self.pipeline = Pipeline.open(settings)
            undo.callback(self.pipeline.close)
            self._progress = Progress(stall_s=settings.ready_stall_s)
            self._progress_lock = threading.Lock()
            self._shutdown_timeout_s = settings.shutdown_timeout_s
            self.backend = self._make_backend(settings)
            self.server = HttpServer(
                application(self.backend),
                host=settings.host,
                port=settings.port,
                shutdown_timeout_s=settings.shutdown_timeout_s,
                tls=None if self.tls is None else self.tls.context,
            )
            undo.callback(self.server.stop)
            self.grpc = self._make_grpc(settings)
            self.listeners = Listeners(self.pipeline.intake, settings)
            undo.callback(self.listeners.stop)
            self.canary = self._make_canary(settings)
            self.server.start()
            if self.grpc is not None:
                self.grpc.start()
            self.listeners.start()
            if self.canary is not None:
                self.canary.start()
            if settings.watch:
                self.pipeline.watch.start()
            undo.pop_all()

    def close(self) -> bool:
        """Take nothing more, finish what runs, index what is left; return whether the store has it all."""
        self.backend.stopping = True
        self.tick()
        if self.canary is not None:
            self.canary.stop()
        self.pipeline.watch.stop()
        self.backend.tail.stop()
        self.server.stop()
        if self.grpc is not None:
            self.grpc.stop(self._shutdown_timeout_s)
        self.listeners.stop()
        self.backend.ingest_workers.close()
        self.backend.query_workers.close()
        self.backend.audit.store()
        self.backend.access.keyring.save_use(now=True)
        return self.pipeline.close()

    def tick(self) -> None:
        """Do what is due every second: certificates, the audit trail, when tokens were used. May block."""
        if self.tls is not None:
            self.tls.refresh()
        self.backend.access.keyring.look()
        self.backend.access.keyring.save_use()
        self.backend.audit.store()

    def look(self) -> Readiness:
        """How the service is at this moment; from any thread."""
        if self.backend.stopping:
            return Readiness("stopping", "the collector is stopping")
        log, store = self.pipeline.wal.stats(), self.pipeline.store
        with self._progress_lock:
            return self._progress.look(
                taken_seq=log["last_seq"],
                done_seq=int(self.pipeline.indexer.stats()["visible_seq"]),
                refused=log["overloaded"],
                hold=store.hold if isinstance(store, InCluster) else None,
            )

    def _make_backend(self, settings: Settings) -> Backend:
        audit = self.pipeline.audit

        def token_changed(what: str, token: Token) -> None:
            audit.note(
                AuditEvent(
                    action=f"token.{what}",
                    actor="the command line",
                    target=f"{token.name} ({', '.join(token.scopes)})",
                    result="done",
                )
            )

        return Backend(
            answers=self.pipeline.answers,
            receivers=receivers(self.pipeline.intake),
            pages={"health": self._health, "readiness": self._readiness, "metrics": self._metrics},
            delete=self.pipeline.delete,
            access=Access.of(settings, keyring_of(settings, changed=token_changed)),
            rates=_rates(settings),
            costs=QueryCosts(self.pipeline.store, cost_max=settings.query_cost_max),
            query_timeout_s=settings.query_timeout_s,
            audit=audit,
            bodies=Bodies(
                body_bytes_max=settings.body_bytes_max, in_flight_bytes_max=settings.in_flight_bytes_max
            ),
            tail=self.pipeline.tail,
            query_workers=Workers(
                "query", threads_max=settings.query_threads_max, waiting_max=settings.waiting_requests_max
            ),
            ingest_workers=Workers(
                "ingest", threads_max=settings.ingest_threads_max, waiting_max=settings.waiting_requests_max
            ),
            counts=RequestCounts(),
            version=version(),
            metrics_without_token=settings.metrics_without_token,
            dialects=dialect_routes(self.pipeline.intake),
        )

    def _make_grpc(self, settings: Settings) -> GrpcServer | None:
        if settings.grpc_port is None:
            return None
        from collector.api.grpc_server import GrpcServer  # loads grpc, which others need not wait for

        return GrpcServer(
            self.pipeline.intake,
            access=lambda: self.backend.access,
            rates=_rates(settings),
            tls=self.tls,
            host=settings.host,
            port=settings.grpc_port,
            message_bytes_max=settings.body_bytes_max,
            threads_max=settings.ingest_threads_max,
            waiting_max=settings.waiting_requests_max,
        )

    def _make_canary(self, settings: Settings) -> Canary | None:
        if settings.canary_interval_s is None:
            return None
        count = found_by(self.pipeline.answers.trace)
        return Canary(self.pipeline.take_own, count, interval_s=settings.canary_interval_s)

    def _health(self) -> Response:
        return Response(orjson.dumps({"status": "ok", "version": self.backend.version}), media_type=JSON)

    def _readiness(self) -> Response:
        readiness = self.look()
        body = orjson.dumps({"status": readiness.status, "detail": readiness.detail})
        return Response(body, status_code=200 if readiness.is_ready else 503, media_type=JSON)

    def _metrics(self) -> Response:
        ready = self.look().is_ready
        text = metrics.render(
            service_metrics(
                self.pipeline, self.backend, ready=ready, canary=self.canary, listeners=self.listeners
            )
        )
        return Response(text, media_type=metrics.CONTENT_TYPE)


def _rates(settings: Settings) -> SenderRates:
    return SenderRates(
        requests_per_s_max=settings.sender_requests_per_s_max,
        bytes_per_s_max=settings.sender_bytes_per_s_max,
    )


def version() -> str:
    """Version of the distribution; `unknown` in a checkout that was never installed."""
    try:
        return importlib.metadata.version("backtrail")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
