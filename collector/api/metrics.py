"""What the service counts, as Prometheus text. Names and meanings are a closed list.

Source: Prometheus text exposition format 0.0.4.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


class RequestCounts:
    """Requests by operation and status, what was refused, and the time they took. On the event loop only."""

    def __init__(self) -> None:
        self.problems: Counter[str] = Counter()  # by kind, a key of `collector.api.problems.KINDS`
        self.requests: Counter[tuple[str, int]] = Counter()
        self.seconds: defaultdict[str, float] = defaultdict(float)

    def add(self, operation: str, status: int, seconds: float) -> None:
        """Count one request."""
        self.requests[operation, status] += 1
        self.seconds[operation] += seconds


class Sample(NamedTuple):
    """One value of a metric."""

    value: float
    labels: Mapping[str, str]


class Metric(NamedTuple):
    """One metric with its samples."""

    name: str
    kind: str  # counter or gauge
    help: str
    samples: Iterable[Sample]


def render(metrics: Iterable[Metric]) -> bytes:
    """The text that Prometheus reads."""
    lines: list[str] = []
    for metric in metrics:
        lines.append(f"# HELP {metric.name} {metric.help}")
        lines.append(f"# TYPE {metric.name} {metric.kind}")
        for value, labels in metric.samples:
            written = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
            number = int(value) if float(value).is_integer() else value
            lines.append(f"{metric.name}{{{written}}} {number}" if written else f"{metric.name} {number}")
    return ("\n".join(lines) + "\n").encode()


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
