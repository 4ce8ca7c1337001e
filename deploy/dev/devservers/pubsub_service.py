"""A Pub/Sub service in memory, over real gRPC: `python -m devservers.pubsub_service PORT`.

Google's emulator is a download that is not to be had everywhere. This serves what its client libraries need
to send and to receive, by the messages of the public interface (`google/pubsub/v1/pubsub.proto`). A message
goes to every subscription of its topic; one that is not acknowledged comes again after `REDELIVERY_S`, or at
once when its deadline is set to zero.
"""

from __future__ import annotations

import itertools
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from dataclasses import dataclass, field
from typing import Any, Final

import grpc
from google.protobuf import empty_pb2
from google.pubsub_v1.types import pubsub

REDELIVERY_S: Final = 10.0
BATCH_MAX: Final = 100  # messages of one answer to a stream
WORKERS: Final = 64  # each stream takes one for as long as it is open
POLL_S: Final = 0.2  # for streams whose client has gone


@dataclass
class Subscription:
    """What waits for one subscription's clients; all of it under the service's condition.

    Attributes:
        waiting: messages by their acknowledgement ids.
        out: until when each is with a client, on the monotonic clock.
    """

    topic: str
    waiting: dict[str, Any] = field(default_factory=dict)
    out: dict[str, float] = field(default_factory=dict)


class Service:
    """The methods of `Publisher` and `Subscriber`, as far as they are served."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._topics: set[str] = set()
        self._subscriptions: dict[str, Subscription] = {}
        self._numbers = itertools.count(1)

    def create_topic(self, request: Any, _: grpc.ServicerContext) -> Any:
        """Make a topic."""
        with self._changed:
            self._topics.add(request.name)
        return request

    def publish(self, request: Any, context: grpc.ServicerContext) -> Any:
        """Give messages to all subscriptions."""
        if request.topic not in self._topics:
            context.abort(grpc.StatusCode.NOT_FOUND, f"no topic {request.topic}")
        with self._changed:
            ids = []
            for message in request.messages:
                message.message_id = str(next(self._numbers))
                ids.append(message.message_id)
                for subscription in self._subscriptions.values():
                    if subscription.topic == request.topic:
                        subscription.waiting[str(next(self._numbers))] = message
            self._changed.notify_all()
        return pubsub.PublishResponse(message_ids=ids)

    def create_subscription(self, request: Any, _: grpc.ServicerContext) -> Any:
        """Make a subscription; it gets what is published from now on."""
        with self._changed:
            self._subscriptions[request.name] = Subscription(request.topic)
        return request

    def pull(self, request: Any, context: grpc.ServicerContext) -> Any:
        """Wait for messages, as long as the client does, at least for one."""
        found: list[Any] = []
        while context.is_active() and not found:
            found = self._take(request.subscription, request.max_messages)
        return pubsub.PullResponse(received_messages=found)

    def streaming_pull(self, requests: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
        """Send messages as they come."""
        name = next(requests).subscription
        threading.Thread(target=self._listen, args=(requests,), daemon=True).start()
        while context.is_active():
            found = self._take(name, BATCH_MAX)
            if found:
                yield pubsub.StreamingPullResponse(received_messages=found)

    def acknowledge(self, request: Any, _: grpc.ServicerContext) -> Any:
        """Forget messages that were worked on."""
        self._done(request.ack_ids)
        return empty_pb2.Empty()

    def modify_ack_deadline(self, request: Any, _: grpc.ServicerContext) -> Any:
        """Leave messages with their client for longer, or take them back."""
        self._extend(dict.fromkeys(request.ack_ids, request.ack_deadline_seconds))
        return empty_pb2.Empty()

    def _listen(self, requests: Iterator[Any]) -> None:
        """What a client says on its stream after it has begun."""
        try:
            for request in requests:
                self._done(request.ack_ids)
                self._extend(
                    dict(
                        zip(
                            request.modify_deadline_ack_ids,
                            request.modify_deadline_seconds,
                            strict=True,
                        )
                    )
                )
        except grpc.RpcError:
            return  # it has hung up

    def _take(self, name: str, messages_max: int) -> list[Any]:
        with self._changed:
            subscription = self._subscriptions[name]
            now = time.monotonic()
            free = [key for key in subscription.waiting if subscription.out.get(key, 0.0) <= now]
            if not free:
                self._changed.wait(POLL_S)
                return []
            taken = free[:messages_max]
            subscription.out.update(dict.fromkeys(taken, now + REDELIVERY_S))
            return [pubsub.ReceivedMessage(ack_id=key, message=subscription.waiting[key]) for key in taken]

    def _done(self, keys: Any) -> None:
        with self._changed:
            for subscription in self._subscriptions.values():
                for key in keys:
                    subscription.waiting.pop(key, None)
                    subscription.out.pop(key, None)

    def _extend(self, seconds: dict[str, int]) -> None:
        with self._changed:
            for subscription in self._subscriptions.values():
                for key, more in seconds.items():
                    if key in subscription.waiting:
                        subscription.out[key] = time.monotonic() + more
            self._changed.notify_all()


def _handler(method: Callable[..., Any], request: Any, answer: Any) -> grpc.RpcMethodHandler:
    serialize = answer.serialize if answer is not None else empty_pb2.Empty.SerializeToString
    return grpc.unary_unary_rpc_method_handler(method, request.deserialize, serialize)


def serve(port: int) -> grpc.Server:
    """Start the service on a loopback port."""
    service = Service()
    server = grpc.server(futures.ThreadPoolExecutor(WORKERS))
    publisher = {
        "CreateTopic": _handler(service.create_topic, pubsub.Topic, pubsub.Topic),
        "Publish": _handler(service.publish, pubsub.PublishRequest, pubsub.PublishResponse),
    }
    subscriber = {
        "CreateSubscription": _handler(service.create_subscription, pubsub.Subscription, pubsub.Subscription),
        "Pull": _handler(service.pull, pubsub.PullRequest, pubsub.PullResponse),
        "Acknowledge": _handler(service.acknowledge, pubsub.AcknowledgeRequest, None),
        "ModifyAckDeadline": _handler(service.modify_ack_deadline, pubsub.ModifyAckDeadlineRequest, None),
        "StreamingPull": grpc.stream_stream_rpc_method_handler(
            service.streaming_pull,
            pubsub.StreamingPullRequest.deserialize,
            pubsub.StreamingPullResponse.serialize,
        ),
    }
    server.add_generic_rpc_handlers(
        (
            grpc.method_handlers_generic_handler("google.pubsub.v1.Publisher", publisher),
            grpc.method_handlers_generic_handler("google.pubsub.v1.Subscriber", subscriber),
        )
    )
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    return server


if __name__ == "__main__":
    serve(int(sys.argv[1])).wait_for_termination()
