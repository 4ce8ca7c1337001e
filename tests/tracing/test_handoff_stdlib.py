"""The standard library's own tests, with every hand-off on and a span current: programs see no difference."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

MODULES = [
    "test.test_queue",
    "test.test_asyncio.test_queues",
    "test.test_threading",
    "test.test_concurrent_futures",
]
TIMEOUT_S = 280

PROGRAM = """
import json, sys, unittest

import tracing
from opentelemetry import trace

tracing.configure(service="stdlib", exporter="none", capture_logs=False)
tracing.instrument(*{names!r})
scope = trace.get_tracer("stdlib").start_as_current_span("the tests")
scope.__enter__()
tracing.bind(order=7)
suite = unittest.defaultTestLoader.loadTestsFromName({module!r})
result = unittest.TextTestRunner(verbosity=0).run(suite)
failed = [(test.id(), text) for test, text in result.failures + result.errors]
for name, text in failed:
    sys.stderr.write(f"{{name}}\\n{{text}}\\n")
with open(sys.argv[1], "w") as report:  # the tests write to the standard output themselves
    json.dump([result.testsRun, [name for name, _ in failed]], report)
"""
WITHOUT = ("generators",)  # which is about OpenTelemetry alone
NAMES = ("threads", "executors", "queues", "asyncio-queues", "processes", "process-pools", "generators")


def run(module: str, names: tuple[str, ...], report: Path) -> tuple[int, set[str], str]:
    """How many tests ran, which failed, and what they said."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM.format(module=module, names=names), str(report)],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )
    assert report.exists(), done.stderr[-2000:]
    ran, failed = json.loads(report.read_text())
    return ran, set(failed), done.stderr[-4000:]


@pytest.mark.parametrize("module", MODULES)
def test_the_standard_library_s_own_tests_pass(module: str, tmp_path: Path) -> None:
    """Where the interpreter ships them; what fails without us fails with us, and nothing else."""
    try:
        shipped = find_spec(module) is not None
    except ImportError:
        shipped = False
    if not shipped:
        pytest.skip(f"this interpreter does not ship {module}")
    ran, failed, said = run(module, NAMES, tmp_path / "with")
    assert ran > 0
    if failed:
        assert failed <= run(module, WITHOUT, tmp_path / "without")[1], said
