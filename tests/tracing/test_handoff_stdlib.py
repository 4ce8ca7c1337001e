"""The standard library's own tests, with every hand-off on and a span current: programs see no difference."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec

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
print(result.testsRun, len(result.failures) + len(result.errors))
for test, text in result.failures + result.errors:
    sys.stderr.write(f"{{test}}\\n{{text}}\\n")
"""
WITHOUT = ("generators",)  # which is about OpenTelemetry alone
NAMES = ("threads", "executors", "queues", "asyncio-queues", "processes", "process-pools", "generators")


def run(module: str, names: tuple[str, ...]) -> tuple[int, set[str], str]:
    """How many tests ran, which failed, and what they said."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM.format(module=module, names=names)],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )
    assert done.stdout.strip(), done.stderr[-2000:]
    ran, failed = json.loads(done.stdout.splitlines()[-1])
    return ran, set(failed), done.stderr[-4000:]


@pytest.mark.parametrize("module", MODULES)
def test_the_standard_library_s_own_tests_pass(module: str) -> None:
    """Where the interpreter ships them; what fails without us fails with us, and nothing else."""
    try:
        shipped = find_spec(module) is not None
    except ImportError:
        shipped = False
    if not shipped:
        pytest.skip(f"this interpreter does not ship {module}")
    ran, failed, said = run(module, NAMES)
    assert ran > 0
    if failed:
        assert failed <= run(module, WITHOUT)[1], said
