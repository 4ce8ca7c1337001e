"""What all tracers share: who samples, who gives ids, which limits hold, who else wants spans.

`runtime` fills it from `Settings`; before that, and after `uninstall()`, it is inactive and no span records.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

from opentelemetry import trace
from opentelemetry.context.context import Context
from opentelemetry.trace import Link, SpanKind
from opentelemetry.trace.span import TraceState
from opentelemetry.util import types

from tracing import forks
from tracing.health import Fuse

if TYPE_CHECKING:  # the SDK is imported by `configure()`, so that importing the library stays cheap
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import SpanProcessor
    from opentelemetry.sdk.trace.sampling import Sampler

SAMPLED: Final = 0x01  # W3C trace flags
RANDOM: Final = 0x02  # level 2: the lower 56 bits of the trace id are random
RATIO_MASK: Final = (1 << 64) - 1  # the part of a trace id that ratio samplers look at, as the SDK's does
ALWAYS: Final = RATIO_MASK + 1
_NO_SPAN_ID: Final = "0" * 16

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

    BATCH: Final = 64  # ids drawn at a time: alone, each would cost half a microsecond

    def __init__(self) -> None:
        self._mine: forks.Mark = forks.NOBODYS
        self._span_ids: list[str] = []

    def span_id(self) -> str:
        """A new span id, 16 hex, not zero."""
        if not self._mine[0]:
            self._span_ids, self._mine = [], forks.mark()
        try:
            return self._span_ids.pop()
        except IndexError:
            text = os.urandom(8 * self.BATCH).hex()
            drawn = [text[start : start + 16] for start in range(0, len(text), 16)]
            own = drawn.pop()
            self._span_ids.extend(drawn if _NO_SPAN_ID not in drawn else ())
            return own if own != _NO_SPAN_ID else self.span_id()

    def generate_span_id(self) -> int:
        """A new span id, 64 bits, not zero."""
        return int(self.span_id(), 16)

    def generate_trace_id(self) -> int:
        """A new trace id, 128 bits, not zero."""
        return int.from_bytes(os.urandom(16)) or self.generate_trace_id()

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
        decides: whether somebody must be asked whether a span is sampled; else a child is as its parent
            is, and a root is.
        root_flags: W3C flags of a new trace, apart from the sampled bit.
        slow_ns: a span that takes longer is written although it was not sampled.
        processors: other people's, given a `ReadableSpan` of every recorded span.
        foreign: the provider that was there before us, when its spans are the ones that count.
    """

    def __init__(self) -> None:
        self.active = False
        self.limits = Limits()
        self.slow_ns = 1_000_000_000
        self.processors: tuple[SpanProcessor, ...] = ()
        self._resource: Resource | None = None
        self._resource_attributes: Mapping[str, Any] | None = None
        self.foreign: trace.TracerProvider | None = None
        self.sample_by("parentbased_always_on", 1.0)
        self.draw_ids_from(RandomIds())

    def describe(self, attributes: Mapping[str, Any]) -> None:
        """Say what process this is, in OpenTelemetry's names."""
        self._resource, self._resource_attributes = None, attributes

    @property
    def resource(self) -> Resource | None:
        """The process as the SDK's spans have it, made for who asks; `None` before `describe`."""
        if self._resource is None and self._resource_attributes is not None:
            from opentelemetry.sdk.resources import Resource

            self._resource = Resource(dict(self._resource_attributes))
        return self._resource

    def draw_ids_from(self, ids: Ids) -> None:
        """Use an SDK `IdGenerator`, or ours."""
        self._ids = ids
        own = ids.span_id if isinstance(ids, RandomIds) else None
        self.new_span_id: Callable[[], str] = own or (lambda: f"{ids.generate_span_id():016x}")
        self.root_flags = RANDOM if ids.is_trace_id_random() else 0

    def new_trace_id(self) -> str:
        """32 hex."""
        return f"{self._ids.generate_trace_id():032x}"

    def sample_by(self, sampler: str | Sampler, share: float = 1.0) -> None:
        """Choose who decides which spans are dropped.

        Args:
            sampler: one of OpenTelemetry's by name, which is done here without an object a span; or any.
            share: of traces, for the ratio samplers.
        """
        self._sampler = None if isinstance(sampler, str) else sampler
        name = sampler if isinstance(sampler, str) else "always_on"
        self._parent_based = name.startswith("parentbased_")
        bounds = {"always_on": ALWAYS, "always_off": 0, "traceidratio": round(share * ALWAYS)}
        self._ratio_bound = bounds[name.removeprefix("parentbased_")]
        self.decides = self._sampler is not None or not self._parent_based or self._ratio_bound != ALWAYS

    def decide(
        self,
        trace_id: str,
        parent_id: str | None,
        flags: int,
        state: TraceState | None,
        around: Context,
        name: str,
        kind: SpanKind,
        attributes: types.Attributes,
        links: Sequence[Link] | None,
    ) -> tuple[int, types.Attributes, TraceState | None]:
        """Sample one span.

        Returns:
            Its flags, attributes and state. A span that is dropped still records, since it may end in error.
        """
        if self._sampler is not None:
            asked = self._sampler.should_sample(around, int(trace_id, 16), name, kind, attributes, links)
            sampled = asked.decision.is_sampled()  # type: ignore[no-untyped-call]
            if asked.decision.is_recording():  # type: ignore[no-untyped-call]
                attributes = asked.attributes
            state = asked.trace_state or state
        elif self._parent_based and parent_id is not None:
            sampled = bool(flags & SAMPLED)
        else:
            sampled = (int(trace_id, 16) & RATIO_MASK) < self._ratio_bound
        return (flags | SAMPLED if sampled else flags & ~SAMPLED), attributes, state


pipeline: Final = Pipeline()
