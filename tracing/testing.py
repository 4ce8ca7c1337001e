"""pytest plugin: capture what the library writes, with a fake clock and sequential ids.

```python
def test_an_order_is_traced(tracing_capture):
    place_order(7)
    [span] = tracing_capture.spans
    assert span["name"] == "place order" and span["trace_id"] == f"{1:032x}"
    assert tracing_capture.messages == ["order 7 placed"]
```
The fixture `tracing_capture` configures the library for one test, with sequential ids, and takes everything
back afterwards; `tracing_clock` stops its clock as well. `capturing()` is the same without pytest.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import pytest

START_NS: Final = 1_767_225_600_000_000_000  # 2026-01-01T00:00:00Z


class Captured:
    """A sink that keeps lines, and shows them as dictionaries."""

    def __init__(self) -> None:
        self.raw: list[tuple[bytes, int]] = []

    def write(self, line: bytes, severity_number: int) -> None:
        """Keep a line."""
        self.raw.append((line, severity_number))

    def clear(self) -> None:
        """Forget what came so far."""
        self.raw.clear()

    @property
    def lines(self) -> list[dict[str, Any]]:
        """Every line, decoded and checked, in order; `timestamp` is epoch nanoseconds."""
        from tracing.line import decode

        return [decode(line) for line, _ in self.raw]

    @property
    def logs(self) -> list[dict[str, Any]]:
        """The log records among them."""
        return [line for line in self.lines if "kind" not in line]

    @property
    def messages(self) -> list[str]:
        """What the log records say."""
        return [line["message"] for line in self.logs]

    @property
    def spans(self) -> list[dict[str, Any]]:
        """The spans that have ended, in the order of their ends."""
        return [line for line in self.lines if line.get("kind") == "span"]

    @property
    def starts(self) -> list[dict[str, Any]]:
        """The `span_start` lines."""
        return [line for line in self.lines if line.get("kind") == "span_start"]

    def span(self, name: str) -> dict[str, Any]:
        """The one span of a name.

        Raises:
            AssertionError: there is none, or more than one.
        """
        found = [span for span in self.spans if span["name"] == name]
        names = [span["name"] for span in self.spans]
        assert len(found) == 1, f"one span {name!r} expected, the spans are {names}"
        return found[0]


class SequentialIds:
    """An SDK `IdGenerator` that counts: trace ids and span ids 1, 2, 3 …"""

    def __init__(self) -> None:
        self._trace_id = self._span_id = 0

    def generate_trace_id(self) -> int:
        """The next trace id."""
        self._trace_id += 1
        return self._trace_id

    def generate_span_id(self) -> int:
        """The next span id."""
        self._span_id += 1
        return self._span_id

    def is_trace_id_random(self) -> bool:
        """They are not."""
        return False


class FakeClock:
    """A clock that stands still until it is told to go on; spans and log records take their time from it.

    Attributes:
        now_ns: epoch nanoseconds. It may be set back, as real clocks are.
    """

    def __init__(self, now_ns: int = START_NS) -> None:
        self.now_ns = now_ns
        self._elapsed_ns = 0

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.now_ns += round(seconds * 1e9)
        self._elapsed_ns += round(seconds * 1e9)

    def time_ns(self) -> int:
        """What `time.time_ns` says."""
        return self.now_ns

    def monotonic_ns(self) -> int:
        """What `time.monotonic_ns` says: never set back."""
        return self._elapsed_ns


@contextmanager
def capturing(*, service: str = "test", level: str | None = "DEBUG", **settings: Any) -> Iterator[Captured]:
    """Configure the library to keep its lines in memory, and put everything back afterwards.

    Args:
        service, level, settings: as for `tracing.configure`.
    """
    from tracing import runtime

    captured = Captured()
    settings.setdefault("id_generator", SequentialIds())
    runtime.uninstall()
    runtime.configure(service=service, level=level, sink=captured, **settings)
    try:
        yield captured
    finally:
        runtime.uninstall()


@contextmanager
def stopped_clock(fake: FakeClock) -> Iterator[FakeClock]:
    """Let spans and log records take their time from a fake clock."""
    from tracing.spans import light

    before, factory = light.clock, logging.getLogRecordFactory()

    def made(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = factory(*args, **kwargs)
        record.created = fake.now_ns / 1e9
        return record

    light.clock = fake
    logging.setLogRecordFactory(made)
    try:
        yield fake
    finally:
        light.clock = before
        logging.setLogRecordFactory(factory)


@pytest.fixture
def tracing_capture() -> Iterator[Captured]:
    """The library, configured for this test: everything that it writes, with sequential ids."""
    with capturing() as captured:
        yield captured


@pytest.fixture
def tracing_clock(tracing_capture: Captured) -> Iterator[FakeClock]:
    """A clock for `tracing_capture` that stands at 2026-01-01T00:00:00Z until it is told to go on."""
    with stopped_clock(FakeClock()) as clock:
        yield clock
