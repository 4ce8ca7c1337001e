"""However a process ends, what it logged is there: ten children of a forking parent, each way of ending."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections import Counter
from pathlib import Path

import orjson
import pytest

from tracing.spool.adoption import Claim, spools
from tracing.spool.reader import read_lines

CHILDREN = 10

PROGRAM = """
    import logging, multiprocessing, os, signal, sys
    import tracing

    ENDINGS = {
        "return": lambda: None,
        "sys.exit": lambda: sys.exit(3),
        "os._exit": lambda: os._exit(3),
        "exception": lambda: 1 / 0,
        "SIGTERM": lambda: os.kill(os.getpid(), signal.SIGTERM),
        "SIGKILL": lambda: os.kill(os.getpid(), signal.SIGKILL),
    }

    def work(ending):
        with tracing.span("work"):
            logging.getLogger("shop").warning("child %d", os.getpid())
        ENDINGS[ending]()

    root, ending, children = sys.argv[1], sys.argv[2], int(sys.argv[3])
    tracing.configure(service="orders", spool_dir=root, ship=False)
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


@pytest.mark.flow
@pytest.mark.parametrize("ending", list(ENDED))
def test_all_that_a_child_logged_is_kept(ending: str, tmp_path: Path) -> None:
    """10 of 10 logs, 10 of 10 spans, and the right word about the end, in each child's own spool."""
    root = tmp_path / "spool"
    subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PROGRAM), str(root), ending, str(CHILDREN)],
        timeout=60,
        check=True,
        capture_output=True,
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
    )
    logs: Counter[str] = Counter()
    spans = starts = 0
    ends: Counter[str] = Counter()
    for path in spools(root / "orders"):
        claim = Claim.try_claim(path)
        assert claim is not None
        claim.release()
        lines = [orjson.loads(line) for _, line in read_lines(path)]
        if any(line.get("message") == "parent" for line in lines):
            assert lines[-1]["close"]["ended"] == "exit"
            continue
        logs.update(line["message"] for line in lines if "kind" not in line)
        spans += sum(line.get("kind") == "span" for line in lines)
        starts += sum(line.get("kind") == "span_start" for line in lines)
        ends.update(line["close"]["ended"] for line in lines if line.get("kind") == "close")
    assert len(logs) == CHILDREN
    assert set(logs.values()) == {1}
    assert (spans, starts) == (CHILDREN, CHILDREN)
    assert ends == {ENDED[ending]: CHILDREN}
