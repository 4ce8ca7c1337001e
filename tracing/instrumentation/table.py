"""What is turned on for which library: our own patches for servers, OpenTelemetry's for the rest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final

from tracing.handoff import Handoff

_CONTRIB: Final = "opentelemetry.instrumentation."


@dataclass(frozen=True, slots=True)
class Entry:
    """One library.

    Attributes:
        library: the module whose import turns it on.
        module: of OpenTelemetry's instrumentation, which is used where we have no patches.
        classes: the instrumentors in it; where somebody else has turned one on, we stay away.
        patches: makes our own, once the library is imported.
        setting: that has to be on, by its name in the slot; most need none.
    """

    name: str
    library: str
    module: str
    classes: tuple[str, ...]
    patches: Callable[[], Sequence[Handoff]] | None = None
    setting: str = ""


def _starlette() -> Sequence[Handoff]:
    from tracing.instrumentation.asgi import starlette_patches

    return starlette_patches(import_module("starlette.applications"), import_module("starlette.routing"))


def _flask() -> Sequence[Handoff]:
    from tracing.instrumentation.wsgi import flask_patches

    flask: Any = import_module("flask")
    return flask_patches(flask)


def _own(
    name: str,
    library: str,
    patches: Callable[[], Sequence[Handoff]],
    theirs: str = "",
    instrumentor: str = "",
) -> Entry:
    """Patches of our own; `theirs` is OpenTelemetry's module for the same, with its instrumentor."""
    classes = (instrumentor,) if instrumentor else ()
    return Entry(name, library, f"{_CONTRIB}{theirs or name}", classes, patches)


def _contrib(name: str, library: str, *classes: str, module: str | None = None) -> Entry:
    return Entry(name, library, f"{_CONTRIB}{module or name}", classes)


def _handoff(name: str, library: str, module: str, variable: str) -> Entry:
    """A hand-off inside the process that is worth its import only where the program uses what it is about."""

    def handoffs() -> Sequence[Handoff]:
        return [getattr(import_module(f"tracing.handoff.{module}"), variable)]

    return Entry(name, library, "", (), handoffs)


def _greenlets(function: str) -> Callable[[], Sequence[Handoff]]:
    return lambda: getattr(import_module("tracing.handoff.greenlets"), function)()


def _made_by(module: str, function: str) -> Callable[[], Sequence[Handoff]]:
    """Patches of a module of ours, which is imported once the library is."""
    return lambda: getattr(import_module(f"tracing.instrumentation.{module}"), function)()


def _celery(module: str, function: str) -> Entry:
    """Celery's parts, each of which a program may have without the others."""
    return _own("celery", module, _made_by("celery", function), instrumentor="CeleryInstrumentor")


def _commented(library: str) -> Entry:
    """Commands to databases, which say the trace where the operator wants that."""
    patches = _made_by("sqlcommenter", f"{library}_patches")
    return Entry(library, library, "", (), patches, "sql_comments")


# In the order in which they are turned on. An HTTP library under another one comes after it. A name may
# stand for several modules of a library, each turned on when the program imports it.
ENTRIES: Final = (
    _handoff("asyncio-queues", "asyncio", "asyncio_queues", "task_queues"),
    Entry("gevent", "gevent", "", (), _greenlets("gevent_handoffs")),
    Entry("eventlet", "eventlet", "", (), _greenlets("eventlet_handoffs")),
    _handoff("subprocesses", "subprocess", "subprocesses", "popen_init"),
    _handoff("processes", "multiprocessing.process", "processes", "process_start"),
    _handoff("process-pools", "multiprocessing.pool", "pools", "pools"),
    _handoff("process-pools", "concurrent.futures.process", "process_executor", "process_submit"),
    # FastAPI is built on it.
    _own("starlette", "starlette.applications", _starlette, instrumentor="StarletteInstrumentor"),
    _own("flask", "flask", _flask, instrumentor="FlaskInstrumentor"),
    _own(
        "django",
        "django.core.handlers.base",
        _made_by("django", "view_patches"),
        instrumentor="DjangoInstrumentor",
    ),
    _own(
        "django",
        "django.core.handlers.wsgi",
        _made_by("django", "wsgi_patches"),
        instrumentor="DjangoInstrumentor",
    ),
    _own(
        "django",
        "django.core.handlers.asgi",
        _made_by("django", "asgi_patches"),
        instrumentor="DjangoInstrumentor",
    ),
    _own("channels", "channels.routing", _made_by("django", "channels_patches")),
    _own(
        "aiohttp-server",
        "aiohttp.web",
        _made_by("aiohttp_server", "aiohttp_server_patches"),
        "aiohttp_server",
        "AioHttpServerInstrumentor",
    ),
    _own(
        "tornado", "tornado.web", _made_by("tornado", "tornado_patches"), instrumentor="TornadoInstrumentor"
    ),
    _own("sanic", "sanic.app", _made_by("sanic", "sanic_patches")),
    _own("websockets", "websockets.asyncio.server", _made_by("websockets", "asyncio_server_patches")),
    _own("websockets", "websockets.sync.server", _made_by("websockets", "threading_server_patches")),
    _own("websockets", "websockets.asyncio.client", _made_by("websockets", "asyncio_client_patches")),
    _own("websockets", "websockets.sync.client", _made_by("websockets", "threading_client_patches")),
    _own("gunicorn", "gunicorn.glogging", _made_by("access_logs", "gunicorn_patches")),
    _own("granian", "granian.asgi", _made_by("access_logs", "granian_asgi_patches")),
    _own("granian", "granian.wsgi", _made_by("access_logs", "granian_wsgi_patches")),
    _own("loguru", "loguru._handler", _made_by("loguru", "loguru_patches")),
    _own("structlog", "structlog", _made_by("structlog", "structlog_patches")),
    _own("redis", "redis.commands.core", _made_by("redis_streams", "stream_patches")),
    _own("redis", "redis.client", _made_by("redis_streams", "pipeline_patches")),
    _own("redis", "redis.asyncio.client", _made_by("redis_streams", "async_pipeline_patches")),
    _own(
        "botocore",
        "botocore.client",
        _made_by("aws", "botocore_patches"),
        instrumentor="BotocoreInstrumentor",
    ),
    _own("google-pubsub", "google.cloud.pubsub_v1", _made_by("pubsub", "pubsub_patches")),
    _own("nats", "nats", _made_by("nats", "nats_patches")),
    _own("mqtt", "paho.mqtt.client", _made_by("mqtt", "paho_patches")),
    _own("mqtt", "aiomqtt", _made_by("mqtt", "aiomqtt_patches")),
    _own("pika", "pika", _made_by("rabbitmq", "pika_patches"), instrumentor="PikaInstrumentor"),
    _own("aio-pika", "aio_pika", _made_by("rabbitmq", "aio_pika_patches"), "aio_pika", "AioPikaInstrumentor"),
    _own(
        "kafka-python",
        "kafka",
        _made_by("kafka", "kafka_python_patches"),
        "kafka",
        "KafkaInstrumentor",
    ),
    _own("aiokafka", "aiokafka", _made_by("kafka", "aiokafka_patches"), instrumentor="AIOKafkaInstrumentor"),
    _own(
        "confluent-kafka",
        "confluent_kafka",
        _made_by("kafka", "confluent_kafka_patches"),
        "confluent_kafka",
        "ConfluentKafkaInstrumentor",
    ),
    _own("kombu", "kombu.messaging", _made_by("kombu", "messaging_patches")),
    _own("kombu", "kombu.simple", _made_by("kombu", "simple_patches")),
    _own("kombu", "kombu.entity", _made_by("kombu", "entity_patches")),
    _own("kombu", "kombu.common", _made_by("kombu", "common_patches")),
    _celery("celery.app.base", "sending_patches"),
    _celery("celery.app.trace", "running_patches"),
    _celery("celery.worker.strategy", "strategy_patches"),
    _celery("celery.worker.request", "request_patches"),
    _celery("celery.beat", "beat_patches"),
    _own("rq", "rq.queue", _made_by("rq", "queue_patches")),
    _own("rq", "rq.job", _made_by("rq", "job_patches")),
    _own("rq", "rq.repeat", _made_by("rq", "repeat_patches")),
    _own("rq", "rq.results", _made_by("rq", "result_patches")),
    _own("rq", "rq.worker", _made_by("rq", "worker_patches")),
    _own("arq", "arq.connections", _made_by("arq", "connection_patches")),
    _own("arq", "arq.worker", _made_by("arq", "worker_patches")),
    _own("dramatiq", "dramatiq.brokers.redis", _made_by("dramatiq", "redis_patches")),
    _own("dramatiq", "dramatiq.brokers.rabbitmq", _made_by("dramatiq", "rabbitmq_patches")),
    _own("dramatiq", "dramatiq.brokers.stub", _made_by("dramatiq", "stub_patches")),
    _own("dramatiq", "dramatiq.worker", _made_by("dramatiq", "worker_patches")),
    _commented("sqlite3"),
    _commented("psycopg"),
    _commented("sqlalchemy"),
    _own("grpc", "grpc", _made_by("grpc_server", "server_patches"), instrumentor="GrpcInstrumentorServer"),
    # `grpc` imports `grpc.aio` before it is ready itself.
    _own(
        "grpc-aio",
        "grpc",
        _made_by("grpc_server", "aio_server_patches"),
        "grpc",
        "GrpcAioInstrumentorServer",
    ),
    _contrib("grpc", "grpc", "GrpcInstrumentorClient"),
    _contrib("grpc-aio", "grpc", "GrpcAioInstrumentorClient", module="grpc"),
    _contrib("httpx", "httpx", "HTTPXClientInstrumentor"),
    _contrib("requests", "requests", "RequestsInstrumentor"),
    _contrib("aiohttp-client", "aiohttp", "AioHttpClientInstrumentor", module="aiohttp_client"),
    _contrib("urllib", "urllib.request", "URLLibInstrumentor"),
    _contrib("urllib3", "urllib3", "URLLib3Instrumentor"),
)

# What keeps other people's tracers and ours apart: on with whatever is on.
GUARDS: Final = (_own("ddtrace", "ddtrace.propagation.http", _made_by("ddtrace", "ddtrace_patches")),)
