"""Log calls at odd moments are records with the right ids, and what the program prints stays as it was."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import orjson
import pytest

PROGRAM = """
    import asyncio, atexit, gc, logging, os, signal, sys, threading, time

    if sys.argv[1] != "alone":
        import tracing
        tracing.configure(service="shop", exporter="file", export_file=sys.argv[1])
        tracing.instrument()
    from opentelemetry import trace
    logging.basicConfig(format="%(message)s", stream=sys.stdout)
    span = trace.get_tracer("shop").start_as_current_span
    log = logging.getLogger("shop")

    class Resource:
        def __init__(self, name):
            self.name = name
            self.cycle = self
        def __del__(self):
            log.warning("del %s", self.name)

    @atexit.register
    def last():
        log.warning("atexit")

    def on_signal(number, frame):
        log.warning("signal")

    signal.signal(signal.SIGUSR1, on_signal)

    def in_finally():
        with span("finally"):
            try:
                return 1
            finally:
                log.warning("finally")

    def generator():
        with span("generator"):
            try:
                yield 1
            finally:
                log.warning("generator")

    async def cancelled():
        with span("cancelled"):
            try:
                await asyncio.Event().wait()
            finally:
                log.warning("cancelled")

    async def main():
        task = asyncio.create_task(cancelled())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    in_finally()
    asyncio.run(main())
    with span("signal"):
        os.kill(os.getpid(), signal.SIGUSR1)
    with span("collected"):
        Resource("collected")
        gc.collect()
    for _ in generator():
        break
    kept = Resource("at the end")
    with span("thread"):
        def late():
            threading.main_thread().join()
            log.warning("thread")
        threading.Thread(target=late).start()
"""


@pytest.mark.flow
def test_every_moment(tmp_path: Path) -> None:
    """In `finally`, in a signal handler, in `__del__`, in a generator, after a cancellation, at the exit."""
    script, lines_file = tmp_path / "program.py", tmp_path / "lines.ndjson"
    script.write_text(textwrap.dedent(PROGRAM))
    printed = []
    for where in ("alone", str(lines_file)):
        done = subprocess.run(
            [sys.executable, str(script), where], capture_output=True, text=True, timeout=60, check=True
        )
        printed.append((done.stdout, done.stderr))
    assert printed[0] == printed[1]
    lines = [orjson.loads(line) for line in lines_file.read_bytes().splitlines()]
    spans = {line["name"]: line["span_id"] for line in lines if line.get("kind") == "span"}
    logs = {line["message"]: line.get("span_id") for line in lines if "kind" not in line}
    assert printed[0][0].split("\n")[:-1] == list(logs)
    for name in ("finally", "generator", "cancelled", "signal", "thread"):
        assert logs[name] == spans[name], name
    assert logs["del collected"] == spans["collected"]
    assert logs["atexit"] is None and logs["del at the end"] is None
