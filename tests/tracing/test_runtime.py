"""`configure()`: what it turns on, that it may be called again, and that it puts everything back."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import propagate, trace

import tracing
from tracing import health, runtime
from tracing.errors import ConfigurationError
from tracing.line import decode
from tracing.sink import NullSink, slot
from tracing.testing import Captured

log = logging.getLogger("app")


@pytest.fixture(autouse=True)
def taken_down(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test begins and ends with nothing configured, and with no variable of anybody's."""
    for name in list(os.environ):
        if name.startswith(("TRACING_", "OTEL_")):
            monkeypatch.delenv(name)
    tracing.uninstall()
    yield
    tracing.uninstall()


def spooled(root: Path) -> list[dict[str, Any]]:
    """Every line in every spool, headers and closing lines left out."""
    segments = sorted(root.glob("*/*/*.ndjson"))
    lines = [decode(line) for path in segments for line in path.read_bytes().splitlines()[1:]]
    return [line for line in lines if line.get("kind") != "close"]


def test_lines_are_in_the_spool_when_the_call_returns(tmp_path: Path) -> None:
    """Nothing is queued in memory."""
    tracing.configure(service="orders", spool_dir=tmp_path, ship=False)
    log.warning("hello")
    with tracing.span("work"):
        pass
    assert [line.get("message") or line["name"] for line in spooled(tmp_path)] == ["hello", "work", "work"]


def test_the_resource_says_whose_process_it_is(tmp_path: Path) -> None:
    """In OpenTelemetry's names; the operator's attributes among them."""
    tracing.configure(
        service="orders", spool_dir=tmp_path, ship=False, resource_attributes="service.version=1.2,team=shop"
    )
    assert slot.resource["service.name"] == "orders" and slot.resource["service.version"] == "1.2"
    assert slot.resource["process.pid"] == os.getpid() and slot.resource["team"] == "shop"
    provider: Any = trace.get_tracer_provider()
    assert provider.resource.attributes["service.name"] == "orders"


def test_the_same_settings_again_change_nothing(tmp_path: Path) -> None:
    """Frameworks import a program's settings more than once."""
    first = tracing.configure(service="orders", spool_dir=tmp_path, ship=False)
    sink = slot.sink
    assert tracing.configure(service="orders", spool_dir=tmp_path, ship=False) is first
    assert slot.sink is sink


def test_other_settings_start_anew(tmp_path: Path) -> None:
    """The last word counts, and the first handle is done with."""
    first = tracing.configure(service="a", spool_dir=tmp_path, ship=False)
    log.warning("one")
    second = tracing.configure(service="b", spool_dir=tmp_path, ship=False)
    log.warning("two")
    assert [(line["service"], line["message"]) for line in spooled(tmp_path)] == [("a", "one"), ("b", "two")]
    assert first.shutdown() is True and slot.active, "an old handle does not end the new configuration"
    second.shutdown(0)
    assert not slot.active


def test_a_malformed_setting_changes_nothing(tmp_path: Path) -> None:
    """Neither what was configured before, nor anything global."""
    handle = tracing.configure(service="orders", spool_dir=tmp_path, ship=False)
    textmap = propagate.get_global_textmap()
    for wrong in (
        {"level": "LOUD"},
        {"propagators": ("pigeon",)},
        {"exporter": "file"},
    ):
        with pytest.raises(ConfigurationError):
            tracing.configure(service="orders", **wrong)  # type: ignore[arg-type]
    assert propagate.get_global_textmap() is textmap and slot.active
    log.warning("still here")
    assert spooled(tmp_path)[-1]["message"] == "still here"
    handle.shutdown(0)


def test_disabled_means_that_nothing_happens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No spool, no capture, no provider, no patch."""
    monkeypatch.setenv("TRACING_ENABLED", "false")
    before = (
        logging.Logger.callHandlers,
        threading.Thread.__dict__["_bootstrap"],
        propagate.get_global_textmap(),
    )
    handle = tracing.configure(service="orders", spool_dir=tmp_path)
    assert tracing.instrument() == []
    log.warning("hello")
    with tracing.span("work") as span:
        assert not span.is_recording()
    with tracing.bound(tenant="acme"), tracing.extracted({"traceparent": f"00-{1:032x}-{1:016x}-01"}):
        tracing.inject({})
    assert (
        logging.Logger.callHandlers,
        threading.Thread.__dict__["_bootstrap"],
        propagate.get_global_textmap(),
    ) == before
    assert not list(tmp_path.iterdir()) and isinstance(slot.sink, NullSink)
    assert handle.flush(0) and handle.shutdown(0)


def test_uninstall_puts_everything_back(tmp_path: Path) -> None:
    """Every global that we touched."""
    before = (logging.Logger.callHandlers, propagate.get_global_textmap(), logging.getLogger().level)
    tracing.configure(service="orders", spool_dir=tmp_path, ship=False, level="DEBUG")
    tracing.uninstall()
    tracing.uninstall()
    assert (logging.Logger.callHandlers, propagate.get_global_textmap(), logging.getLogger().level) == before
    assert isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)
    log.warning("not written")
    assert spooled(tmp_path) == []


def test_flush_without_a_collector_says_no_and_loses_nothing(tmp_path: Path) -> None:
    """False is no loss: the lines are in the spool."""
    handle = tracing.configure(service="orders", spool_dir=tmp_path, collector_url="http://127.0.0.1:9")
    log.warning("hello")
    assert handle.flush(0.05) is False
    assert [line["message"] for line in spooled(tmp_path)] == ["hello"]


def test_stats_have_every_reason(tmp_path: Path) -> None:
    """Whatever is refused, cut or dropped has a counter, also while it is zero."""
    handle = tracing.configure(service="orders", spool_dir=tmp_path, ship=False)
    log.warning("hello")
    found = handle.stats()
    assert set(health.REASONS) <= found.keys()
    assert found["spool.lines"] == 1
    assert found == tracing.stats()


def test_a_log_handler_alone_configures_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first of the three things a user does, in its explicit form."""
    monkeypatch.setenv("TRACING_SERVICE", "from-env")
    monkeypatch.setenv("TRACING_SPOOL_DIR", str(tmp_path))
    monkeypatch.setenv("TRACING_SHIP", "false")
    own = logging.getLogger("own")
    handler = tracing.LogHandler()
    own.addHandler(handler)
    try:
        own.warning("mine")
        log.warning("not mine")
    finally:
        own.removeHandler(handler)
    assert [(line["service"], line["message"]) for line in spooled(tmp_path)] == [("from-env", "mine")]


def test_a_sink_of_the_program_s_own(tracing_capture: Captured) -> None:
    """Anything with a `write`; it needs neither flush nor close."""
    log.warning("hello")
    assert tracing_capture.messages == ["hello"]
    assert tracing.flush(0) is True


def test_many_threads_configure_at_once(tmp_path: Path) -> None:
    """One configuration comes out, and each got its handle."""
    handles: list[runtime.Handle] = []
    barrier = threading.Barrier(8)

    def configure() -> None:
        barrier.wait()
        handles.append(tracing.configure(service="orders", spool_dir=tmp_path, ship=False))

    threads = [threading.Thread(target=configure) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(handle) for handle in handles}) == 1


def test_exit_writes_the_closing_line_and_late_calls_are_taken(tmp_path: Path) -> None:
    """Log calls in `atexit` handlers and in `__del__` at the very end."""
    program = """
import atexit, logging, sys, tracing
class Late:
    def __del__(self): logging.getLogger("app").warning("from __del__")
late = Late()
atexit.register(lambda: logging.getLogger("app").warning("before ours"))
tracing.configure(service="orders", spool_dir=sys.argv[1], ship=False)
with tracing.span("work"):
    logging.getLogger("app").warning("work")
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 0
    messages = [line.get("message") for line in spooled(tmp_path)]
    assert "work" in messages and "before ours" in messages and "from __del__" in messages
    [segment] = tmp_path.glob("*/*/*.ndjson")
    assert b'"ended":"exit"' in segment.read_bytes()


def test_importing_the_library_imports_next_to_nothing(tmp_path: Path) -> None:
    """What is not used is not paid for: neither OpenTelemetry's SDK nor asyncio nor our own rooms."""
    program = """
import sys
import tracing
heavy = {"asyncio", "opentelemetry", "orjson", "logging", "contextvars_extras", "tracing.runtime"}
print(sorted(heavy & sys.modules.keys()))
tracing.span, tracing.inject, tracing.LogHandler
print([name for name in sys.modules if name.startswith("opentelemetry.sdk")])
tracing.configure(service="orders", spool_dir=sys.argv[1], collector_url="http://127.0.0.1:9")
with tracing.span("work"):
    pass
late = ("opentelemetry.sdk", "asyncio", "multiprocessing", "contextvars_extras", "zstandard", "grpc")
print([name for name in sys.modules if name.startswith(late)])
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "spool")],
        capture_output=True,
        timeout=60,
        check=True,
        text=True,
    )
    assert done.stdout.splitlines() == ["[]", "[]", "[]"], done.stderr


def test_public_names_are_documented_and_complete() -> None:
    """`__all__` is what the front door has, and each name says what it is."""
    namespace: dict[str, Any] = {}
    exec("from tracing import *", namespace)
    assert set(tracing.__all__) <= namespace.keys()
    assert sorted(dir(tracing)) == sorted(tracing.__all__) == tracing.__all__
    for name in tracing.__all__:
        documented = getattr(tracing, name)
        assert (documented.__doc__ or type(documented).__doc__ or "").strip(), name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        tracing.nothing


@given(st.integers(1, 40), st.integers(0, 200))
def test_a_fuse_blows_in_a_burst_only(failures: int, apart_s: int) -> None:
    """Ten failures in a minute; a rare one now and then is no reason to go blind."""
    fuse = health.Fuse("test")
    now = [1000.0]
    original = health.time.monotonic
    health.time.monotonic = lambda: now[0]  # type: ignore[assignment]
    said = sys.stderr
    try:
        sys.stderr = None  # type: ignore[assignment]  # a daemon's
        for _ in range(failures):
            fuse.failed(ValueError("x"))
            now[0] += apart_s
        fuse.failed(RecursionError())
    finally:
        sys.stderr = said
        health.time.monotonic = original
    in_a_window = min(failures, int(fuse.WINDOW_S // apart_s) + 1) if apart_s else failures
    assert fuse.blown is (in_a_window >= fuse.FAILURES_MAX)
