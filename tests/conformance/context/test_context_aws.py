"""SQS and SNS beyond the matrix: batches, limits, what the program asked for, foreign peers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import botocore.client
import botocore.exceptions
import pytest
from context_server import GATEWAY_TRACE_ID, broker_url, from_gateway, ids, instrumented, producers

import tracing
from tracing import health
from tracing.testing import Captured

WHERE: dict[str, Any] = {
    "region_name": "eu-central-1",
    "aws_access_key_id": "nobody",
    "aws_secret_access_key": "nothing",
}


@pytest.fixture(scope="module")
def url(need: Callable[[bool, str], None]) -> Iterator[str]:
    """A server that answers as AWS does."""
    with broker_url("moto", need) as found:
        yield found


@pytest.fixture
def sqs(url: str) -> Any:
    """A client."""
    return boto3.client("sqs", endpoint_url=url, **WHERE)


@pytest.fixture
def queue(sqs: Any, request: pytest.FixtureRequest) -> str:
    """The URL of a queue of the test's own."""
    return str(sqs.create_queue(QueueName=re.sub(r"\W+", "-", request.node.name)[:80])["QueueUrl"])


@pytest.fixture
def captured() -> Iterator[Captured]:
    """With botocore on."""
    with instrumented("botocore") as lines:
        yield lines


def attribute(text: str) -> dict[str, str]:
    """A message attribute."""
    return {"DataType": "String", "StringValue": text}


def receive(sqs: Any, queue: str, *names: str) -> list[dict[str, Any]]:
    """What is in a queue, at most ten messages."""
    options = {"MessageAttributeNames": list(names)} if names else {}
    found = sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10, **options)
    return list(found.get("Messages", []))


def test_a_batch_has_links_to_every_producer(sqs: Any, queue: str, captured: Captured) -> None:
    """One span for what came at once; those who sent a batch, at once, are one producer."""
    with tracing.span("request"):
        sqs.send_message(QueueUrl=queue, MessageBody="0")
        entries = [{"Id": str(number), "MessageBody": str(number)} for number in (1, 2)]
        sqs.send_message_batch(QueueUrl=queue, Entries=entries)
    assert entries == [{"Id": str(number), "MessageBody": str(number)} for number in (1, 2)]
    bodies = [message["Body"] for message in receive(sqs, queue)]
    inside = tracing.current_span_id()
    assert sorted(bodies) == ["0", "1", "2"] and inside is not None
    assert receive(sqs, queue) == [] and tracing.current_span_id() is None
    name = queue.rpartition("/")[2]
    single, several = producers(captured)
    batch = captured.span(f"process {name}")
    assert sorted(ids(batch["links"])) == sorted([*ids([single]), *2 * ids([several])])
    assert single["name"] == several["name"] == f"send {name}"
    assert batch["attributes"]["messaging.system"] == "aws_sqs"


def test_the_program_gets_what_it_asked_for(sqs: Any, queue: str, captured: Captured) -> None:
    """Attributes that only we asked for are taken out again, and their digest with them."""
    for _ in range(4):
        sqs.send_message(QueueUrl=queue, MessageBody="x", MessageAttributes={"kind": attribute("order")})
    got = {}
    for names in ((), ("kind",), ("trace.*", "kind"), ("All",)):
        found = sqs.receive_message(QueueUrl=queue, MessageAttributeNames=list(names))["Messages"][0]
        got[names] = set(found.get("MessageAttributes", {})), "MD5OfMessageAttributes" in found
        assert tracing.current_trace_id() is not None
    ours = {"traceparent", "X-Trace-ID"}
    assert got == {
        (): (set(), False),
        ("kind",): ({"kind"}, True),
        ("trace.*", "kind"): ({"kind", "traceparent"}, True),
        ("All",): ({"kind", *ours}, True),
    }


def test_a_message_has_at_most_ten_attributes(sqs: Any, queue: str, captured: Captured) -> None:
    """Where there is room for one of ours, it is the one that names the span; what is left out is counted."""
    for count in (9, 10):
        given = {f"a{number}": attribute("x") for number in range(count)}
        before = health.counts["message_attributes_full"]
        with tracing.span(f"request {count}"):
            sqs.send_message(QueueUrl=queue, MessageBody=str(count), MessageAttributes=given)
        assert health.counts["message_attributes_full"] == before + 1
        assert len(given) == count
        [message] = receive(sqs, queue, "All")
        told = set(message["MessageAttributes"]) - set(given)
        assert told == ({"traceparent"} if count == 9 else set())
        is_below = tracing.current_trace_id() == captured.span(f"request {count}")["trace_id"]
        assert is_below == (count == 9)


def test_a_message_that_our_attributes_made_too_long_goes_without(sqs: Any, captured: Captured) -> None:
    """A queue may have a limit of its own, which attributes count for."""
    queue = sqs.create_queue(QueueName="short", Attributes={"MaximumMessageSize": "1024"})["QueueUrl"]
    refused = []

    def refuse(params: Any, **_: Any) -> None:
        attributes = params.get("MessageAttributes", {})
        size = len(params["MessageBody"])
        size += sum(len(name) + len("String") + len(a["StringValue"]) for name, a in attributes.items())
        if size > 1024:
            refused.append(size)
            error = {"Code": "InvalidParameterValue", "Message": "Message must be shorter than 1024 bytes"}
            raise botocore.exceptions.ClientError({"Error": error}, "SendMessage")

    # Moto does not count attributes, as AWS does.
    sqs.meta.events.register("provide-client-params.sqs.SendMessage", refuse)
    before = health.counts["message_attributes_full"]
    sqs.send_message(QueueUrl=queue, MessageBody="x" * 1000)
    assert len(refused) == 1 and health.counts["message_attributes_full"] == before + 1
    [message] = receive(sqs, queue, "All")
    assert "MessageAttributes" not in message
    with pytest.raises(botocore.exceptions.ClientError, match="shorter than 1024"):
        sqs.send_message(QueueUrl=queue, MessageBody="x" * 1025)
    assert [span["level"] for span in producers(captured)] == ["INFO", "ERROR"]


def test_other_calls_are_left_alone(sqs: Any, queue: str, captured: Captured) -> None:
    """Of these services, and of all others; a telephone gets no attributes of ours."""
    sqs.list_queues()
    sqs.purge_queue(QueueUrl=queue)
    url = sqs.meta.endpoint_url
    boto3.client("s3", endpoint_url=url, **WHERE).list_buckets()
    boto3.client("sns", endpoint_url=url, **WHERE).publish(PhoneNumber="+15550100", Message="7")
    assert captured.spans == []


def test_a_topic_sends_batches(sqs: Any, queue: str, captured: Captured) -> None:
    """And a queue behind it gets what was said to the topic."""
    sns = boto3.client("sns", endpoint_url=sqs.meta.endpoint_url, **WHERE)
    topic = sns.create_topic(Name="news")["TopicArn"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
    with tracing.span("request"):
        sns.publish_batch(TopicArn=topic, PublishBatchRequestEntries=[{"Id": "1", "Message": "x"}])
    [message] = receive(sqs, queue)
    assert tracing.current_trace_id() == captured.span("request")["trace_id"]
    assert "MessageAttributes" not in message
    assert captured.span("send news")["attributes"]["messaging.system"] == "aws.sns"


TOLD = f'"MessageAttributes": {{"traceparent": {{"Type": "String", "Value": "00-{"a" * 32}-{"b" * 16}-01"}}}}'
LOOKALIKES = {
    "cut": "{",
    "unfinished": f'{{"Type": "Notification", {TOLD}',
    "without": '{"Type": "Notification"}',
    "another kind": f'{{"Type": "Report", "About": "Notification", {TOLD}}}',
    "a list": '{"Type": "Notification", "MessageAttributes": [7]}',
    "numbers": '{"Type": "Notification", "MessageAttributes": {"traceparent": 7, "baggage": {"Value": 7}}}',
}


@pytest.mark.parametrize("kind", LOOKALIKES)
def test_a_body_that_looks_wrapped_and_is_not(sqs: Any, queue: str, captured: Captured, kind: str) -> None:
    """It begins a trace, as any message of somebody without the library."""
    body = LOOKALIKES[kind]
    before = health.counts["hook_failed"]
    tracing.uninstrument()
    sqs.send_message(QueueUrl=queue, MessageBody=body)
    tracing.instrument("botocore")
    [message] = receive(sqs, queue)
    assert message["Body"] == body and tracing.current_trace_id() not in (None, "a" * 32)
    assert health.counts["hook_failed"] == before


def test_the_id_of_a_gateway_is_in_the_attributes(sqs: Any, queue: str, captured: Captured) -> None:
    """A consumer in another language finds it there, and one without the library is none the wiser."""
    with from_gateway():
        sqs.send_message(QueueUrl=queue, MessageBody="body")
    tracing.uninstrument()
    [message] = receive(sqs, queue, "X-Trace-ID")
    assert message["Body"] == "body"
    assert message["MessageAttributes"] == {"X-Trace-ID": attribute(GATEWAY_TRACE_ID)}


def test_removal_puts_the_client_back() -> None:
    """The method is the library's own again; excluded by name it was never replaced."""
    place = vars(botocore.client.BaseClient)
    before = place["_make_api_call"]
    with instrumented("botocore"):
        assert place["_make_api_call"] is not before
    assert place["_make_api_call"] is before
    with instrumented("threads"):
        tracing.instrument(exclude=["botocore"])
        assert place["_make_api_call"] is before
