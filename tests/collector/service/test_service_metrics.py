"""`/metrics`: every metric is described, and `docs/metrics.md` describes every metric."""

from __future__ import annotations

import urllib.request
from pathlib import Path

from collector.client import CollectorClient
from collector.service import Collector
from collector.service.gauges import DESCRIPTIONS, PREFIX
from collector.settings import Settings

PAGE = Path(__file__).resolve().parents[3] / "docs" / "metrics.md"


def page() -> str:
    """What the page should hold; running this file writes it."""
    rows = [
        f"| `{PREFIX}{name}` | {'counter' if name.endswith('_total') else 'gauge'} | {text} |"
        for name, text in DESCRIPTIONS.items()
    ]
    return "\n".join(
        [
            "# Metrics of the collector",
            "",
            "`GET /metrics` gives these as Prometheus text. Counters are since the start of the process,",
            "those of the ledger since the data directory was made. A metric with labels has samples only",
            "for what has happened.",
            "",
            "| name | kind | meaning |",
            "|---|---|---|",
            *rows,
            "",
        ]
    )


def test_everything_that_is_measured_is_described(tmp_path: Path) -> None:
    """Under its name in the closed list, with its meaning, in Prometheus' format."""
    settings = Settings(data_dir=tmp_path / "data", port=0, canary_interval_s=60)
    line = b'{"timestamp":"2026-11-24T05:32:11Z","level":"INFO","service":"a","message":"m"}'
    with Collector(settings) as running, CollectorClient(running.url) as client:
        client.import_records([("u", line), ("bad", b"{}")])
        assert running.pipeline.drain(30)
        with urllib.request.urlopen(f"{running.url}/metrics") as answer:
            lines = answer.read().decode().splitlines()
    described = {line.split(" ")[2] for line in lines if line.startswith("# HELP") and line.split(" ", 3)[3]}
    sampled = {line.partition("{")[0].partition(" ")[0] for line in lines if not line.startswith("#")}
    assert sampled <= described <= {PREFIX + name for name in DESCRIPTIONS}
    elsewhere = ("cluster_", "syslog_", "files_")
    here = {PREFIX + name for name in DESCRIPTIONS if not name.startswith(elsewhere)}
    assert here - sampled == {
        PREFIX + name
        for name in (
            "http_refused_total",
            "indexing_refused_total",  # these only once something of the sort has happened
            "indexing_failures_total",
            "ledger_mended_total",
            "ledger_lost_total",
        )
    }


def test_the_page_is_up_to_date() -> None:
    """Made from the same list."""
    assert PAGE.read_text() == page()


if __name__ == "__main__":
    PAGE.write_text(page())
