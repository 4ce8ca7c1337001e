"""`backtrail demo`: a shop, a fault, the chain across all processes, and the verdict."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import sys
from pathlib import Path
from typing import Final

import orjson
from rich.text import Text

from collector.cli_chain import chain_lines
from collector.cli_text import Screen
from collector.cli_verdict import verdict_lines
from collector.demo.episode import HEALTHY_ORDERS, Episode, play, warm_up
from collector.demo.faults import FAULTS, Fault
from collector.demo.shop import SERVICES, Shop, ShopFailed, start_shop

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
    signal.signal(signal.SIGTERM, _end)
    stage = Screen(sys.stderr if as_json else sys.stdout)
    try:
        with start_shop(_demo_directory()) as shop:
            episode = _perform(stage, shop, FAULTS[fault], seed=seed)
            if as_json:
                _write_json(episode, shop)
            else:
                _show(stage, episode)
            stage.show(_how_to_look_further(episode, shop, keep=keep))
            stage.show(_conclusion(episode))
            if keep:
                _wait_for_ctrl_c(stage, shop)
    except ShopFailed as error:
        Screen(sys.stderr).show([Text(f"The demo could not run: {error}", style="bold red")])
        return SHOP_FAILED
    return NAMED if episode.is_named else NOT_NAMED


def _perform(stage: Screen, shop: Shop, fault: Fault, *, seed: int) -> Episode:
    stage.show([f"A collector and {len(SERVICES)} services run: {', '.join(SERVICES)}."])
    warm_up(shop, seed=seed)
    stage.show([f"{HEALTHY_ORDERS} healthy orders went through. Now {fault.story}."])
    return play(shop, fault, seed=seed)


def _end(number: int, _: object) -> None:
    """Leave through every `finally`, so that no process of the shop stays behind."""
    sys.exit(128 + number)


def _show(stage: Screen, episode: Episode) -> None:
    stage.show([Text(), Text("The call chain", style="bold underline"), Text()])
    stage.show(chain_lines(episode.trace, width=stage.width))
    if not episode.chain_is_in:
        stage.show([Text("⚠ not all of it has arrived in time", style="yellow")])
    stage.show([Text(), Text("The verdict", style="bold underline"), Text()])
    stage.show(verdict_lines(episode.verdict, width=stage.width, commands=False))


def _how_to_look_further(episode: Episode, shop: Shop, *, keep: bool) -> list[Text]:
    option = f"--url {shop.collector_url}" if keep else f"--data-dir {shlex.quote(str(shop.data_directory))}"
    questions = [
        f"trace {episode.trace_id} --full",
        f"why {episode.trace_id} --explain",
        "search 'level:>=WARN'",
        "services",
    ]
    lines = [f"{_program()} {question} {option}" for question in questions]
    if keep:
        lines.append(f"curl '{shop.collector_url}/api/v1/root-cause?trace_id={episode.trace_id}'")
    else:
        lines.append("What was recorded is kept until the next demo.")
    return [Text(), Text("Look further", style="bold underline"), Text(), *map(Text, lines), Text()]


def _program() -> str:
    """How the reader's shell calls `backtrail`: by its path unless it would find the same one by name."""
    beside = Path(sys.executable).with_name("backtrail")
    found = shutil.which("backtrail")
    if found is not None and Path(found) == beside:
        return "backtrail"
    return shlex.quote(str(beside)) if beside.exists() else f"{shlex.quote(sys.executable)} -m collector"


def _conclusion(episode: Episode) -> list[Text]:
    fault = episode.fault
    broken = f"{fault.service}, {fault.places[0]}" if fault.service else "nothing"
    if episode.is_named:
        return [Text(f"✓ The verdict names what was broken: {broken}.", style="bold green")]
    return [Text(f"✗ The verdict does not name what was broken: {broken}.", style="bold red")]


def _write_json(episode: Episode, shop: Shop) -> None:
    answer = {
        "fault": episode.fault.name,
        "injected": {"service": episode.fault.service, "places": list(episode.fault.places)},
        "named": episode.is_named,
        "trace_id": episode.trace_id,
        "data_dir": str(shop.data_directory),
        "trace": episode.trace,
        "verdict": episode.verdict,
    }
    sys.stdout.buffer.write(orjson.dumps(answer, option=orjson.OPT_INDENT_2) + b"\n")
    sys.stdout.flush()


def _wait_for_ctrl_c(stage: Screen, shop: Shop) -> None:
    order = '{"order_id": "mine", "customer": "me", "sku": "lamp", "quantity": 2}'
    with contextlib.suppress(KeyboardInterrupt):  # from the moment that it is offered
        stage.show(
            [
                Text(),
                Text(f"The shop stays up. Gateway: {shop.gateway_url}, collector: {shop.collector_url}."),
                Text(f"  curl -i {shop.gateway_url}/orders -H 'Content-Type: application/json' -d '{order}'"),
                Text("Ctrl-C ends it.", style="bold"),
            ]
        )
        signal.pause()


def _demo_directory() -> Path:
    """Make a directory of this run's own; what is left of earlier runs goes, so that one stays to look at.

    The name says which process it belongs to; a directory whose process lives is left alone.
    """
    state = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    parent = Path(state) / "backtrail" / "demo"
    parent.mkdir(parents=True, exist_ok=True)
    for old in parent.iterdir():
        if not _lives(int(old.name.rpartition("-")[2])):
            shutil.rmtree(old, ignore_errors=True)
    directory = parent / f"shop-{os.getpid()}"
    directory.mkdir(mode=0o700)
    return directory


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return pid != os.getpid()  # the same number, but then it was another process before us
