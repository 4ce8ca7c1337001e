"""`docs/messages.md`: its names are those of the code, and its programs do what they say."""

from __future__ import annotations

import re
from collections import deque
from pathlib import Path
from typing import Any

import pytest

import tracing
from tracing.instrumentation.table import ENTRIES
from tracing.testing import capturing

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "messages.md").read_text()
LISTS, FRAMES = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


class Queue:
    """A Redis list and a socket, as far as the programs know them; the last `brpop` stops the loop."""

    def __init__(self) -> None:
        self.waiting: deque[Any] = deque()

    def lpush(self, _: str, body: Any) -> None:
        """Put."""
        self.waiting.append(body)

    def send_multipart(self, frames: Any) -> None:
        """Put."""
        self.waiting.append(frames)

    def brpop(self, names: list[str]) -> tuple[str, Any]:
        """Get."""
        if not self.waiting:
            raise KeyboardInterrupt
        return names[0], self.waiting.popleft()

    def recv_multipart(self) -> Any:
        """Get."""
        return self.waiting.popleft()


def test_the_names_are_known() -> None:
    """Each can be excluded by the name that the page gives it."""
    cells = [line.split("|")[1] for line in PAGE.splitlines() if line.startswith("| `")]
    told = {name for cell in cells for name in re.findall(r"`([\w-]+)`", cell)}
    known = {entry.name for entry in ENTRIES}
    assert told <= known and {"nats", "mqtt", "botocore", "google-pubsub", "redis", "celery"} <= told


def test_the_program_with_an_envelope() -> None:
    """The work is below the span of whoever sent it."""
    program: dict[str, Any] = {}
    exec(LISTS, program)
    queue, done = Queue(), []
    with capturing() as captured:
        with tracing.span("request"):
            program["send"](queue, b"7")
        with pytest.raises(KeyboardInterrupt):
            program["work"](queue, lambda body: done.append((body, tracing.current_trace_id())))
    assert done == [(b"7", captured.span("request")["trace_id"])]
    assert captured.span("process jobs")["parent_span_id"] == captured.span("send jobs")["span_id"]


def test_the_program_with_frames() -> None:
    """Topic and body are what they were."""
    program: dict[str, Any] = {}
    exec(FRAMES, program)
    socket, done = Queue(), []
    with capturing() as captured:
        with tracing.span("request"):
            program["publish"](socket, b"orders", b"7")
        assert socket.waiting[0][:2] == [b"orders", b"7"]
        program["receive"](socket, lambda body: done.append((body, tracing.current_trace_id())))
    assert done == [(b"7", captured.span("request")["trace_id"])]
