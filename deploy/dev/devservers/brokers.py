"""Message brokers by name, started when the first test needs one."""

from __future__ import annotations

from typing import Final

from devservers.kafka import Kafka
from devservers.mosquitto import Mosquitto
from devservers.moto import Moto
from devservers.nats import Nats
from devservers.pubsub import PubSub
from devservers.rabbitmq import RabbitMQ
from devservers.redis import Redis

BROKERS: Final = {
    "redis": Redis,
    "rabbitmq": RabbitMQ,
    "kafka": Kafka,
    "nats": Nats,
    "mosquitto": Mosquitto,
    "moto": Moto,
    "pubsub": PubSub,
}
