"""`docs/senders.md` names every reason for which something is refused or mended, and no other."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from collector.admit.limits import MENDS, REFUSALS
from collector.api.problems import KINDS

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "senders.md"
# Where requests are refused as a whole.
SOURCES = ("collector/receive", "collector/intake", "collector/wal")


def table(head: str) -> str:
    """The rows of the table whose head begins so."""
    _, found, rest = PAGE.read_text().partition(f"\n| {head} ")
    assert found
    return f"| {rest}".partition("\n\n")[0]


def reasons(rows: str, *, column: int = 0) -> set[str]:
    """What stands between backticks in a column."""
    cells = [row.split("|")[1:] for row in rows.splitlines()]
    return {word for row in cells if len(row) > column for word in re.findall(r"`([a-z_0-9]+)`", row[column])}


def test_every_reason_of_a_record_is_explained() -> None:
    """Those it is refused for, and those for which it is mended."""
    assert reasons(table("reason | the record")) == set(REFUSALS)
    assert reasons(table("reason | what is done")) == set(MENDS)


def test_every_reason_of_a_request_is_explained() -> None:
    """With its status; the sources are searched for them."""
    raised = {
        reason
        for folder in SOURCES
        for file in (ROOT / folder).rglob("*.py")
        for reason in re.findall(r'Refused\(\s*"([a-z_]+)"', file.read_text())
    }
    rows = table("status | reasons")
    assert reasons(rows, column=1) == raised
    statuses = {int(number) for number in re.findall(r"\b[45]\d\d\b", rows)}
    assert statuses <= {status for status, _ in KINDS.values()}


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    """A renamed page leaves none behind."""
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / target).exists(), target
