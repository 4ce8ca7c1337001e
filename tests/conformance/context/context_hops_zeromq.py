"""ZeroMQ, which has no broker and no headers: the program adds a frame, and takes it off, by itself."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import zmq
import zmq.asyncio
from context_hop import AsyncErrand, Errand, Hop, Wait, Way, Work, workers

from tracing.doctor.hop import Consumer
from tracing.instrumentation.messaging import processing, sending
from tracing.propagation import messages

OURS = sys.argv[1:2] == ["ours"]  # the other library has nothing of the kind
STOP = b"stop"
JOBS = "inproc://jobs"
TOPIC = b"orders"


@asynccontextmanager
async def _push_pull() -> AsyncIterator[Way]:
    """Frames of a message: its body, and ours."""
    with zmq.Context() as context, context.socket(zmq.PUSH) as push, context.socket(zmq.PULL) as pull:
        push.bind(JOBS)
        pull.connect(JOBS)
        errands: dict[str, Errand] = {}

        def consume() -> None:
            while True:
                [body], headers = messages.open_frames(pull.recv_multipart())
                if body == STOP:
                    return
                with processing("zeromq", "jobs", headers):
                    errands[body.decode()].do()

        def go(work: Work, tag: str) -> Wait:
            errand = errands[tag] = Errand(work, tag)
            with sending("zeromq", "jobs"):
                push.send_multipart(messages.told_frames([tag.encode()]))
            return errand.wait

        with workers(1, consume, lambda: push.send(STOP)):
            yield Way(go)


@asynccontextmanager
async def _publish() -> AsyncIterator[Way]:
    """What subscriptions compare, the topic, stays in front; one socket each, in a thread of its own."""
    with zmq.Context() as context, context.socket(zmq.XPUB) as publisher:
        publisher.set_hwm(0)
        port = publisher.bind_to_random_port("tcp://127.0.0.1")
        errands: dict[str, Errand] = {}

        def consume() -> None:
            with context.socket(zmq.SUB) as subscriber:
                subscriber.set_hwm(0)
                subscriber.connect(f"tcp://127.0.0.1:{port}")
                subscriber.subscribe(TOPIC)
                while True:
                    [_, body], headers = messages.open_frames(subscriber.recv_multipart())
                    if body == STOP:
                        return
                    with processing("zeromq", TOPIC.decode(), headers):
                        errands[body.decode()].do()

        def go(work: Work, tag: str) -> Wait:
            errand = errands[tag] = Errand(work, tag)
            publisher.send_multipart(messages.told_frames([TOPIC, tag.encode()]))
            return errand.wait

        with workers(1, consume, lambda: publisher.send_multipart([TOPIC, STOP])):
            assert publisher.recv() == b"\x01" + TOPIC  # the subscription has arrived
            yield Way(go)


@asynccontextmanager
async def _async_answer() -> AsyncIterator[Way]:
    """Requests from a dealer, answered by a router, in whose messages the sender's name is in front."""
    with zmq.asyncio.Context() as context, context.socket(zmq.ROUTER) as router:
        port = router.bind_to_random_port("tcp://127.0.0.1")
        dealer = context.socket(zmq.DEALER)
        dealer.connect(f"tcp://127.0.0.1:{port}")
        for socket in (router, dealer):
            socket.set_hwm(0)
        errands: dict[str, AsyncErrand] = {}
        senders: set[asyncio.Task[Any]] = set()

        async def consume() -> None:
            while True:
                [sender, body], headers = messages.open_frames(await router.recv_multipart())
                with processing("zeromq", "requests", headers):
                    await errands[body.decode()].perform()
                    await router.send_multipart([sender, b"done"])

        consumer = Consumer(consume)

        def send(errand: AsyncErrand) -> None:
            errands[errand.tag] = errand
            # The frame is made here: a coroutine may begin when the request is over.
            sender = asyncio.ensure_future(dealer.send_multipart(messages.told_frames([errand.tag.encode()])))
            senders.add(sender)
            sender.add_done_callback(senders.discard)

        def go(work: Work, tag: str) -> Wait:
            errand = AsyncErrand(work, tag)
            send(errand)
            return errand.wait

        def cancel(tag: str) -> Wait:
            errand = AsyncErrand(None, tag)
            send(errand)
            return consumer.cancelled_in(errand)

        yield Way(go, cancel)
        await consumer.end()
        dealer.close(linger=0)


@asynccontextmanager
async def _single_frame() -> AsyncIterator[Way]:
    """Where messages are to stay one frame, the body goes into an envelope."""
    with zmq.Context() as context, context.socket(zmq.PAIR) as here, context.socket(zmq.PAIR) as there:
        here.bind("inproc://pair")
        there.connect("inproc://pair")
        errands: dict[str, Errand] = {}
        lock = threading.Lock()

        def consume() -> None:
            while True:
                body, headers = messages.unwrap(there.recv())
                if body == STOP:
                    return
                with processing("zeromq", "pair", headers):
                    errands[body.decode()].do()

        def go(work: Work, tag: str) -> Wait:
            errand = errands[tag] = Errand(work, tag)
            with lock:
                here.send(messages.wrap(tag.encode()))
            return errand.wait

        with workers(1, consume, lambda: here.send(STOP)):
            yield Way(go)


HOPS = (
    [
        Hop("ZeroMQ push and pull, our frame", _push_pull),
        Hop("ZeroMQ publish and subscribe, our frame", _publish),
        Hop("ZeroMQ router and dealer, asyncio, our frame", _async_answer, asyncio.run),
        Hop("ZeroMQ pair, our envelope", _single_frame),
    ]
    if OURS
    else []
)
