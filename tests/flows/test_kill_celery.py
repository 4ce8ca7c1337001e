"""A Celery child ends after each task (`max_tasks_per_child=1`): ten of ten logs and spans are kept."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import orjson
import pytest

from tracing.spool.adoption import Claim, spools
from tracing.spool.reader import read_lines

TASKS = 10

SHOP = """
    import logging, os
    from celery import Celery

    here = os.environ["SHOP_DIR"]
    for name in ("queue", "control"):
        os.makedirs(f"{here}/{name}", exist_ok=True)
    app = Celery("shop", broker="filesystem://")
    app.conf.task_ignore_result = True
    app.conf.broker_transport_options = {
        "data_folder_in": f"{here}/queue",
        "data_folder_out": f"{here}/queue",
        "control_folder": f"{here}/control",
    }

    @app.task
    def charge(number):
        logging.getLogger("shop").warning("charge %d", number)

    if __name__ == "__main__":
        for number in range(int(os.environ["TASKS"])):
            charge.delay(number)
"""


def child_lines(root: Path) -> list[list[dict[str, object]]]:
    """Lines of each process that ran a task."""
    found = []
    for path in spools(root / "payments"):
        lines = [orjson.loads(line) for _, line in read_lines(path)]
        if any(str(line.get("message")).startswith("charge ") for line in lines):
            found.append(lines)
    return found


@pytest.mark.flow
def test_each_child_is_complete(tmp_path: Path) -> None:
    """OpenTelemetry's batch processor keeps none of them (reference/user-pains.md, P-08)."""
    root = tmp_path / "spool"
    (tmp_path / "shop.py").write_text(textwrap.dedent(SHOP))
    outer = {name: value for name, value in os.environ.items() if not name.startswith(("TRACING_", "OTEL_"))}
    env = outer | {
        "PYTHONPATH": os.pathsep.join([str(tmp_path), outer.get("PYTHONPATH", "")]),
        "SHOP_DIR": str(tmp_path),
        "TASKS": str(TASKS),
        "TRACING_SPOOL_DIR": str(root),
        "TRACING_SHIP": "false",
    }
    subprocess.run([sys.executable, str(tmp_path / "shop.py")], env=env, check=True, timeout=60)
    worker = subprocess.Popen(
        [
            *[sys.executable, "-m", "tracing.launch", "run", "--service", "payments", "--drain-timeout", "0"],
            *["--", sys.executable, "-m", "celery", "-A", "shop", "worker", "--pool", "prefork"],
            *["--concurrency", "5", "--max-tasks-per-child", "1", "--without-gossip", "--without-mingle"],
        ],
        env=env,
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline_s = time.monotonic() + 90
        while sum(any(line.get("kind") == "close" for line in lines) for lines in child_lines(root)) < TASKS:
            assert time.monotonic() < deadline_s, "not all tasks were done"
            assert worker.poll() is None, "the worker has ended"
            time.sleep(0.1)
    finally:
        worker.send_signal(signal.SIGTERM)
        worker.wait(60)
    for path in spools(root / "payments"):
        claim = Claim.try_claim(path)
        assert claim is not None
        claim.release()
    children = child_lines(root)
    assert len(children) == TASKS
    messages = [line["message"] for lines in children for line in lines if "kind" not in line]
    assert sorted(map(str, messages)) == sorted(f"charge {number}" for number in range(TASKS))
    spans = [line for lines in children for line in lines if line.get("kind") == "span"]
    assert len(spans) == TASKS
    ends = [line["close"] for lines in children for line in lines if line.get("kind") == "close"]
    assert [end["ended"] for end in ends if isinstance(end, dict)] == ["exit"] * TASKS
