"""`uninstrument()` puts a library back as it was, in every class and module where something of ours was."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap

import pytest

# Name for `instrument`, and where it changes something: modules and classes, as they are imported.
LIBRARIES = {
    "gevent": ["gevent", "gevent.greenlet:Greenlet", "gevent.threadpool:ThreadPool", "gevent.hub"],
    "eventlet": [
        "eventlet",
        "eventlet.greenthread",
        "eventlet.greenthread:GreenThread",
        "eventlet.tpool",
    ],
    "confluent-kafka": [
        "confluent_kafka",
        "confluent_kafka:SerializingProducer",
        "confluent_kafka:DeserializingConsumer",
    ],
    "kafka-python": ["kafka", "kafka:KafkaProducer", "kafka:KafkaConsumer"],
    "aiokafka": ["aiokafka", "aiokafka:AIOKafkaProducer", "aiokafka:AIOKafkaConsumer"],
    "pika": [
        "pika",
        "pika.channel:Channel",
        "pika.adapters.blocking_connection:BlockingChannel",
        "pika.adapters.blocking_connection:BlockingConnection",
    ],
    "aio-pika": [
        "aio_pika",
        "aio_pika.exchange:Exchange",
        "aio_pika.queue:Queue",
        "aio_pika.queue:QueueIterator",
    ],
    "sanic": [
        "sanic:Sanic",
        "sanic.server.protocols.http_protocol:HttpProtocolMixin",
        "sanic.router:Router",
        "sanic.handlers:ErrorHandler",
        "sanic.response:BaseHTTPResponse",
    ],
}

PROGRAM = """
    import functools, importlib, json, sys
    import tracing

    name, *paths = sys.argv[1:]

    def found(path):
        module, _, attributes = path.partition(":")
        return functools.reduce(getattr, filter(None, attributes.split(".")), importlib.import_module(module))

    places = {path: found(path) for path in paths}
    tracing.configure(service="shop", exporter="none")

    def state():
        return {f"{path} {key}": kept for path, place in places.items() for key, kept in vars(place).items()}

    before, during = state(), []
    for _ in range(2):
        assert tracing.instrument(name) == [name]
        now = state()
        during.append(sorted(key for key in now if now[key] is not before.get(key)))
        tracing.uninstrument()
    after = state()
    left = [key for key in before.keys() | after.keys() if before.get(key) is not after.get(key)]
    print(json.dumps({"during": during, "left": left}))
"""


@pytest.mark.parametrize("name", LIBRARIES)
def test_a_library_is_as_it_was(name: str) -> None:
    """After two rounds, each of which changes the same."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PROGRAM), name, *LIBRARIES[name]],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    first, second = told["during"]
    assert first and first == second
    assert told["left"] == []
