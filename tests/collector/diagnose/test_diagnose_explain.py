"""An explanation says what was measured; the page says it to whoever opens the file, whatever it holds."""

from __future__ import annotations

import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from collector.api import views
from collector.api.shapes import JsonObject, plain
from collector.diagnose.baseline import Baseline
from collector.diagnose.engine import SIGNALS, Judgement, judge_trace, judge_window
from collector.diagnose.explain import NOTICED_MAX, Distribution, distribution, explain
from collector.diagnose.report import page
from collector.diagnose.report.chain import ROWS_MAX, chain
from collector.diagnose.report.parts import Services, histogram
from collector.diagnose.spread import BLOCK_NS, BLOCKS_MAX, Spread
from collector.model import MEASURES

MS = 1_000_000
EVIL = "<script>alert(1)</script>\"'&\u202e\x1b[31m"


@pytest.fixture
def baseline(shop: Any) -> Baseline:
    """Sixty healthy orders."""
    learned = Baseline()
    learned.learn(shop.traces(60))
    return learned


@pytest.fixture
def judged(shop: Any, faults: Any, baseline: Baseline) -> Callable[[str], Judgement]:
    """Judges thirty orders of which all have a fault."""
    return lambda name: judge_window(shop.traces(30, getattr(faults, name)()), baseline)


def figures(judgement: Judgement) -> dict[str, tuple[float | None, float | None]]:
    """Of what was found first, by name: here, healthy."""
    first = explain(judgement).noticed[0]
    return {figure.name: (figure.window, figure.baseline) for figure in first.figures}


def test_each_signal_is_accounted_for(judged: Any) -> None:
    """Whether or not it saw something, with its rank among all."""
    explanation = explain(judged("exception"))
    assert [report.signal for report in explanation.signals] == list(SIGNALS)
    by_name = {report.signal: report for report in explanation.signals}
    assert by_name["exceptions"].rank == 1
    assert by_name["exceptions"].found >= 1
    quiet = by_name["repeats"]
    assert (quiet.found, quiet.rank, quiet.decades) == (0, None, None)
    assert quiet.said == SIGNALS["repeats"].nothing_seen


def test_the_page_of_the_documentation_has_every_signal(repository: Path) -> None:
    """Whoever adds one says what it looks for."""
    said = (repository / "docs" / "diagnosis.md").read_text()
    assert [name for name in SIGNALS if f"| `{name}` |" not in said] == []


def test_findings_stand_in_the_order_of_what_they_count(judged: Any) -> None:
    """What another explains counts little, and says by what."""
    noticed = explain(judged("exception")).noticed
    assert [item.rank for item in noticed] == list(range(1, len(noticed) + 1))
    assert [item.counts for item in noticed] == sorted((item.counts for item in noticed), reverse=True)
    assert len(noticed) <= NOTICED_MAX
    victims = [item for item in noticed if item.explained_by is not None]
    assert victims
    assert all(item.counts < item.decades for item in victims)


@pytest.mark.parametrize(
    ("fault", "name"),
    [
        ("slow", "time in itself, half of the runs"),
        ("slow_network", "under way, half of the calls"),
        ("error_line", "error lines of the service"),
        ("exception", "runs that end in an error"),
        ("crash", "runs that never end"),
    ],
)
def test_the_figures_show_the_fault(judged: Any, fault: str, name: str) -> None:
    """Of each sort its own quantity is higher here than in healthy traces."""
    here, healthy = figures(judged(fault))[name]
    assert here is not None
    assert here > 2 * (healthy or 0)


def test_a_missing_step_is_counted(judged: Any) -> None:
    """All healthy runs take it, none of these."""
    found = [pair for name, pair in figures(judged("missing_step")).items() if "with the step" in name]
    assert found == [(0.0, 1.0)]


def test_the_distributions_are_of_the_place_and_of_the_entry(judged: Any) -> None:
    """Here far to the right of healthy."""
    place, *_, entry = explain(judged("slow")).distributions
    assert place.what == "find stock in inventory, time in itself"
    assert place.window_median_ns > 20 * place.baseline_median_ns
    assert entry.what == "POST /orders in gateway, the whole request"
    assert (entry.window_count, entry.baseline_count) == (30, 60)


def test_one_trace_is_explained_too(shop: Any, faults: Any, baseline: Baseline) -> None:
    """The same objects."""
    explanation = explain(judge_trace(shop.trace(faults.slow()), baseline))
    assert explanation.noticed[0].signal == "self_time"
    assert explanation.distributions[0].window_count == 1


def test_nothing_found_is_explained_as_that(shop: Any, baseline: Baseline) -> None:
    """Every signal says what it looked for."""
    explanation = explain(judge_window(shop.traces(30), baseline))
    assert [report.said for report in explanation.signals if not report.found]


def test_what_was_not_looked_at_is_not_called_normal(shop: Any, faults: Any) -> None:
    """Without healthy traces half of the signals have nothing to compare with, and say so."""
    alone = explain(judge_trace(shop.trace(faults.slow()), Baseline()))
    said = {report.signal: report.said for report in alone.signals}
    skipped = {name for name, signal in SIGNALS.items() if signal.needs_baseline}
    assert {name for name, text in said.items() if text == "not looked at: 0 healthy traces"} == skipped
    assert said["death"] == SIGNALS["death"].nothing_seen


def test_ranges_have_no_gaps_and_nothing_is_lost() -> None:
    """Each observation is in one range."""
    seen, known = Spread(), Spread()
    for number in range(40):
        seen.add((number + 1) * 3 * MS, number)
        known.add((number + 1) * MS, number)
    found = distribution("d", seen, known)
    assert sum(bucket.window for bucket in found.buckets) == 40
    assert sum(bucket.baseline for bucket in found.buckets) == 40
    for left, right in zip(found.buckets, found.buckets[1:], strict=False):
        assert left.to_ns == right.from_ns


def test_a_distribution_learned_for_weeks_stays_small() -> None:
    """Old blocks of time are counted as one; their observations are kept."""
    spread = Spread()
    for number in range(3 * BLOCKS_MAX):
        spread.add(MS, number * BLOCK_NS)
    assert len(spread.blocks) == BLOCKS_MAX
    assert spread.count == 3 * BLOCKS_MAX
    assert sum(count for count, _ in spread.blocks.values()) == 3 * BLOCKS_MAX


# ------------------------------------------------------------------ the page


class Read(HTMLParser):
    """The page as a browser would see it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.open: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def answered(judgement: Judgement) -> JsonObject:
    """A verdict with its explanation as the API gives it."""
    return plain(views.verdict_view(judgement.verdict, explain(judgement)))


def poisoned(value: Any) -> Any:
    """The same object, every text of it changed into one that would take the page over."""
    if isinstance(value, str):
        return value + EVIL
    if isinstance(value, list):
        return [poisoned(item) for item in value]
    if isinstance(value, dict):
        return {key: poisoned(item) if key != "unit" else item for key, item in value.items()}
    return value


def test_the_page_is_whole(judged: Any, shop: Any, faults: Any) -> None:
    """Every element is closed, and it has what was promised."""
    trace = plain(views.trace_view(shop.trace(faults.exception())))
    read = Read(page(answered(judged("exception")), trace))
    assert read.open == []
    assert {"svg", "blockquote", "table"} <= set(read.tags)
    assert "KeyError" in read.text
    assert "find stock" in read.text


def test_no_text_of_the_data_becomes_part_of_the_page(judged: Any, shop: Any, faults: Any) -> None:
    """Neither as an element nor as an attribute; signs that turn text around are left out."""
    verdict, trace = answered(judged("exception")), plain(views.trace_view(shop.trace(faults.exception())))
    harmless = Read(page(verdict, trace))
    written = page(poisoned(verdict), poisoned(trace))
    attacked = Read(written)
    assert "script" not in attacked.tags
    assert set(attacked.tags) == set(harmless.tags)
    assert attacked.attributes == harmless.attributes
    assert "alert(1)" in attacked.text
    assert not re.search("[\u202e\x1b]", written)


def test_without_an_explanation_and_a_chain_there_is_still_a_page(judged: Any) -> None:
    """An older collector gives none."""
    verdict = plain(views.verdict_view(judged("slow").verdict))
    read = Read(page(verdict))
    assert "Evidence" in read.text
    assert "svg" not in read.tags


@pytest.mark.parametrize("source", MEASURES)
def test_the_page_says_where_what_is_normal_comes_from(judged: Any, source: str) -> None:
    """The number of traces alone does not say whether they are a good measure."""
    verdict = plain(views.verdict_view(judged("slow").verdict)) | {"measured_by": source}
    assert f"traces taken for healthy, {MEASURES[source]}" in Read(page(verdict)).text


def test_the_page_has_a_dash_for_what_nobody_measured(shop: Any, faults: Any) -> None:
    """No healthy trace has no median; zero would be one."""
    read = Read(page(answered(judge_trace(shop.trace(faults.exception()), Baseline()))))
    assert "healthy –" in read.text
    assert "0 ns (0)" not in read.text


def test_a_long_chain_shows_what_is_cited() -> None:
    """And says how much it leaves out."""
    nodes = [
        {
            "uid": f"uid-{number}",
            "depth": 0 if number == 0 else 1 + number % 3,
            "service": "orders",
            "name": f"step {number}",
            "offset_ns": number,
            "duration_ns": 1,
            "error": False,
            "finished": True,
            "inferred": False,
            "logs": [],
        }
        for number in range(10 * ROWS_MAX)
    ]
    trace = {"nodes": nodes, "duration_ns": 10_000, "gaps": []}
    drawn = chain(trace, Services(), cited={f"uid-{10 * ROWS_MAX - 1}"})
    assert f"step {10 * ROWS_MAX - 1}<" in drawn
    assert drawn.count('class="row') <= ROWS_MAX + 4
    assert "spans are left out" in drawn


def test_an_empty_distribution_draws_nothing() -> None:
    """There is nothing to see."""
    empty = Distribution(
        what="d", window_count=0, baseline_count=0, window_median_ns=0, baseline_median_ns=0, buckets=[]
    )
    assert histogram({"buckets": empty.buckets}) == ""
