"""Writes lost contexts for people. Pure."""

from __future__ import annotations

from typing import Any, Final

from rich.text import Text

from collector.cli_text import clean, wrapped
from collector.cli_verdict import confidence_words

JsonObject = dict[str, Any]

_INDENT: Final = 4


def loss_lines(answer: JsonObject, *, width: int | None = None) -> list[Text]:
    """A loss a paragraph: how often and where, why that is thought, what to change, where to look."""
    if not answer["losses"]:
        looked = f"{answer['traces']} traces, {answer['loose_lines']} lines outside any"
        return wrapped(f"No lost context found in {looked}.", width=width, indent=0)
    lines: list[Text] = []
    for loss in answer["losses"]:
        mark = Text("✗ ", style="bold red")
        lines += wrapped(clean(loss["summary"]), width=width, indent=2, first=mark)
        how = clean(loss["parent"]["how"])
        said = [confidence_words(loss["confidence"]), f"lost on the way: {_HOPS[loss['hop']]}", how]
        lines += wrapped("  ·  ".join(said), width=width, indent=_INDENT, style="dim")
        lines += wrapped(f"→ {clean(loss['advice'])}", width=width, indent=_INDENT)
        lines += [Text(f"{'':<{_INDENT}}{text}", style="dim") for text in _go_on(loss)]
    return lines


_HOPS: Final = {
    "http": "an HTTP request",
    "rpc": "a remote call",
    "message": "a message",
    "process": "inside the process",
}


def _go_on(loss: JsonObject) -> list[str]:
    example, parent = loss["examples"][0], loss["parent"]
    found = []
    if example["trace_id"] is not None:
        found.append(f"backtrail trace {example['trace_id']}")
    else:
        found.append(f"“{clean(example['quote'])}” at {example['timestamp'][:19]}Z")
    if parent["trace_id"] is not None:
        found.append(f"backtrail trace {parent['trace_id']}   (what it probably belongs to)")
    return found
