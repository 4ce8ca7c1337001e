"""What is tried on a hop, and what is said of it: the log line's ids, the span's parent, baggage.

Whatever a hop carries does the same: writes a log line and a span. The verdict is taken from what was
written, from whichever process, and from nothing else.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any

from opentelemetry import trace
from opentelemetry.baggage import get_baggage

from tracing.doctor.hop import CONTEXTS, Failure, Hop, Wait, Work, request

_log = logging.getLogger("tracing.doctor")


def visit(tag: str) -> None:
    """Write a log line that says the baggage, and a span."""
    _log.info("visit %s tenant=%s", tag, get_baggage("tenant"))
    with trace.get_tracer("tracing.doctor").start_as_current_span(f"child {tag}"):
        pass


def fail(tag: str) -> None:
    """Write the same, and fail."""
    visit(tag)
    raise Failure(tag)


async def scenario(hop: Hop, visit: Work, fail: Work, contexts_max: int = CONTEXTS) -> None:
    """Send over a hop everything that one row tells.

    Args:
        visit: what the hop carries: `visit` of this module, or what ends up there.
        fail: the same, and then it raises a `Failure`.
        contexts_max: at most so many requests at once.
    """

    def ask(work: Work, case: str, send: Callable[[Work, str], Wait]) -> Wait:
        with request(f"{hop.slug}/{case}"):
            return send(work, f"{hop.slug}/{case}")

    async with hop.open() as way:
        await ask(visit, "plain", way.go)()
        await way.go(visit, f"{hop.slug}/nobody")()
        await ask(fail, "fails", way.go)()
        await way.go(visit, f"{hop.slug}/exception-nobody")()
        await ask(visit, "exception", way.go)()
        cancel = way.cancel
        if cancel is not None:
            await ask(visit, "cancelled", lambda _, tag: cancel(tag))()
            await way.go(visit, f"{hop.slug}/cancellation-nobody")()
            await ask(visit, "cancellation", way.go)()
        waits = [
            ask(visit, f"concurrent-{number}", way.go) for number in range(min(hop.contexts, contexts_max))
        ]
        for wait in waits:
            await wait()


class Lines:
    """What ended up in the file, by the tags of the work."""

    def __init__(self, lines: Iterable[dict[str, Any]]) -> None:
        self.logs: dict[str, dict[str, Any]] = {}
        self.spans: dict[str, dict[str, Any]] = {}  # by span id
        self.by_name: dict[str, dict[str, Any]] = {}
        for line in lines:
            if line.get("kind") == "span":
                self.spans[line["span_id"]] = self.by_name[line["name"]] = line
            elif "kind" not in line and line.get("message", "").startswith("visit "):
                tag = line["message"].removeprefix("visit ").rpartition(" tenant=")[0]
                self.logs[tag] = line

    def is_below(self, span_id: str | None, ancestor: str) -> bool:
        """Whether a span is another one or was begun, maybe by way of others, inside it."""
        seen = set()
        while span_id is not None and span_id not in seen:
            if span_id == ancestor:
                return True
            seen.add(span_id)
            span_id = self.spans.get(span_id, {}).get("parent_span_id")
        return False

    def belongs(self, tag: str) -> dict[str, bool]:
        """What of one request was kept: the first three columns."""
        asked = self.by_name[f"request {tag}"]
        line, child = self.logs.get(tag, {}), self.by_name.get(f"child {tag}", {})
        return {
            "log ids": line.get("trace_id") == asked["trace_id"]
            and self.is_below(line.get("span_id"), asked["span_id"]),
            "parent": child.get("trace_id") == asked["trace_id"]
            and self.is_below(child.get("parent_span_id"), asked["span_id"]),
            "baggage": line.get("message", "").endswith(f" tenant={tag}"),
        }

    def is_nobody_s(self, tag: str) -> bool:
        """Whether work that no request ordered is in none of the requests' traces, and has no baggage."""
        line, child = self.logs.get(tag), self.by_name.get(f"child {tag}")
        if line is None or child is None:
            return False
        asked = {span["trace_id"] for name, span in self.by_name.items() if name.startswith("request ")}
        strangers = {line.get("trace_id"), child["trace_id"]}
        return not strangers & asked and line["message"].endswith(" tenant=None")


def verdict(hop: Hop, lines: Lines, contexts_max: int = CONTEXTS) -> dict[str, str]:
    """The cells of one row: `kept`, `lost`, `–` for what a hop does not have; how many of many at once."""

    def cell(*kept: bool) -> str:
        return "kept" if all(kept) else "lost"

    def case(name: str) -> str:
        whole = all(lines.belongs(f"{hop.slug}/{name}").values())
        return cell(whole, lines.is_nobody_s(f"{hop.slug}/{name}-nobody"))

    row = {column: cell(kept) for column, kept in lines.belongs(f"{hop.slug}/plain").items()}
    row["log ids"] = cell(row["log ids"] == "kept", lines.is_nobody_s(f"{hop.slug}/nobody"))
    row["exception"] = case("exception")
    row["cancellation"] = case("cancellation") if f"request {hop.slug}/cancellation" in lines.by_name else "–"
    tags = [f"{hop.slug}/concurrent-{number}" for number in range(min(hop.contexts, contexts_max))]
    kept = sum(all(lines.belongs(tag).values()) for tag in tags)
    row["concurrent"] = f"{kept} of {len(tags)}"
    return row
