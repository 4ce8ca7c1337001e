"""`backtrail demo`: a shop, a fault, the chain across all processes, and the verdict."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import orjson
from rich.text import Text

from collector.cli_chain import chain_lines
from collector.cli_text import Screen, duration
from collector.cli_verdict import verdict_lines
from collector.demo.episode import HEALTHY_ORDERS, Episode, play, warm_up
from collector.demo.faults import FAULTS
from collector.demo.shop import Shop, ShopFailed, start_shop

NAMED: Final = 0
NOT_NAMED: Final = 1
SHOP_FAILED: Final = 3


def run_demo(fault: str, *, keep: bool = False, as_json: bool = False, seed: int = 1) -> int:
    """Play one fault and show what the collector makes of it.

    Args:
        fault: a name of `FAULTS`.
        keep: stay up afterwards, until Ctrl-C.
        as_json: one object on standard output; what happens meanwhile goes to standard error.
        seed: of the orders.
    Returns:
        0: the verdict names the injected service and place; 1: it does not; 3: the shop did not run.
    """
    stage = Screen(sys.stderr if as_json else sys.stdout)
    started = time.monotonic()
    try:
        with _demo_directory() as directory, start_shop(directory) as shop:
            stage.show([f"Started a collector and four services in {_since(started)}."])
            warm_up(shop, seed=seed)
            stage.show([f"{HEALTHY_ORDERS} healthy orders went through. Now: {FAULTS[fault].story}."])
            episode = play(shop, FAULTS[fault], seed=seed)
            if as_json:
                sys.stdout.buffer.write(
                    orjson.dumps(_as_json(episode, shop), option=orjson.OPT_INDENT_2) + b"\n"
                )
                sys.stdout.flush()
            else:
                _show(stage, episode)
            stage.show(_how_to_look_further(episode, shop, keep=keep))
            stage.show([_conclusion(episode, _since(started))])
            if keep:
                _wait_for_ctrl_c(stage, shop)
    except ShopFailed as error:
        Screen(sys.stderr).show([Text(f"The demo could not run: {error}", style="bold red")])
        return SHOP_FAILED
    return NAMED if episode.is_named else NOT_NAMED


def _show(stage: Screen, episode: Episode) -> None:
    stage.show([Text(), Text("The call chain", style="bold underline"), Text()])
    stage.show(chain_lines(episode.trace, width=stage.width))
    if not episode.chain_is_in:
        stage.show([Text("⚠ not all of it has arrived in time", style="yellow")])
    stage.show([Text(), Text("The verdict", style="bold underline"), Text()])
    stage.show(verdict_lines(episode.verdict, width=stage.width, commands=False))


def _how_to_look_further(episode: Episode, shop: Shop, *, keep: bool) -> list[Text]:
    where = f"--url {shop.collector_url}" if keep else f"--data-dir {shop.data_directory}"
    commands = [
        f"backtrail trace {episode.trace_id} --full {where}",
        f"backtrail why {episode.trace_id} --explain {where}",
        f"backtrail search 'level:>=WARN' {where}",
        f"backtrail services {where}",
    ]
    if keep:
        commands.append(f"curl '{shop.collector_url}/api/v1/root-cause?trace_id={episode.trace_id}'")
    return [Text(), Text("Look further", style="bold underline"), *(Text(f"  {line}") for line in commands)]


def _conclusion(episode: Episode, took: str) -> Text:
    place = f"{episode.fault.service}, {episode.fault.places[0]}"
    if episode.is_named:
        return Text(
            f"\n✓ The verdict names what was broken ({place}). The demo took {took}.", style="bold green"
        )
    return Text(f"\n✗ The verdict does not name what was broken: {place}.", style="bold red")


def _as_json(episode: Episode, shop: Shop) -> dict[str, object]:
    return {
        "fault": episode.fault.name,
        "injected": {"service": episode.fault.service, "places": list(episode.fault.places)},
        "named": episode.is_named,
        "trace_id": episode.trace_id,
        "data_dir": str(shop.data_directory),
        "trace": episode.trace,
        "verdict": episode.verdict,
    }


def _wait_for_ctrl_c(stage: Screen, shop: Shop) -> None:
    order = '{"order_id": "mine", "customer": "me", "sku": "lamp", "quantity": 2}'
    stage.show(
        [
            Text(),
            Text(
                f"The shop stays up. Its gateway is {shop.gateway_url}, its collector {shop.collector_url}."
            ),
            Text(f"  curl -i {shop.gateway_url}/orders -H 'Content-Type: application/json' -d '{order}'"),
            Text("Ctrl-C ends it.", style="bold"),
        ]
    )
    with contextlib.suppress(KeyboardInterrupt):
        signal.pause()


@contextlib.contextmanager
def _demo_directory() -> Iterator[Path]:
    """A directory of this run's own; what is left of earlier runs goes, so that one stays to look at.

    The name says which process it belongs to; a directory whose process lives is left alone.
    """
    state = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    parent = Path(state) / "backtrail" / "demo"
    parent.mkdir(parents=True, exist_ok=True)
    for old in parent.iterdir():
        if not Path("/proc", old.name.rpartition("-")[2]).exists():
            shutil.rmtree(old, ignore_errors=True)
    directory = parent / f"shop-{os.getpid()}"
    directory.mkdir(mode=0o700)
    yield directory


def _since(started: float) -> str:
    return duration(round((time.monotonic() - started) * 1e9))
