"""What one operation of the API is; `catalogue` lists them all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from collector.api.access import Right
from collector.api.answers import Answers
from collector.api.parameters import Parameter
from collector.api.problems import CONTENT_TYPE
from collector.api.shapes import JsonObject

Ask = Callable[[Answers, dict[str, Any]], JsonObject]


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A GET that asks `Answers` something."""

    name: str  # OpenAPI's operationId
    path: str  # parameters in braces
    summary: str
    ask: Ask
    answer: type[msgspec.Struct]
    parameters: tuple[Parameter, ...] = ()
    problems: tuple[str, ...] = ()  # kinds besides those that every question may meet
    right: Right = "read"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """A GET whose answer is sent in pieces, as long as they come."""

    name: str
    path: str
    summary: str
    content_types: tuple[str, ...]
    parameters: tuple[Parameter, ...] = ()
    problems: tuple[str, ...] = ("invalid-query",)
    right: Right = "read"


@dataclass(frozen=True, slots=True, kw_only=True)
class Removal:
    """A DELETE of records. Its parameters are those of `Answers.to_delete`."""

    name: str
    path: str
    summary: str
    parameters: tuple[Parameter, ...]
    right: Right = "admin"


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A POST that has something done: a JSON object in, another one out. An empty body is an empty object."""

    name: str
    path: str
    summary: str
    carry_out: Callable[[Answers, Any], JsonObject]  # is given a `body`
    body: type[msgspec.Struct]
    answer: type[msgspec.Struct]
    example: JsonObject  # of the body
    answer_example: JsonObject
    problems: tuple[str, ...] = ()  # kinds besides those that every order may meet
    right: Right = "admin"


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """A POST that brings records."""

    name: str
    path: str
    summary: str
    description: str
    content_types: tuple[str, ...]
    answers: dict[str, JsonObject]  # schema by content type
    headers: tuple[Parameter, ...] = ()
    refusals: tuple[str, ...] = (CONTENT_TYPE,)  # content types of errors, where the protocol has its own


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A GET about the service itself."""

    name: str
    path: str
    summary: str
    content_type: str
    answers: dict[int, str]  # what each status means
    right: Right = "open"
    blocks: bool = False  # it reads the store, so it is not made on the event loop


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """What other people's senders call; `collector.listen.dialects` answers it in their protocol's words."""

    name: str
    methods: tuple[str, ...]
    path: str
    summary: str
    answers: dict[int, tuple[str, str | None]]  # by status: what it means, and its content type
    content_types: tuple[str, ...] = ()  # of the body; none: there need be no body
    parameters: tuple[Parameter, ...] = ()
