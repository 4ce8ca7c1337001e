"""dramatiq on RabbitMQ, which it talks to by pika."""

from __future__ import annotations

import os

from context_tasks_dramatiq import hops
from dramatiq.brokers.rabbitmq import RabbitmqBroker

BROKER = "rabbitmq"

HOPS = hops("RabbitMQ", lambda: RabbitmqBroker(url=os.environ["BROKER_URL"]), 300, 50)
