"""Pools and processes: what the program sees is as it was, and every hand-off can be taken off."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.pool import Pool, ThreadPool
from multiprocessing.process import BaseProcess
from typing import Any

import pytest

import tracing
from tracing.context import NO_FIELDS, Snapshot, get_fields
from tracing.handoff.parcel import Packed, Parcel
from tracing.instrumentation import instrumented
from tracing.settings import SettingsWarning
from tracing.testing import Captured, capturing

SHOW = "import os; print(*(os.environ.get(name) for name in ('TRACEPARENT', 'BAGGAGE', 'KEPT')))"


@pytest.fixture(autouse=True)
def handed_over(tracing_capture: Captured) -> Iterator[None]:
    """With the hand-offs on, and off again."""
    tracing.instrument("processes", "process-pools", "subprocesses")
    yield
    tracing.uninstrument()


def where() -> tuple[str | None, str | None, dict[str, Any]]:
    """Trace, span and fields, as a worker process has them."""
    return tracing.current_trace_id(), tracing.current_span_id(), dict(get_fields())


def divide(number: int) -> float:
    """Fails for nought."""
    return 1 / number


def test_a_worker_process_works_for_who_asked_and_forgets_it() -> None:
    """Started inside a request, it belongs to none of them."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as executor:
        with tracing.bound(order=7), tracing.span("request"):
            asked = tracing.current_trace_id(), tracing.current_span_id()
            assert executor.submit(where).result() == (*asked, {"order": 7})
            with pytest.raises(ZeroDivisionError):
                executor.submit(divide, 0).result()
        assert executor.submit(where).result() == (None, None, {})


def test_pools_answer_as_before() -> None:
    """Results, callbacks with positions and names, exceptions, chunks."""
    seen: list[Any] = []
    with ThreadPool(2) as pool, tracing.span("request"):
        mine = tracing.current_span_id()

        def noted(result: object) -> None:
            seen.append((result, tracing.current_span_id()))

        pool.apply_async(divide, (2,), {}, noted, noted).wait()
        pool.apply_async(divide, (0,), error_callback=lambda error: noted(type(error))).wait()
        pool.map_async(divide, [1], 1, noted).wait()
        assert pool.map(divide, [1, 2], 2) == [1.0, 0.5]
        assert pool.starmap(divide, [(1,), (2,)]) == [1.0, 0.5]
        assert list(pool.imap(divide, [1, 2], 2)) == list(pool.imap(divide, [1, 2])) == [1.0, 0.5]
        assert sorted(pool.imap_unordered(divide, [1, 2])) == [0.5, 1.0]
        with pytest.raises(ZeroDivisionError):
            pool.apply(divide, (0,))
        with pytest.raises(TypeError):
            pool.apply(None)  # type: ignore[arg-type]
        with pytest.raises(ValueError):
            pool.imap(divide, [1], 0)
    assert seen == [(0.5, mine), (ZeroDivisionError, mine), ([1.0], mine)]


def test_the_process_object_is_as_it_was() -> None:
    """Nothing of ours stays in it, also when it could not be started."""
    process = multiprocessing.get_context("fork").Process(target=os.getpid)
    with tracing.span("request"):
        process.start()
        assert "run" not in process.__dict__
        with pytest.raises(AssertionError):
            process.start()
    process.join()
    assert process.exitcode == 0 and "run" not in process.__dict__


def test_a_parcel_has_the_ids_although_no_caller_is_trusted() -> None:
    """It comes from the program itself."""
    with capturing(trust_remote_ids=False):
        with tracing.span("request"):
            here = tracing.current_trace_id(), tracing.current_span_id()
            packed = Packed(where, Parcel(Snapshot()))
        assert packed() == (*here, {})
    assert get_fields() is NO_FIELDS


def started(**options: Any) -> list[str]:
    """What a program that is started finds in its environment."""
    done = subprocess.run([sys.executable, "-c", SHOW], capture_output=True, text=True, check=True, **options)
    return done.stdout.split()


def test_programs_find_the_span_in_their_environment() -> None:
    """Beside what was there; an environment that the program makes itself is completed, not overruled."""
    with tracing.span("request"):
        here = f"00-{tracing.current_trace_id()}-{tracing.current_span_id()}-01"
        assert started() == [here, "None", "None"]
        assert started(env={"KEPT": "yes"}) == [here, "None", "yes"]
        assert started(env={b"KEPT": b"yes"}) == [here, "None", "yes"]
        assert started(env={"TRACEPARENT": "theirs"}) == ["theirs", "None", "None"]
        by_place = subprocess.Popen(
            [sys.executable, "-c", SHOW], -1, None, None, subprocess.PIPE, None, None, True, False, None,
            {"KEPT": "by place"},
        )  # fmt: skip
        assert by_place.communicate()[0].decode().split() == [here, "None", "by", "place"]
    assert "TRACEPARENT" not in os.environ
    assert started() == ["None"] * 3


def test_a_program_goes_on_where_it_was_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once: what is current already counts more, and `uninstall()` takes it back."""
    monkeypatch.setenv("TRACEPARENT", f"00-{'a' * 32}-{'b' * 16}-01")
    with capturing():
        assert tracing.current_trace_id() == "a" * 32
        with capturing():
            assert tracing.current_trace_id() == "a" * 32
    assert tracing.current_trace_id() is None
    monkeypatch.setenv("TRACEPARENT", "nonsense")
    with capturing():
        assert tracing.current_trace_id() is None


def test_what_a_setting_leaves_out_is_not_put_on() -> None:
    """By the name that `instrument()` has for it; a name that nobody knows is one warning."""
    tracing.uninstrument()
    with capturing(instrument_exclude=("processes", "queues", "typo")):
        with pytest.warns(SettingsWarning, match="typo"):
            on = tracing.instrument()
        assert not {"processes", "queues"} & set(on)
        assert "process-pools" in on and BaseProcess.start.__module__ == "multiprocessing.process"


def test_what_is_on_can_be_turned_on_elsewhere() -> None:
    """A process that is started afresh is told these names."""
    tracing.instrument()
    on = instrumented()
    tracing.uninstrument()
    assert {"processes", "threads"} <= set(on) == set(tracing.instrument(*on))


def test_removal_puts_everything_back() -> None:
    """Each method is the library's own again."""
    tracing.uninstrument()
    methods = [BaseProcess.start, Pool.apply_async, Pool._map_async, Pool.imap, Pool.imap_unordered]  # type: ignore[attr-defined]
    methods += [ProcessPoolExecutor.submit, subprocess.Popen.__init__]
    assert [method.__module__.split(".")[0] for method in methods] == [
        *["multiprocessing"] * 5,
        "concurrent",
        "subprocess",
    ]
    assert not any(hasattr(method, "__wrapped__") for method in methods)
