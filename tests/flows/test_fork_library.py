"""Two hundred forks of a program whose threads log and open spans, with the shipper running."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections import Counter
from pathlib import Path

import orjson
import pytest

from tracing.spool.adoption import spools
from tracing.spool.reader import read_lines, segment_paths

FORKS = 200

PROGRAM = """
    import json, logging, os, signal, sys, threading, time
    import tracing

    FORKS, DEADLINE_S = int(sys.argv[2]), 60.0
    logging.getLogger().addHandler(logging.NullHandler())
    log = logging.getLogger("shop")
    log.setLevel("INFO")
    tracing.configure(service="orders", spool_dir=sys.argv[1], collector_url="http://127.0.0.1:9")
    stop, written = threading.Event(), [0, 0, 0, 0]

    def busy(thread):
        while not stop.is_set():
            with tracing.span("parent"):
                log.info("parent %d-%d", thread, written[thread])
            written[thread] += 1

    def child():
        def second():
            log.info("child %d second", os.getpid(), extra={"odd": object()})

        thread = threading.Thread(target=second)
        with tracing.span("child"):
            thread.start()
            log.info("child %d first", os.getpid())
        thread.join()
        os._exit(0)

    def hung(pid):
        deadline_s = time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline_s:
            if os.waitpid(pid, os.WNOHANG)[0] == pid:
                return False
            time.sleep(0.001)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        return True

    threads = [threading.Thread(target=busy, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    pids = []
    with tracing.span("outer"):
        for _ in range(FORKS):
            pid = os.fork()
            if pid == 0:
                child()
            pids.append(pid)
    hanging = [pid for pid in pids if hung(pid)]
    stop.set()
    for thread in threads:
        thread.join()
    json.dump({"pids": pids, "hung": hanging, "written": written}, sys.stdout)
"""


@pytest.mark.flow
def test_forks_of_a_program_at_work(tmp_path: Path) -> None:
    """No child hangs; every log line and span is there once, under its own process, in the right trace."""
    root = tmp_path / "spool"
    outer = {name: value for name, value in os.environ.items() if not name.startswith(("TRACING_", "OTEL_"))}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(PROGRAM), str(root), str(FORKS)],
        env=outer,
        timeout=200,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    told = orjson.loads(done.stdout)
    assert told["hung"] == []
    logs: dict[int, Counter[str]] = {}
    spans: dict[int, Counter[str]] = {}
    traces: dict[int, set[str]] = {}
    for path in spools(root / "orders"):
        header = orjson.loads(segment_paths(path)[0].read_bytes().partition(b"\n")[0])
        pid = header["resource"]["process.pid"]
        assert pid not in logs, "one spool for each process"
        lines = [orjson.loads(line) for _, line in read_lines(path)]
        logs[pid] = Counter(line["message"] for line in lines if "kind" not in line)
        spans[pid] = Counter(line["name"] for line in lines if line.get("kind") == "span")
        traces[pid] = {line["trace_id"] for line in lines if "trace_id" in line}
    (parent,) = logs.keys() - set(told["pids"])
    assert logs.pop(parent) == Counter(
        f"parent {thread}-{number}" for thread, count in enumerate(told["written"]) for number in range(count)
    )
    assert spans.pop(parent) == {"parent": sum(told["written"]), "outer": 1}
    assert logs == {pid: Counter([f"child {pid} first", f"child {pid} second"]) for pid in told["pids"]}
    assert spans == {pid: Counter(["child"]) for pid in told["pids"]}
    assert len(set.union(*(traces[pid] for pid in told["pids"]))) == 1, "all children are in the outer trace"
