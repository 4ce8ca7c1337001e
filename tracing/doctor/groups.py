"""The groups of hops, in the order of a program's layers, and what each needs to be tried."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Broker:
    """A server that is tried only when somebody says where one is.

    Attributes:
        option: of the command, without its dashes; the value is a URL.
        variables: of the environment, in which programs usually have that URL.
        example: how the value looks.
        by: names by which `instrument()` knows the libraries that are tried through it.
    """

    option: str
    variables: tuple[str, ...]
    example: str
    by: tuple[str, ...]

    def address(self, given: Mapping[str, str | None], env: Mapping[str, str]) -> str | None:
        """Where it is: what was given, else what the environment says; `None`: nobody knows."""
        return given.get(self.option) or next((env[name] for name in self.variables if env.get(name)), None)


@dataclass(frozen=True, slots=True)
class Group:
    """Hops that are tried in one process.

    Attributes:
        name: of the module in `tracing.doctor.hops`.
        layer: where in a program these hops are, as the page's headings say it.
        needs: a module without which the group's own cannot be imported.
        broker: what its hops go through.
    """

    name: str
    layer: str
    needs: str = ""
    broker: Broker | None = None


_INSIDE: Final = "Inside the process"
_SERVERS: Final = "Servers"
_MESSAGES: Final = "Messages"
_KAFKA: Final = ("confluent-kafka", "kafka-python", "aiokafka")

GROUPS: Final[Sequence[Group]] = (
    Group("logs", "Log libraries"),
    Group("threads", _INSIDE),
    Group("queues", _INSIDE),
    Group("tasks", _INSIDE),
    Group("gevent", _INSIDE, "gevent"),
    Group("eventlet", _INSIDE, "eventlet"),
    Group("processes", "Other processes"),
    Group("calls", "Calls to other services"),
    Group("starlette", _SERVERS),
    Group("web", _SERVERS),
    Group("redis", _MESSAGES, "redis", Broker("redis", ("REDIS_URL",), "redis://HOST:6379", ("redis",))),
    Group(
        "rabbitmq",
        _MESSAGES,
        "",
        Broker("amqp", ("AMQP_URL", "RABBITMQ_URL"), "amqp://HOST:5672", ("pika", "aio-pika")),
    ),
    Group("kafka", _MESSAGES, "", Broker("kafka", ("KAFKA_BOOTSTRAP_SERVERS",), "HOST:9092", _KAFKA)),
)

BROKERS: Final[Sequence[Broker]] = tuple(group.broker for group in GROUPS if group.broker is not None)
