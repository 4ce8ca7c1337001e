"""AWS: SQS by boto3's client and resource, and SNS into SQS, raw and wrapped; Moto stands for the cloud."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import boto3
from context_hop import Errand, Hop, Wait, Way, Work, workers

BROKER = "moto"
MESSAGES = 25  # at 5 ms for each call of this server, three calls a message
WHERE: dict[str, Any] = {
    "region_name": "eu-central-1",
    "aws_access_key_id": "nobody",
    "aws_secret_access_key": "nothing",
}

Errands = dict[str, Errand]


def _client(service: str) -> Any:
    return boto3.client(service, endpoint_url=os.environ["BROKER_URL"], **WHERE)


def _hop(
    name: str, sender: Callable[[str, str], Callable[[str], Any]], text: Callable[[str], str] = str
) -> Any:
    """A thread polls a queue.

    Args:
        sender: given the queue's name and URL, makes what sends a body.
        text: of a message that came, gives what was sent.
    """

    @asynccontextmanager
    async def opened() -> AsyncIterator[Way]:
        errands: Errands = {}
        sqs = _client("sqs")
        queue = sqs.create_queue(QueueName=name)["QueueUrl"]
        send = sender(name, queue)
        ended = threading.Event()

        def consume() -> None:
            own = _client("sqs")
            while not ended.is_set():
                answer = own.receive_message(QueueUrl=queue, MaxNumberOfMessages=1, WaitTimeSeconds=0)
                for message in answer.get("Messages", []):
                    errands[text(message["Body"])].do()
                    own.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])

        def go(work: Work, tag: str) -> Wait:
            errand = errands[tag] = Errand(work, tag)
            send(tag)
            return errand.wait

        with workers(1, consume, ended.set):
            yield Way(go)

    return opened


def _directly(_: str, queue: str) -> Callable[[str], Any]:
    sqs = _client("sqs")
    return lambda body: sqs.send_message(QueueUrl=queue, MessageBody=body)


def _by_resource(_: str, queue: str) -> Callable[[str], Any]:
    resource = boto3.resource("sqs", endpoint_url=os.environ["BROKER_URL"], **WHERE).Queue(queue)
    return lambda body: resource.send_messages(Entries=[{"Id": "1", "MessageBody": body}])


def _by_topic(raw: str) -> Callable[[str, str], Callable[[str], Any]]:
    def sender(name: str, queue: str) -> Callable[[str], Any]:
        sns = _client("sns")
        topic = sns.create_topic(Name=name)["TopicArn"]
        arn = _client("sqs").get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])
        sns.subscribe(
            TopicArn=topic,
            Protocol="sqs",
            Endpoint=arn["Attributes"]["QueueArn"],
            Attributes={"RawMessageDelivery": raw},
        )
        return lambda body: sns.publish(TopicArn=topic, Message=body)

    return sender


def _unwrapped(body: str) -> str:
    return str(json.loads(body)["Message"])


HOPS = [
    Hop("SQS, boto3 client", _hop("client", _directly), contexts=MESSAGES),
    Hop("SQS, boto3 resource, batch", _hop("resource", _by_resource), contexts=MESSAGES),
    Hop("SNS to SQS, raw", _hop("raw", _by_topic("true")), contexts=MESSAGES),
    Hop("SNS to SQS, wrapped", _hop("wrapped", _by_topic("false"), _unwrapped), contexts=MESSAGES),
]
