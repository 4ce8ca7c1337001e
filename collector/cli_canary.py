"""`backtrail canary`: the way of every sender and every reader, walked again and again."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Mapping

from rich.text import Text

from collector.cli_source import Place, UsageError
from collector.cli_text import Screen, duration
from collector.service.canary import Canary, found_by


def sing(place: Place, *, rounds: int | None, interval_s: float, as_json: bool, screen: Screen) -> int:
    """Write and read back, a line a round.

    Args:
        rounds: how many; `None`: until Ctrl-C.
        interval_s: time between two rounds.
        as_json: a line is an object: the round's number, whether it went well, the counts since the start.
    Returns:
        0 when every round went well, else 1.
    """
    if place.url is None:
        raise UsageError("the canary needs a running collector: --url")
    client = place.client()

    def write(uid: str, line: bytes) -> None:
        client.import_records([(uid, line)])

    bird = Canary(write, found_by(client.trace), interval_s=interval_s)
    failed = 0
    for number in itertools.count(1):
        is_well = bird.sing()
        failed += not is_well
        stats = bird.stats()
        if as_json:
            screen.show([json.dumps({"round": number, "is_well": is_well, **stats})])
        else:
            screen.show([_line(number, stats, is_well=is_well)])
        if number == rounds:
            break
        time.sleep(interval_s)
    return 1 if failed else 0


def _line(number: int, stats: Mapping[str, float], *, is_well: bool) -> Text:
    found = f"found after {duration(round(stats['found_s'] * 1e9))}"
    counts = ", ".join(f"{name} {stats[name]:.0f}" for name in ("found", "lost", "twice", "refused"))
    mark = Text("✓ ", style="green") if is_well else Text("✗ ", style="bold red")
    return Text.assemble(mark, f"round {number}: {found if is_well else 'not well'}  ({counts})")
