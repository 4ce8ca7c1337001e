"""The call chain on the page: a row a span, its bar in the time of the trace, and the lines that matter."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from collector.diagnose.findings import length
from collector.diagnose.report.parts import JsonObject, Services, text

ROWS_MAX: Final = 250  # a longer chain is shown where it matters; the page says what it leaves out
LINES_MAX: Final = 5  # of one span: those that are cited, and errors
INDENT_MAX: Final = 24
_ERRORS: Final = ("ERROR", "FATAL")


def chain(trace: JsonObject, services: Services, *, cited: Collection[str]) -> str:
    """The rows of a chain as the API gives it.

    Args:
        trace: `collector.api.shapes.TraceObject`.
        cited: uids of records that are evidence; their rows are never left out, and marked.
    """
    nodes = trace["nodes"]
    shown = _shown(nodes, cited)
    whole_ns = max(1, trace["duration_ns"])
    rows = [_row(nodes[at], services, whole_ns, cited) for at in shown]
    left_out = len(nodes) - len(shown)
    note = f'<p class="dim">{left_out} of {len(nodes)} spans are left out.</p>' if left_out else ""
    gaps = "".join(f'<p class="gap">⚠ {text(gap["message"])}</p>' for gap in trace["gaps"][:5])
    return f'<div class="chain">{"".join(rows)}</div>{note}{gaps}'


def _shown(nodes: list[JsonObject], cited: Collection[str]) -> list[int]:
    """Which rows: all, or those that are cited or failed with all above them, filled up from the top."""
    if len(nodes) <= ROWS_MAX:
        return list(range(len(nodes)))
    above: list[int] = []
    wanted: set[int] = set()
    for at, node in enumerate(nodes):
        del above[node["depth"] :]
        above.append(at)
        if len(wanted) < ROWS_MAX and (_is_cited(node, cited) or node["error"]):
            wanted.update(above)
    for at in range(len(nodes)):
        if len(wanted) >= ROWS_MAX:
            break
        wanted.add(at)
    return sorted(wanted)


def _is_cited(node: JsonObject, cited: Collection[str]) -> bool:
    return node["uid"] in cited or any(log["uid"] in cited for log in node["logs"])


def _row(node: JsonObject, services: Services, whole_ns: int, cited: Collection[str]) -> str:
    marks = [
        name
        for name, holds in (
            ("cited", node["uid"] in cited),
            ("error", node["error"]),
            ("open", not node["finished"]),
            ("inferred", node["inferred"]),
        )
        if holds
    ]
    left = min(100.0, max(0.0, 100 * node["offset_ns"] / whole_ns))
    wide = min(100.0 - left, max(0.4, 100 * node["duration_ns"] / whole_ns))
    state = " – never ended" if not node["finished"] else " – never arrived" if node["inferred"] else ""
    indent = min(node["depth"], INDENT_MAX)
    bar = f'style="left:{left:.2f}%;width:{wide:.2f}%"'
    return (
        f'<div class="row {" ".join(marks)}"><div class="name" style="padding-left:{indent * 0.8:.1f}em">'
        f"{services.chip(node['service'])} {text(node['name'])}{state}</div>"
        f'<div class="track"><span class="bar s{services.number(node["service"])}" {bar}></span></div>'
        f'<div class="took">{text(length(node["duration_ns"]))}</div></div>'
        f"{_lines(node, cited, indent)}"
    )


def _lines(node: JsonObject, cited: Collection[str], indent: int) -> str:
    telling = [log for log in node["logs"] if log["uid"] in cited or log["level"].startswith(_ERRORS)]
    telling.sort(key=lambda log: (log["uid"] not in cited, log["offset_ns"]))
    drawn = []
    for log in telling[:LINES_MAX]:
        mark = "line cited" if log["uid"] in cited else "line"
        said = (log.get("message") or "").partition("\n")[0]
        drawn.append(
            f'<div class="{mark}" style="padding-left:{(indent + 2) * 0.8:.1f}em">'
            f'<b class="{text(log["level"].lower())}">{text(log["level"])}</b> {text(said[:300])}</div>'
        )
    return "".join(drawn)
