"""The page: the cause in large letters, then the proof, the chain, the two distributions, the signals."""

from __future__ import annotations

from typing import Final

from collector.diagnose.report.chain import chain
from collector.diagnose.report.parts import JsonObject, Services, histogram, quantity, text
from collector.diagnose.report.style import STYLE
from collector.model import MEASURES

FINDINGS_SHOWN_MAX: Final = 5
# Even if something of the data got past the escaping, a browser would run and load nothing.
POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'"
OTHERS_SHOWN_MAX: Final = 5


def page(verdict: JsonObject, trace: JsonObject | None = None) -> str:
    """Write a verdict as a self-contained HTML document.

    Args:
        verdict: `collector.api.shapes.VerdictObject`, best with its explanation.
        trace: `collector.api.shapes.TraceObject` of a trace that shows the fault, if there is one.
    """
    services = Services()
    explanation = verdict.get("explanation") or {"signals": [], "noticed": [], "distributions": []}
    cited = {item["uid"] for cause in verdict["causes"] for item in cause["evidence"]}
    title = verdict["causes"][0]["summary"] if verdict["causes"] else "No cause named"
    parts = [
        _head(verdict, services),
        _evidence(verdict, services),
        _section("Here and in healthy traces", _distributions(explanation)),
        _section(f"The chain of trace {trace['trace_id']}", chain(trace, services, cited=cited))
        if trace is not None
        else "",
        _section("What each signal saw", _signals(explanation)),
        _section("In figures", _figures(explanation, services)),
        _section("Or else", _others(verdict, services)),
        _section("Looked at and found normal", _list(verdict["normal"])),
        _section("To be borne in mind", _list(verdict["notes"])),
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        f"<title>{text(title)}</title><style>{STYLE}</style></head><body><main>"
        f"{''.join(parts)}</main></body></html>\n"
    )


def _head(verdict: JsonObject, services: Services) -> str:
    when = _when(verdict)
    if not verdict["causes"]:
        said = "Not enough data to name a cause" if verdict["insufficient"] else "Nothing abnormal found"
        why = f"<p>{text(verdict['insufficient'])}</p>" if verdict["insufficient"] else ""
        return f'<header><h1 class="calm">{said}</h1>{why}<p class="dim">{when}</p></header>'
    cause = verdict["causes"][0]
    place = "".join(
        f"<dt>{label}</dt><dd>{text(cause[key])}</dd>"
        for label, key in (
            ("operation", "operation"),
            ("place", "location"),
            ("instance", "instance"),
            ("log line", "template"),
            ("refuted by", "refuted_by"),
        )
        if cause[key]
    )
    share = round(100 * cause["confidence"])
    return (
        f"<header><p>{services.chip(cause['service'])} <span class='fault'>{text(cause['fault'])}</span></p>"
        f"<h1>{text(cause['summary'])}</h1>"
        f'<div class="confidence"><span class="meter"><i style="width:{share}%"></i></span>'
        f"{share} % sure · seen by {text(', '.join(cause['signals']))}</div>"
        f'<dl>{place}</dl><p class="dim">{when}</p></header>'
    )


def _when(verdict: JsonObject) -> str:
    asked = []
    if verdict["trace_id"]:
        asked.append(f"trace {text(verdict['trace_id'])}")
    if verdict["start"]:
        asked.append(f"{text(verdict['start'][:19])} to {text(verdict['end'][:19])} UTC")
    source = MEASURES.get(verdict.get("measured_by"))
    asked.append(
        f"measured by {verdict['traces_compared']} traces taken for healthy"
        + (f", {source}" if source else "")
    )
    return " · ".join(asked)


def _evidence(verdict: JsonObject, services: Services) -> str:
    if not verdict["causes"]:
        return ""
    rows = [
        f"<li><div><time>{text(item['timestamp'][11:23])}</time> {services.chip(item['service'])}</div>"
        f"<blockquote>{text(item['quote'])}</blockquote><p>{text(item['why'])}</p>"
        f'<p class="uid">record {text(item["uid"])}</p></li>'
        for item in verdict["causes"][0]["evidence"]
    ]
    return _section("Evidence", f'<ol class="evidence">{"".join(rows)}</ol>')


def _distributions(explanation: JsonObject) -> str:
    drawn = [
        f"<figure>{histogram(item)}<figcaption>{text(item['what'])}: "
        f'<b class="window">here</b> half take at most {quantity(item["window_median_ns"], "ns")} '
        f"({item['window_count']}), <b class='baseline'>healthy</b> {_healthy(item)}</figcaption></figure>"
        for item in explanation["distributions"]
        if item["buckets"]
    ]
    return "".join(drawn)


def _healthy(distribution: JsonObject) -> str:
    """The healthy median, and of how many; a dash where there are none."""
    count = distribution["baseline_count"]
    return f"{quantity(distribution['baseline_median_ns'], 'ns')} ({count})" if count else "–"


def _signals(explanation: JsonObject) -> str:
    if not explanation["signals"]:
        return ""
    rows = "".join(
        f'<tr class="{"seen" if item["found"] else "quiet"}"><td>{text(item["signal"])}</td>'
        f"<td>{item['rank'] or '–'}</td><td>{quantity(item['decades'], 'each')}</td>"
        f"<td>{text(item['said'])}</td></tr>"
        for item in sorted(explanation["signals"], key=lambda item: item["rank"] or 1_000)
    )
    head = "<tr><th>signal</th><th>rank</th><th>decades</th><th>what it says</th></tr>"
    return (
        f"<table class='signals'>{head}{rows}</table>"
        "<p class='dim'>Decades are surprise: 3 means that one healthy stretch of time in a thousand looks "
        "like this.</p>"
    )


def _figures(explanation: JsonObject, services: Services) -> str:
    drawn = []
    for item in explanation["noticed"][:FINDINGS_SHOWN_MAX]:
        rows = "".join(
            f"<tr><td>{text(figure['name'])}</td><td>{quantity(figure['window'], figure['unit'])}</td>"
            f"<td>{quantity(figure['baseline'], figure['unit'])}</td></tr>"
            for figure in item["figures"]
        )
        spread = (
            f"<p class='dim'>spread from: {text(item['explained_by'])}</p>" if item["explained_by"] else ""
        )
        drawn.append(
            f"<h3>{item['rank']}. {services.chip(item['service'])} {text(item['summary'])}</h3>{spread}"
            f"<table class='figures'><tr><th></th><th>here</th><th>healthy</th></tr>{rows}</table>"
        )
    return "".join(drawn)


def _others(verdict: JsonObject, services: Services) -> str:
    rows = [
        f"<li>{services.chip(cause['service'])} {text(cause['summary'])} "
        f"<span class='dim'>({round(100 * cause['confidence'])} %)</span></li>"
        for cause in verdict["causes"][1 : 1 + OTHERS_SHOWN_MAX]
    ]
    return f"<ul>{''.join(rows)}</ul>" if rows else ""


def _list(items: list[str]) -> str:
    return f"<ul>{''.join(f'<li>{text(item)}</li>' for item in items)}</ul>" if items else ""


def _section(title: str, body: str) -> str:
    return f"<section><h2>{text(title)}</h2>{body}</section>" if body else ""
