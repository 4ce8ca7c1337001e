"""A Celery child ends after each task (`max_tasks_per_child=1`): ten of ten logs and spans are kept."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from tracing.spool.adoption import Claim, spools
from tracing.spool.reader import read_lines

TASKS = 10

SHOP = """
    import contextlib, logging, os
    from celery import Celery
    from celery.signals import worker_process_init

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

    span = contextlib.nullcontext  # our span is made by the instrumentation

    @worker_process_init.connect(weak=False)
    def plain(**_):
        global span
        if "PLAIN" not in os.environ:
            return
        from opentelemetry.sdk._logs import LoggerProvider, LoggingHandler
        from opentelemetry.sdk._logs.export import BatchLogRecordProcessor, ConsoleLogRecordExporter
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter

        out = open(f"{here}/plain", "a")
        logs, spans = LoggerProvider(), TracerProvider()
        logs.add_log_record_processor(BatchLogRecordProcessor(
            ConsoleLogRecordExporter(out=out, formatter=lambda r: f"{r.log_record.body.split()[0]}\\n")))
        spans.add_span_processor(BatchSpanProcessor(
            ConsoleSpanExporter(out=out, formatter=lambda _: "span\\n")))
        logging.getLogger("shop").addHandler(LoggingHandler(logger_provider=logs))
        span = lambda: spans.get_tracer("shop").start_as_current_span("charge")

    @app.task
    def charge(number):
        with span():
            logging.getLogger("shop").warning("charge %d", number)
        os.mkdir(f"{here}/done-{number}")

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


def shop(directory: Path, launcher: list[str], is_done: Callable[[], bool], **extra: str) -> None:
    """Run the tasks with a worker that is started through `launcher`, until they are done."""
    directory.mkdir()
    (directory / "shop.py").write_text(textwrap.dedent(SHOP))
    outer = {name: value for name, value in os.environ.items() if not name.startswith(("TRACING_", "OTEL_"))}
    path = os.pathsep.join([str(directory), outer.get("PYTHONPATH", "")])
    env = outer | {"PYTHONPATH": path, "SHOP_DIR": str(directory), "TASKS": str(TASKS)} | extra
    subprocess.run([sys.executable, str(directory / "shop.py")], env=env, check=True, timeout=60)
    worker = subprocess.Popen(
        [
            *[*launcher, sys.executable, "-m", "celery", "-A", "shop", "worker", "--pool", "prefork"],
            *["--concurrency", "5", "--max-tasks-per-child", "1", "--without-gossip", "--without-mingle"],
        ],
        env=env,
        cwd=directory,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline_s = time.monotonic() + 90
        while not is_done():
            assert time.monotonic() < deadline_s, "not all tasks were done"
            assert worker.poll() is None, "the worker has ended"
            time.sleep(0.1)
    finally:
        worker.send_signal(signal.SIGTERM)
        worker.wait(60)


def kept_by_plain_opentelemetry(directory: Path) -> tuple[int, int]:
    """Logs and spans that its batch processors exported, of a worker without us."""
    shop(directory, [], lambda: len(list(directory.glob("done-*"))) == TASKS, PLAIN="1")
    kept = Counter((directory / "plain").read_text().split())
    return kept["charge"], kept["span"]


@pytest.mark.flow
def test_each_child_is_complete(tmp_path: Path, kill_table: Any) -> None:
    """OpenTelemetry's batch processor keeps none of them (reference/user-pains.md, P-08)."""
    root = tmp_path / "spool"

    def is_done() -> bool:
        closed = [any(line.get("kind") == "close" for line in lines) for lines in child_lines(root)]
        return sum(closed) >= TASKS

    ours = [
        sys.executable,
        "-m",
        "tracing.launch",
        "run",
        "--service",
        "payments",
        "--drain-timeout",
        "0",
        "--",
    ]
    shop(tmp_path / "ours", ours, is_done, TRACING_SPOOL_DIR=str(root), TRACING_SHIP="false")
    for path in spools(root / "payments"):
        claim = Claim.try_claim(path)
        assert claim is not None
        claim.release()
    children = child_lines(root)
    messages = [line["message"] for lines in children for line in lines if "kind" not in line]
    spans = [line for lines in children for line in lines if line.get("kind") == "span"]
    theirs = kept_by_plain_opentelemetry(tmp_path / "plain")
    kill_table.add("Celery, max_tasks_per_child=1", TASKS, (len(messages), len(spans)), theirs)
    assert len(children) == TASKS
    assert sorted(map(str, messages)) == sorted(f"charge {number}" for number in range(TASKS))
    assert len(spans) == TASKS
    ends = [line["close"] for lines in children for line in lines if line.get("kind") == "close"]
    assert [end["ended"] for end in ends if isinstance(end, dict)] == ["exit"] * TASKS
