"""`instrument()` and `uninstrument()`: what is turned on, when, and that it comes off again."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import flask
import grpc
import pytest
from starlette.applications import Starlette
from starlette.routing import Route

import tracing
from tracing.errors import ConfigurationError
from tracing.instrumentation.imports import after_import, forget
from tracing.testing import capturing


def test_everything_is_taken_off_again() -> None:
    """Classes and modules are as they were."""
    before = [
        Starlette.__call__,
        Route.handle,
        flask.Flask.__call__,
        grpc.insecure_channel,
        list(sys.meta_path),
    ]
    with capturing():
        for _ in range(2):
            tracing.instrument()
            assert Starlette.__call__ is not before[0]
            tracing.uninstrument()
    after = [
        Starlette.__call__,
        Route.handle,
        flask.Flask.__call__,
        grpc.insecure_channel,
        list(sys.meta_path),
    ]
    assert after == before


def test_somebody_else_s_instrumentation_is_not_doubled() -> None:
    """`opentelemetry-instrument` has its own for the same library."""
    from opentelemetry.instrumentation.flask import FlaskInstrumentor

    with capturing() as captured:
        FlaskInstrumentor().instrument()
        try:
            app = flask.Flask("theirs")
            app.add_url_rule("/x", view_func=lambda: "ok")
            tracing.instrument("flask")
            app.test_client().get("/x")
            assert [span["span_kind"] for span in captured.spans] == ["SERVER"]
        finally:
            tracing.uninstrument()
            FlaskInstrumentor().uninstrument()


def test_names() -> None:
    """Some, all but some; one that nobody knows is an error."""
    with capturing():
        try:
            assert tracing.instrument("threads", "flask") == ["threads", "flask"]
            assert "flask" not in tracing.instrument(exclude=["flask"])
            with pytest.raises(ConfigurationError, match="pigeons unknown; known are threads"):
                tracing.instrument("pigeons")
        finally:
            tracing.uninstrument()


def test_a_library_is_instrumented_when_it_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not before: a program pays for what it uses. Its loader, its spec and its errors are its own."""
    (tmp_path / "late_library.py").write_text("value = 7")
    (tmp_path / "late_broken.py").write_text("raise ImportError('its own')")
    monkeypatch.syspath_prepend(str(tmp_path))
    called: list[Any] = []
    after_import("late_library", lambda: called.append(sys.modules["late_library"].value))
    after_import("late_broken", lambda: called.append("broken"))
    after_import("late_missing", lambda: called.append("missing"))
    try:
        assert called == []
        module = importlib.import_module("late_library")
        assert called == [7]
        assert type(module.__loader__).__name__ == "SourceFileLoader" and module.__spec__ is not None
        assert module.__spec__.loader is module.__loader__
        with pytest.raises(ImportError, match="its own"):
            importlib.import_module("late_broken")
        with pytest.raises(ModuleNotFoundError):
            importlib.import_module("late_missing")
        after_import("late_library", lambda: called.append("again"))
        assert called == [7, "again"]
    finally:
        forget()


def test_instrument_imports_no_library_of_the_program_s() -> None:
    """Flask, Celery and the others are found without being imported."""
    program = """
import sys, tracing
tracing.configure(service="x", exporter="none")
tracing.instrument()
print(sorted({"flask", "celery", "grpc", "starlette", "httpx", "requests", "urllib3"} & sys.modules.keys()))
import flask
print("traced" if flask.Flask.__call__.__wrapped__ else "")
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, timeout=60, check=False, text=True
    )
    assert done.stdout.splitlines() == ["[]", "traced"], done.stderr
