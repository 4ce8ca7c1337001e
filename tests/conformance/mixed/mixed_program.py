"""One end of a call: `python mixed_program.py ours|plain|none TRANSPORT client|server ADDRESS`.

Whichever library it has, the program is the same, written as each library's manual says. A client opens a
span, puts the tenant into baggage, logs and sends an order; a server takes one order, opens a span, logs what
the baggage says, and ends. `none` has no library: it prints what reached it.
"""

from __future__ import annotations

import contextlib
import json
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from opentelemetry import context, propagate, trace
from opentelemetry.baggage import get_baggage, set_baggage

ORDER = b'{"order": 7, "note": "\xc3\xa9"}'
OWN_HEADER = ("kind", "order")  # the program's own, which has to arrive beside what a library adds
DEADLINE_S = 60
QUEUE = "orders"
INSTRUMENTORS = ["flask", "requests", "grpc_client", "grpc_server", "confluent_kafka", "pika"]

log = logging.getLogger("shop")
Headers = dict[str, str]
Work = Callable[[bytes, Headers], None]
Ready = Callable[[str], None]


# ---------------------------------------------------------------- the libraries


@contextlib.contextmanager
def ours(service: str) -> Iterator[None]:
    """Ours, as the README has it; the addresses are in the environment."""
    import tracing

    handle = tracing.configure(service=service, level="INFO")
    tracing.instrument()
    yield
    assert handle.flush(DEADLINE_S)


@contextlib.contextmanager
def plain(service: str) -> Iterator[None]:
    """OpenTelemetry's SDK with its instrumentations of what is used here, sending by OTLP."""
    from importlib.metadata import entry_points

    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk._logs import LoggerProvider, LoggingHandler
    from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    resource = Resource({"service.name": service})
    spans, logs = TracerProvider(resource=resource), LoggerProvider(resource=resource)
    spans.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    logs.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter()))
    trace.set_tracer_provider(spans)
    log.addHandler(LoggingHandler(logger_provider=logs))
    log.setLevel(logging.INFO)
    for name in INSTRUMENTORS:
        for entry in entry_points(group="opentelemetry_instrumentor", name=name):
            entry.load()().instrument()
    yield
    spans.shutdown()
    logs.shutdown()


@contextlib.contextmanager
def none(service: str) -> Iterator[None]:
    """Nothing at all."""
    yield


# ---------------------------------------------------------------- what both ends do


def place_order(send: Callable[[], Any]) -> None:
    """The client's part; prints the trace's id."""
    with trace.get_tracer("shop").start_as_current_span("order") as span:
        token = context.attach(set_baggage("tenant", "acme"))
        log.info("ordering")
        send()
        context.detach(token)
        print(f"{span.get_span_context().trace_id:032x}")


def fulfil(body: bytes, headers: Headers) -> None:
    """The server's part."""
    assert body == ORDER
    with trace.get_tracer("shop").start_as_current_span("fulfil"):
        log.info("fulfilling for %s", get_baggage("tenant"))


def fulfil_by_hand(body: bytes, headers: Headers) -> None:
    """The same where OpenTelemetry's instrumentation does not cover the loop's body: as its manual says."""
    parent = propagate.extract(headers)
    token = context.attach(parent)
    with trace.get_tracer("shop").start_as_current_span("process", kind=trace.SpanKind.CONSUMER):
        fulfil(body, headers)
    context.detach(token)


def tell(body: bytes, headers: Headers) -> None:
    """Of a program without any library: what reached it."""
    print(json.dumps({"body": body.decode(), "headers": headers}), flush=True)


# ---------------------------------------------------------------- HTTP: requests to Flask


def http_client(address: str) -> None:
    """One POST."""
    import requests

    answer = requests.post(address, data=ORDER, headers=dict([OWN_HEADER]), timeout=DEADLINE_S)
    assert answer.text == "done"


def http_server(address: str, work: Work, ready: Ready) -> None:
    """Answers one."""
    import flask
    from werkzeug.serving import make_server

    app = flask.Flask("shop")

    @app.post("/orders")
    def orders() -> str:
        work(flask.request.get_data(), {name.lower(): value for name, value in flask.request.headers})
        return "done"

    server = make_server("127.0.0.1", 0, app)
    ready(f"http://127.0.0.1:{server.port}/orders")
    server.handle_request()
    server.server_close()


# ---------------------------------------------------------------- gRPC


def grpc_client(address: str) -> None:
    """One unary call."""
    import grpc

    with grpc.insecure_channel(address) as channel:
        call = channel.unary_unary("/shop.Orders/Place")
        assert call(ORDER, metadata=[OWN_HEADER], timeout=DEADLINE_S) == b"done"


def grpc_server(address: str, work: Work, ready: Ready) -> None:
    """Answers one."""
    import grpc

    answered = threading.Event()

    def place(request: bytes, call: grpc.ServicerContext) -> bytes:
        work(request, {name: str(value) for name, value in call.invocation_metadata()})
        answered.set()
        return b"done"

    methods = {"Place": grpc.unary_unary_rpc_method_handler(place)}
    server = grpc.server(
        ThreadPoolExecutor(1), handlers=[grpc.method_handlers_generic_handler("shop.Orders", methods)]
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    ready(f"127.0.0.1:{port}")
    assert answered.wait(DEADLINE_S)
    server.stop(DEADLINE_S).wait(DEADLINE_S)


# ---------------------------------------------------------------- Kafka


def kafka_client(address: str) -> None:
    """One record."""
    import confluent_kafka

    producer = confluent_kafka.Producer({"bootstrap.servers": address})
    producer.produce(QUEUE, ORDER, headers=[(OWN_HEADER[0], OWN_HEADER[1].encode())])
    assert producer.flush(DEADLINE_S) == 0


def kafka_server(address: str, work: Work, ready: Ready) -> None:
    """Takes the newest record, in a loop as consumers have it."""
    import confluent_kafka

    consumer = confluent_kafka.Consumer({"bootstrap.servers": address, "group.id": str(id(work))})

    def assigned(consumer: Any, partitions: list[Any]) -> None:
        for partition in partitions:  # nothing is missed that is sent from now on
            partition.offset = consumer.get_watermark_offsets(partition, DEADLINE_S)[1]
        consumer.assign(partitions)
        ready(address)

    consumer.subscribe([QUEUE], on_assign=assigned)
    is_done = False
    while not is_done:
        message = consumer.poll(0.2)
        if message is not None and message.error() is None:
            work(message.value(), {name: value.decode() for name, value in message.headers()})
            is_done = True
    consumer.close()


# ---------------------------------------------------------------- RabbitMQ


def rabbitmq_client(address: str) -> None:
    """One message."""
    import pika

    with pika.BlockingConnection(pika.URLParameters(address)) as connection:
        connection.channel().basic_publish(
            "",
            QUEUE,
            ORDER,
            pika.BasicProperties(headers=dict([OWN_HEADER]), content_type="application/json"),
        )


def rabbitmq_server(address: str, work: Work, ready: Ready) -> None:
    """Takes one, in a callback."""
    import pika

    with pika.BlockingConnection(pika.URLParameters(address)) as connection:
        channel = connection.channel()
        channel.queue_declare(QUEUE)

        def on_message(_: Any, method: Any, properties: Any, body: bytes) -> None:
            assert properties.content_type == "application/json"
            work(body, properties.headers)
            channel.basic_ack(method.delivery_tag)
            channel.stop_consuming()

        channel.basic_consume(QUEUE, on_message)
        ready(address)
        channel.start_consuming()


TRANSPORTS: dict[str, tuple[Callable[[str], None], Callable[[str, Work, Ready], None]]] = {
    "http": (http_client, http_server),
    "grpc": (grpc_client, grpc_server),
    "kafka": (kafka_client, kafka_server),
    "rabbitmq": (rabbitmq_client, rabbitmq_server),
}
NOT_COVERED_BY_CONTRIB = {"kafka"}  # its consumer's span ends before the loop's body begins


def main() -> None:
    """Be one end."""
    library, transport, role, address = sys.argv[1:5]
    client, server = TRANSPORTS[transport]
    with {"ours": ours, "plain": plain, "none": none}[library](role):
        if role == "client":
            place_order(lambda: client(address))
            return
        work = tell if library == "none" else fulfil
        if library == "plain" and transport in NOT_COVERED_BY_CONTRIB:
            work = fulfil_by_hand
        server(address, work, lambda found: print(found, flush=True))


if __name__ == "__main__":
    main()
