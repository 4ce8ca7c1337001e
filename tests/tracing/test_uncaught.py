"""What Python would only print is recorded, in the trace it belongs to, and still printed as it was."""

from __future__ import annotations

import logging
import subprocess
import sys
import textwrap
import warnings
from pathlib import Path
from typing import Any

import orjson
import pytest

import tracing
from tracing.spans import failures
from tracing.testing import Captured

PROGRAM = """
    import asyncio, gc, logging, sys, threading, warnings

    if sys.argv[1] != "alone":
        import tracing
        tracing.configure(service="shop", exporter="file", export_file=sys.argv[1])
        tracing.instrument()
    from opentelemetry import trace
    span = trace.get_tracer("shop").start_as_current_span

    def fail(where):
        with span(where):
            raise LookupError(where)

    class Closing:
        def __del__(self):
            fail("del")

    async def main():
        task = asyncio.get_running_loop().create_task(asyncio.to_thread(fail, "task"))
        await asyncio.wait([task])
        del task
        gc.collect()  # now asyncio says that nobody asked

    thread = threading.Thread(target=fail, args=("thread",), name="worker")
    thread.start()
    thread.join()
    Closing()
    asyncio.run(main())
    with span("warns"):
        warnings.warn("old", FutureWarning)
    threading.Thread(target=sys.exit, name="stops").start()
    fail("top")
"""


def run(directory: Path, where: str) -> subprocess.CompletedProcess[str]:
    """Run the program; its paths are the same with us and without."""
    script = directory / "program.py"
    script.write_text(textwrap.dedent(PROGRAM))
    return subprocess.run(
        [sys.executable, str(script), where],
        capture_output=True,
        text=True,
        timeout=60,
        env={"PATH": "/usr/bin:/bin", "HOME": str(directory)},
    )


def test_every_way_to_fail_unseen(tmp_path: Path) -> None:
    """In a thread, a task, `__del__`, at top level; and a warning. The ids are those of the span inside."""
    lines_file = tmp_path / "lines.ndjson"
    alone, ours = run(tmp_path, "alone"), run(tmp_path, str(lines_file))
    assert ours.returncode == alone.returncode == 1

    def shown(text: str) -> list[str]:
        """What was printed, without addresses and the frames of the tracer, which is another one."""
        return [line.partition(" at 0x")[0] for line in text.splitlines() if "site-packages" not in line]

    assert [line for line in shown(ours.stderr) if "Error" in line or "Exception" in line] == [
        line for line in shown(alone.stderr) if "Error" in line or "Exception" in line
    ]
    lines = [orjson.loads(line) for line in lines_file.read_bytes().splitlines()]
    spans = {line["name"]: line for line in lines if line.get("kind") == "span"}
    logs = {line["message"]: line for line in lines if "kind" not in line}
    for message, name, logger, level in (
        ("uncaught LookupError: thread", "thread", "uncaught", "ERROR"),
        ("uncaught LookupError: del", "del", "uncaught", "ERROR"),
        ("uncaught LookupError: top", "top", "uncaught", "FATAL"),
        ("FutureWarning: old", "warns", "py.warnings", "WARN"),
    ):
        line = logs.pop(message)
        assert (line["span_id"], line["trace_id"]) == (spans[name]["span_id"], spans[name]["trace_id"])
        assert (line["logger"], line["level"]) == (logger, level)
        assert Path(line["source"]["file"]).name == "program.py"
        if logger == "uncaught":
            assert line["exception"]["message"] == name and line["source"]["function"] == "fail"
        if name == "thread":
            assert line["attributes"]["thread.name"] == "worker"
    [(message, line)] = logs.items()
    assert message.startswith("Task exception was never retrieved")
    assert line["span_id"] == spans["task"]["span_id"]


HOOKS = """
    import logging, sys, threading, warnings
    if sys.argv[1] == "ours":
        import tracing
        tracing.configure(service="shop", exporter="none")

    def work():
        raise LookupError("no stock")

    thread = threading.Thread(target=work, name="worker")
    thread.start()
    thread.join()
    warnings.warn("old", FutureWarning)
    class Closing:
        def __del__(self):
            work()
        def __repr__(self):
            return "closing"
    Closing()
    try:
        work()
    except LookupError as error:
        raise KeyError("order") from error
"""


def test_what_is_printed_stays_byte_equal(tmp_path: Path) -> None:
    """Traceback, chain, source line and all."""
    script = tmp_path / "program.py"
    script.write_text(textwrap.dedent(HOOKS))
    printed = []
    for how in ("alone", "ours"):
        done = subprocess.run(
            [sys.executable, str(script), how], capture_output=True, text=True, timeout=60, check=False
        )
        printed.append((done.returncode, done.stdout, done.stderr.replace("0x", "").splitlines()))
    assert len(printed[0][2]) > 20
    theirs, ours = ([line for line in out[2] if "Closing.__del__ at" not in line] for out in printed)
    assert ours == theirs
    assert printed[0][:2] == printed[1][:2]


def test_warnings_that_go_elsewhere_are_not_doubled(tracing_capture: Captured) -> None:
    """Into logging they are records already; what a test collects is for the test."""
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(True)
        try:
            warnings.warn("to the log", UserWarning, stacklevel=1)
        finally:
            logging.captureWarnings(False)
    with pytest.warns(UserWarning):
        warnings.warn("to the test", UserWarning, stacklevel=1)
    assert [line["logger"] for line in tracing_capture.logs] == ["py.warnings"]


def test_an_exception_logged_after_its_span(tracing_capture: Captured) -> None:
    """The innermost span that it left counts, and only while nothing is current at the log call."""
    log = logging.getLogger("server")

    def handler() -> None:
        with tracing.span("outer"), tracing.span("inner"):
            raise LookupError("no stock")

    try:
        handler()
    except LookupError:
        log.exception("the server says so")
        with tracing.span("around"):
            log.exception("inside another span")
    after, inside = tracing_capture.logs
    assert after["span_id"] == tracing_capture.span("inner")["span_id"]
    assert inside["span_id"] == tracing_capture.span("around")["span_id"]


def test_an_exception_that_left_no_span_has_no_ids(tracing_capture: Captured) -> None:
    """Also when it looks like one that did, at the same place of the program and in the same memory."""
    log = logging.getLogger("server")

    def work(traced: bool) -> None:
        if traced:
            with tracing.span("work"):
                raise LookupError("no stock")
        raise LookupError("no stock")

    for number in range(2 * failures.MARKS_MAX):
        try:
            work(number % 2 == 0)
        except LookupError:
            log.exception("%d", number)
    assert [("trace_id" in line) for line in tracing_capture.logs] == [True, False] * failures.MARKS_MAX


def test_a_link_in_the_place_of_a_freed_one_is_told_from_it(tracing_capture: Captured) -> None:
    """Addresses are given out anew; what was remembered of another piece of code does not count."""
    with pytest.raises(LookupError) as caught, tracing.span("work"):
        raise LookupError("no stock")
    assert failures.origin(caught.value) is not None
    link = caught.value.__traceback__
    assert link is not None
    mark = failures._marks[id(link)]
    failures._marks[id(link)] = mark._replace(instruction=mark.instruction + 2)
    assert failures.origin(caught.value) is None
    failures._marks[id(link)] = mark._replace(code=(lambda: None).__code__)
    assert failures.origin(caught.value) is None


def test_nothing_is_put_on_the_exception(tracing_capture: Captured) -> None:
    """Programs print and send what is on it."""
    with pytest.raises(LookupError) as caught, tracing.span("work"):
        raise LookupError("no stock")
    assert vars(caught.value) == {} and caught.value.args == ("no stock",)


def test_a_hook_that_fails_does_no_harm(tracing_capture: Captured, capsys: Any) -> None:
    """An exception whose text cannot be had is printed by Python as ever, and recorded as far as it goes."""

    class Broken(Exception):
        def __str__(self) -> str:
            raise ValueError("no text")

    try:
        raise Broken
    except Broken as error:
        sys.excepthook(Broken, error, error.__traceback__)
    assert "Broken" in capsys.readouterr().err
    assert tracing_capture.logs[0]["exception"]["type"].endswith("Broken")
