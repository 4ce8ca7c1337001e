"""The words of one span or one log in a drawn chain. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from rich.text import Text

from collector.cli_text import Palette, clean, duration, level_style
from tracing.semconv import (
    EXCEPTION_EVENT,
    EXCEPTION_MESSAGE,
    EXCEPTION_STACKTRACE,
    EXCEPTION_TYPE,
    HTTP_RESPONSE_STATUS_CODE,
    RPC_GRPC_STATUS_CODE,
)

JsonObject = dict[str, Any]

STACK_FRAME_LINES_MAX: Final = 60
PATH_PARTS_MAX: Final = 3  # of a source file; the whole path with `full`
# gRPC's status codes by number; source: gRPC core, "Status codes and their use in gRPC".
GRPC_CODES: Final = (
    "OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
    "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE",
    "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
)  # fmt: skip
WORDS_CHARS_MAX: Final = 120  # of a status or an exception's message; the whole of it with `full`


def span_text(node: JsonObject, palette: Palette, *, with_service: bool, full: bool) -> Text:
    """A span: where it ran, what it did, how it ended.

    Args:
        with_service: say the service, which the spans above have not said already.
        full: with its id.
    """
    text = Text()
    if with_service:
        text.append(f"{clean(node['service'])} ", style=palette.style(node["service"]))
    text.append(clean(node["name"]))
    kind = (node["span_kind"] or "").lower()
    if kind in ("client", "producer", "consumer"):
        text.append(f"  {kind}", style="dim")
    if node["error"]:
        text.append(f"  ✗ {_outcome(node)}".rstrip(), style="bold red")
    if node["inferred"]:
        text.append("  (its own record never arrived)", style="yellow")
    elif not node["finished"]:
        ended = node.get("process_ended")
        text.append(f"  … never ended{f', its process was {ended}' if ended else ''}", style="bold yellow")
    if node["skew_ns"]:
        text.append(f"  clock off by ≈ {duration(-node['skew_ns'])}", style="dim")
    if full:
        text.append(f"  {node['span_id']}", style="dim")
    return text


def _outcome(node: JsonObject) -> str:
    """What a person would call the failure: the code, or the status's own words if no exception has them."""
    http, grpc = (node["attributes"].get(key) for key in (HTTP_RESPONSE_STATUS_CODE, RPC_GRPC_STATUS_CODE))
    if http is not None:
        return str(http)
    said = "" if exception_of(node) else _first_line(node["status"].get("message"))
    if isinstance(grpc, int) and 0 <= grpc < len(GRPC_CODES):
        return f"{GRPC_CODES[grpc]} {said}".rstrip()
    return said


def log_text(log: JsonObject) -> Text:
    """A log record: its level and its message."""
    return Text.assemble((f"{log['level']} ", level_style(log["level"])), clean(log.get("message") or ""))


def span_notes(node: JsonObject, *, full: bool) -> Iterator[Text]:
    """Lines under a span: its exception, and with `full` its attributes, events and links."""
    yield from exception_lines(exception_of(node), full=full)
    if not full:
        return
    for key, value in sorted(node["attributes"].items()):
        yield Text(f"{clean(key)} = {clean(str(value))}", style="dim")
    for event in node["events"]:
        if event["name"] != EXCEPTION_EVENT:
            yield Text(f"event {clean(event['name'])} {clean(str(event.get('attributes') or ''))}".rstrip())
    for link in node["links"]:
        yield Text(f"follows from {link['trace_id']} {link['span_id']}")


def exception_of(node: JsonObject) -> JsonObject | None:
    """The exception that a span recorded, as a record line has it, from its own key or its events."""
    if node["exception"]:
        own: JsonObject = node["exception"]
        return own
    for event in node["events"]:
        if event["name"] == EXCEPTION_EVENT:
            attributes = event.get("attributes") or {}
            return {
                "type": attributes.get(EXCEPTION_TYPE),
                "message": attributes.get(EXCEPTION_MESSAGE),
                "stacktrace": attributes.get(EXCEPTION_STACKTRACE),
            }
    return None


def exception_lines(exception: JsonObject | None, *, full: bool) -> Iterator[Text]:
    """An exception: what was raised and where, or with `full` its whole stack trace."""
    if not exception:
        return
    stack = [line for line in str(exception.get("stacktrace") or "").splitlines() if line.strip()]
    if full and stack:
        for line in stack[-STACK_FRAME_LINES_MAX:]:
            yield Text(clean(line), style="red")
        return
    title = ": ".join(filter(None, (_first_line(exception.get(key)) for key in ("type", "message"))))
    yield Text(title or "exception", style="red")
    if place := _last_frame(stack):
        yield Text(f"at {place}", style="red dim")


def _last_frame(stack: Sequence[str]) -> str | None:
    """`file:line in function` of the innermost frame of Python's stack trace."""
    for line in reversed(stack):
        words = line.strip()
        if words.startswith('File "'):
            path, _, rest = words.removeprefix('File "').partition('", line ')
            number, _, function = rest.partition(", in ")
            short = "/".join(path.split("/")[-PATH_PARTS_MAX:])
            return clean(f"{short}:{number} in {function}")
    return None


def _first_line(text: object) -> str:
    """The beginning of somebody else's text: what fits beside a span, with a mark when there is more."""
    lines = str(text or "").strip().splitlines() or [""]
    line = clean(lines[0])
    is_cut = len(lines) > 1 or len(line) > WORDS_CHARS_MAX
    return f"{line[:WORDS_CHARS_MAX].rstrip()} …" if is_cut else line
