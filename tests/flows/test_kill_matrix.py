"""However a process ends, what it logged is there: ten children of a forking parent, each way of ending.

Plain OpenTelemetry, with its batch processors and an exporter that appends to a file, runs the same program;
both come into one table, `kill_table`.
"""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections import Counter
from pathlib import Path
from typing import Any

import orjson
import pytest

from tracing.spool.adoption import Claim, spools
from tracing.spool.reader import read_lines

CHILDREN = 10

PROGRAM = """
    import logging, multiprocessing, os, signal, sys

    ENDINGS = {
        "return": lambda: None,
        "sys.exit": lambda: sys.exit(3),
        "os._exit": lambda: os._exit(3),
        "exception": lambda: 1 / 0,
        "SIGTERM": lambda: os.kill(os.getpid(), signal.SIGTERM),
        "SIGKILL": lambda: os.kill(os.getpid(), signal.SIGKILL),
    }
    root, ending, children, how = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]

    def ours():
        import tracing
        tracing.configure(service="orders", spool_dir=root, ship=False)
        return tracing.span

    def plain():
        from opentelemetry.sdk._logs import LoggerProvider, LoggingHandler
        from opentelemetry.sdk._logs.export import BatchLogRecordProcessor, ConsoleLogRecordExporter
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter

        out = open(root, "a")  # appended to by all, a line at a time
        logs, spans = LoggerProvider(), TracerProvider()
        logs.add_log_record_processor(BatchLogRecordProcessor(
            ConsoleLogRecordExporter(out=out, formatter=lambda record: "log\\n")))
        spans.add_span_processor(BatchSpanProcessor(
            ConsoleSpanExporter(out=out, formatter=lambda span: "span\\n")))
        logging.getLogger().addHandler(LoggingHandler(logger_provider=logs))
        return spans.get_tracer("shop").start_as_current_span

    span = {"ours": ours, "plain": plain}[how]()

    def work(ending):
        with span("work"):
            logging.getLogger("shop").warning("child %d", os.getpid())
        ENDINGS[ending]()

    if how == "ours":
        logging.getLogger("shop").warning("parent")
    if ending == "multiprocessing":
        fork = multiprocessing.get_context("fork")
        workers = [fork.Process(target=work, args=("return",)) for _ in range(children)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        sys.exit(0)
    pids = []
    for _ in range(children):
        pid = os.fork()
        if pid == 0:
            work(ending)
            break  # "return": the program ends by itself
        pids.append(pid)
    else:
        for pid in pids:
            os.waitpid(pid, 0)
"""

# How the spool of such a child ends; of those that could not say so, the adopter says it.
ENDED = {
    "return": "exit",
    "sys.exit": "exit",
    "exception": "exit",
    "multiprocessing": "exit",
    "os._exit": "killed",
    "SIGTERM": "killed",
    "SIGKILL": "killed",
}


def run(how: str, ending: str, root: Path) -> None:
    """Run the program to its end."""
    subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PROGRAM), str(root), ending, str(CHILDREN), how],
        timeout=60,
        check=True,
        capture_output=True,
        env={"PATH": "/usr/bin:/bin", "HOME": str(root.parent)},
    )


@pytest.mark.flow
@pytest.mark.parametrize("ending", list(ENDED))
def test_all_that_a_child_logged_is_kept(ending: str, tmp_path: Path, kill_table: Any) -> None:
    """10 of 10 logs, 10 of 10 spans, and the right word about the end, in each child's own spool."""
    plain = tmp_path / "plain"
    run("plain", ending, plain)
    theirs = Counter(plain.read_text().split())
    root = tmp_path / "spool"
    run("ours", ending, root)
    logs: Counter[str] = Counter()
    spans = starts = uncaught = 0
    ends: Counter[str] = Counter()
    for path in spools(root / "orders"):
        claim = Claim.try_claim(path)
        assert claim is not None
        claim.release()
        lines = [orjson.loads(line) for _, line in read_lines(path)]
        if any(line.get("message") == "parent" for line in lines):
            assert lines[-1]["close"]["ended"] == "exit"
            continue
        written = [line for line in lines if "kind" not in line]
        logs.update(line["message"] for line in written if line["logger"] == "shop")
        uncaught += sum(line["logger"] == "uncaught" for line in written)
        spans += sum(line.get("kind") == "span" for line in lines)
        starts += sum(line.get("kind") == "span_start" for line in lines)
        ends.update(line["close"]["ended"] for line in lines if line.get("kind") == "close")
    kill_table.add(ending, CHILDREN, (logs.total(), spans), (theirs["log"], theirs["span"]))
    assert uncaught == (CHILDREN if ending == "exception" else 0)
    assert len(logs) == CHILDREN
    assert set(logs.values()) == {1}
    assert (spans, starts) == (CHILDREN, CHILDREN)
    assert ends == {ENDED[ending]: CHILDREN}
