"""AWS SQS and SNS by botocore, and so by boto3: the trace is in message attributes.

`receive_message` asks for our attributes in addition, and gives the program what it asked for itself. What
SNS delivers to a queue is read in both of its forms: raw, and wrapped into JSON, where the attributes are in
the body. A message may have ten attributes; whatever does not fit is left out and counted.

Source: Amazon SQS Developer Guide, "Message metadata" and "Message quotas"; Amazon SNS Developer Guide, "Raw
message delivery" (more than ten attributes are discarded there).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from functools import wraps
from importlib import import_module
from typing import Any, Final

from tracing.handoff import Handoff, Patch
from tracing.health import count
from tracing.instrumentation.messaging import finished, fuse, is_wanted, received, sending
from tracing.propagation import messages

ATTRIBUTES_MAX: Final = 10  # of one message
_EVERYTHING: Final = frozenset({"All", ".*"})
_SYSTEMS: Final = {"sqs": "aws_sqs", "sns": "aws.sns"}
_SENDING: Final = frozenset({"SendMessage", "SendMessageBatch", "Publish", "PublishBatch"})
_BATCHES: Final = ("Entries", "PublishBatchRequestEntries")
# How a message that became too long for its queue is refused; the queue's own limit may be a low one.
_REFUSALS: Final = frozenset({"InvalidParameterValue", "InvalidParameter", "BatchRequestTooLong"})
_WRAPPED_CHARS_MAX: Final = 1 << 20  # of a body that is looked into: SQS takes 1 MiB


def botocore_patches() -> list[Handoff]:
    """The one place where all calls of all services pass by."""
    return [Patch(import_module("botocore.client").BaseClient, "_make_api_call", _make_api_call)]


def _make_api_call(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def make_api_call(self: Any, operation_name: str, api_params: Any) -> Any:
        system = _SYSTEMS.get(self.meta.service_model.service_name)
        if system is None or not is_wanted() or not isinstance(api_params, Mapping):
            return original(self, operation_name, api_params)
        if operation_name in _SENDING and "PhoneNumber" not in api_params:
            with sending(system, _destination(api_params)):
                return _send(original, self, operation_name, api_params)
        if operation_name == "ReceiveMessage":
            finished(self)
            answer = original(self, operation_name, _asking(api_params))
            _took(self, system, api_params, answer)
            return answer
        return original(self, operation_name, api_params)

    return make_api_call


def _destination(params: Mapping[str, Any]) -> str:
    """The name of a queue is the end of its URL, that of a topic the end of its ARN."""
    place = params.get("QueueUrl") or params.get("TopicArn") or params.get("TargetArn") or ""
    return str(place).replace(":", "/").rpartition("/")[2]


# ---------------------------------------------------------------- producers


def _send(original: Callable[..., Any], client: Any, operation: str, params: Mapping[str, Any]) -> Any:
    told = _told(params)
    try:
        return original(client, operation, told)
    except Exception as error:
        response = getattr(error, "response", None)
        if told is params or not isinstance(response, Mapping):
            raise
        if response.get("Error", {}).get("Code") not in _REFUSALS:
            raise
    # Nothing was sent. If it was refused for what we added, it goes without.
    count("message_attributes_full")
    return original(client, operation, params)


def _told(params: Mapping[str, Any]) -> Mapping[str, Any]:
    """A copy of a call's parameters whose messages, one or a batch, have our attributes."""
    try:
        for batch in _BATCHES:
            if batch in params:
                return {**params, batch: [_told_message(entry) for entry in params[batch]]}
        return _told_message(params)
    except Exception as error:
        fuse.failed(error)
        return params


def _told_message(message: Mapping[str, Any]) -> Mapping[str, Any]:
    texts = messages.texts()
    lowered = {name.lower() for name in texts}
    given = message.get("MessageAttributes") or {}
    kept = {name: value for name, value in given.items() if name.lower() not in lowered}
    room = max(0, ATTRIBUTES_MAX - len(kept))
    names = [name for name in messages.names() if name in texts]
    if len(names) > room:
        count("message_attributes_full")
        names = names[:room]
    if not names:
        return message
    ours = {name: {"DataType": "String", "StringValue": texts[name]} for name in names}
    return {**message, "MessageAttributes": {**kept, **ours}}


# ---------------------------------------------------------------- consumers


def _asking(params: Mapping[str, Any]) -> dict[str, Any]:
    wanted = list(params.get("MessageAttributeNames") or ())
    if _EVERYTHING.isdisjoint(wanted):
        wanted += [name for name in messages.names() if name not in wanted]
    return {**params, "MessageAttributeNames": wanted}


def _took(client: Any, system: str, asked: Mapping[str, Any], answer: Any) -> None:
    try:
        found = answer.get("Messages") or []
        headers = [_headers(message) for message in found]
        for message in found:
            _leave_what_was_asked(message, asked.get("MessageAttributeNames") or ())
        received(system, _destination(asked), headers, client)
    except Exception as error:
        fuse.failed(error)


def _leave_what_was_asked(message: dict[str, Any], asked: Any) -> None:
    """Take out of an answer what only we had asked for."""
    attributes = message.get("MessageAttributes")
    if not attributes or not _EVERYTHING.isdisjoint(asked):
        return
    prefixes = tuple(name.removesuffix(".*") for name in asked if name.endswith(".*"))
    for name in messages.names():
        if name not in asked and not (prefixes and name.startswith(prefixes)):
            attributes.pop(name, None)
    if not attributes:
        del message["MessageAttributes"]
        message.pop("MD5OfMessageAttributes", None)


def _headers(message: Mapping[str, Any]) -> dict[str, str]:
    return dict(_texts(message.get("MessageAttributes"), "StringValue")) or _wrapped_headers(message)


def _texts(attributes: Any, key: str) -> Iterator[tuple[str, str]]:
    for name, value in attributes.items() if isinstance(attributes, dict) else ():
        if isinstance(value, dict) and isinstance(value.get(key), str):
            yield name, value[key]


def _wrapped_headers(message: Mapping[str, Any]) -> dict[str, str]:
    """Of what SNS has wrapped; any other body has none."""
    body = message.get("Body") or ""
    if not body.startswith("{") or '"Notification"' not in body or len(body) > _WRAPPED_CHARS_MAX:
        return {}
    try:
        notification = json.loads(body)
    except ValueError:
        return {}
    if notification.get("Type") != "Notification":
        return {}
    return dict(_texts(notification.get("MessageAttributes"), "Value"))
