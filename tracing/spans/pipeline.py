"""What all tracers share: who samples, who gives ids, which limits hold, who else wants spans.

`runtime` fills it from `Settings`; before that, and after `uninstall()`, it is inactive and no span records.
"""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING, Any, Final, Protocol

from opentelemetry import trace

from tracing.health import Fuse

if TYPE_CHECKING:  # the SDK is imported by `configure()`, so that importing the library stays cheap
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import SpanProcessor
    from opentelemetry.sdk.trace.sampling import Sampler

RATIO_MASK: Final = (1 << 64) - 1  # the part of a trace id that ratio samplers look at, as the SDK's does
ALWAYS: Final = RATIO_MASK + 1

fuse: Final = Fuse("span recording")


class Ids(Protocol):
    """The SDK's `IdGenerator`."""

    def generate_span_id(self) -> int:
        """A new span id, 64 bits, not zero."""
        ...

    def generate_trace_id(self) -> int:
        """A new trace id, 128 bits, not zero."""
        ...

    def is_trace_id_random(self) -> bool:
        """Whether the trace id's lower 56 bits are random (W3C trace context level 2)."""
        ...


class RandomIds:
    """Random ids that neither a fork nor `random.seed()` of the program makes repeat.

    The SDK's generator uses the shared generator of `random`: a program that seeds it gives every run
    the same ids, and a server that forks without Python's hooks gives them to every child.
    """

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._bits = random.Random(os.urandom(32)).getrandbits

    def _renewed(self) -> None:
        self._bits = random.Random(os.urandom(32)).getrandbits
        self._pid = os.getpid()

    def generate_span_id(self) -> int:
        """A new span id, 64 bits, not zero."""
        if os.getpid() != self._pid:
            self._renewed()
        return self._bits(64) or self.generate_span_id()

    def generate_trace_id(self) -> int:
        """A new trace id, 128 bits, not zero."""
        if os.getpid() != self._pid:
            self._renewed()
        return self._bits(128) or self.generate_trace_id()

    def is_trace_id_random(self) -> bool:
        """All 128 bits are."""
        return True


class Limits:
    """The SDK's `SpanLimits`, and ours where it has none."""

    __slots__ = ("attributes_max", "event_attributes_max", "events_max", "links_max", "value_chars_max")

    def __init__(self) -> None:
        self.attributes_max = 128  # these four are OpenTelemetry's defaults
        self.event_attributes_max = 128
        self.events_max = 128
        self.links_max = 128
        self.value_chars_max: int | None = None  # None: the line's own limit, VALUE_CHARS_MAX

    @classmethod
    def of(cls, limits: Any) -> Limits:
        """Read an SDK `SpanLimits`, where `None` means no limit."""
        own = cls()
        unlimited = 1 << 30
        own.attributes_max = _or(limits.max_span_attributes, unlimited)
        own.event_attributes_max = _or(limits.max_event_attributes, unlimited)
        own.events_max = _or(limits.max_events, unlimited)
        own.links_max = _or(limits.max_links, unlimited)
        own.value_chars_max = limits.max_span_attribute_length
        return own


def _or(value: int | None, otherwise: int) -> int:
    return otherwise if value is None else value


class Pipeline:
    """One mutable place for all of it, like `tracing.sink.slot`.

    Attributes:
        active: whether spans record at all.
        parent_based: whether a child is sampled as its parent is.
        ratio_bound: a root is sampled when `trace_id & RATIO_MASK` is below; `ALWAYS` and 0 are the ends.
        sampler: a sampler of somebody else's making, asked instead of the two above.
        slow_ns: a span that takes longer is written although it was not sampled.
        processors: other people's, given a `ReadableSpan` of every recorded span.
        foreign: the provider that was there before us, when its spans are the ones that count.
    """

    __slots__ = (
        "active",
        "foreign",
        "ids",
        "limits",
        "parent_based",
        "processors",
        "ratio_bound",
        "resource",
        "sampler",
        "slow_ns",
    )

    def __init__(self) -> None:
        self.active = False
        self.ids: Ids = RandomIds()
        self.limits = Limits()
        self.parent_based = True
        self.ratio_bound = ALWAYS
        self.sampler: Sampler | None = None
        self.slow_ns = 1_000_000_000
        self.processors: tuple[SpanProcessor, ...] = ()
        self.resource: Resource | None = None
        self.foreign: trace.TracerProvider | None = None

    def sample_by(self, name: str, share: float) -> None:
        """Sample as one of OpenTelemetry's samplers by name does, without asking an object each time."""
        self.sampler = None
        self.parent_based = name.startswith("parentbased_")
        root = name.removeprefix("parentbased_")
        bounds = {"always_on": ALWAYS, "always_off": 0, "traceidratio": round(share * ALWAYS)}
        self.ratio_bound = bounds[root]


pipeline: Final = Pipeline()
