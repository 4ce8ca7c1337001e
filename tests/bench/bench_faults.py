"""Every fault that the demo shop knows, in a running shop: is it named, and is a healthy order left alone?

    python -m tests.bench.bench_faults [--seed N] [--healthy N] [FAULT…]

The goal (issue "Root causes that hold up on recorded faults"): first place >= 85 %, first three >= 95 %.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from collector.demo.episode import play, wait_for_chains, warm_up
from collector.demo.faults import FAULTS
from collector.demo.shop import SERVICES, Shop, ShopFailed, start_shop
from collector.demo.traffic import orders, place

HEALTHY_NUMBER = 8_001


def main() -> int:
    """Print the table; exit status 0 when the goal is met."""
    options = _options()
    ranks: dict[str, int | None] = {}
    with tempfile.TemporaryDirectory() as directory, start_shop(Path(directory)) as shop:
        warm_up(shop, seed=options.seed)
        alarms = healthy_alarms(shop, options.healthy, seed=options.seed + 1)
        print(f"{'fault':<22}{'rank':>5}{'s':>7}  the verdict's first cause")
        for number, name in enumerate(options.fault or FAULTS):
            started = time.monotonic()
            try:
                episode = play(shop, FAULTS[name], number=number, seed=options.seed)
            except ShopFailed as error:
                print(f"{name:<22}{'':>5}{time.monotonic() - started:>7.1f}  {error}")
                ranks[name] = None
                continue
            ranks[name] = rank = FAULTS[name].rank_in(episode.verdict)
            causes = episode.verdict["causes"]
            said = causes[0]["summary"] if causes else "no cause"
            print(f"{name:<22}{rank or '–':>5}{time.monotonic() - started:>7.1f}  {said[:120]}", flush=True)
    first = sum(rank == 1 for rank in ranks.values()) / len(ranks)
    three = sum(rank is not None and rank <= 3 for rank in ranks.values()) / len(ranks)
    print(f"\nfirst place {first:.1%}, first three {three:.1%}, {len(ranks)} faults")
    print(f"healthy orders with a cause: {len(alarms)} of {options.healthy}")
    for alarm in alarms:
        print(f"    {alarm}")
    return 0 if first >= 0.85 and three >= 0.95 else 1


def healthy_alarms(shop: Shop, count: int, *, seed: int) -> list[str]:
    """What the engine names first as the cause of healthy orders, where it names any."""
    answers = place(shop.gateway_url, orders(count, seed=seed, first=HEALTHY_NUMBER))
    wait_for_chains(shop.client, [answer.trace_id for answer in answers], reached=SERVICES)
    verdicts = (shop.client.root_cause(answer.trace_id) for answer in answers)
    firsts = (verdict["causes"][0] for verdict in verdicts if verdict["causes"])
    return [f"{cause['confidence']:.0%} {cause['summary']}" for cause in firsts]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--healthy", type=int, default=40)
    parser.add_argument("fault", nargs="*", choices=[*FAULTS, []], help="default: all of them")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
