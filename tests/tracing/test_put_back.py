"""`uninstall()` puts everything back: a process that has had us is, in its globals, one that never had."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import orjson
import pytest

# Every attribute of the classes and modules that we, or what we turn on, may have replaced.
PROGRAM = """
    import asyncio, concurrent.futures, http.client, json, logging, multiprocessing, queue, signal, sys
    import threading, urllib.request, warnings
    import flask, httpx, requests, starlette.applications
    import opentelemetry.sdk.trace
    from opentelemetry import context, propagate, trace

    PLACES = [
        logging, logging.Logger, logging.Handler, threading, threading.Thread, threading.Timer,
        concurrent.futures.ThreadPoolExecutor, concurrent.futures.ProcessPoolExecutor, queue.Queue,
        multiprocessing.Process, asyncio.BaseEventLoop, asyncio.Task, http.client.HTTPConnection,
        urllib.request.OpenerDirector, trace, propagate, context, requests.Session, httpx.Client,
        httpx.AsyncClient, httpx.HTTPTransport, flask.Flask, starlette.applications.Starlette, signal, sys,
        warnings,
    ]
    RENEWED = {"_TRACER_PROVIDER_SET_ONCE"}  # a used one would refuse the program's own provider

    def state():
        found = {}
        for place in PLACES:
            for name, value in vars(place).items():
                if name not in RENEWED:
                    found[f"{place.__name__}.{name}"] = id(value)
        root = logging.getLogger()
        found |= {"level": root.level, "handlers": len(root.handlers), "filters": len(root.filters)}
        found |= {"factory": id(logging.getLogRecordFactory()), "provider": id(trace.get_tracer_provider())}
        found |= {"textmap": id(propagate.get_global_textmap()), "finders": [id(f) for f in sys.meta_path]}
        found |= {"hooks": [id(sys.excepthook), id(threading.excepthook), id(sys.unraisablehook)]}
        return found

    keep = [vars(place).copy() for place in PLACES]  # so that no id is given out anew
    logging.getLogger("shop")
    trace.get_tracer_provider()
    import tracing  # alone it changes nothing that is not put back below
    before = state()
    for _ in range(2):
        tracing.configure(service="orders", spool_dir=sys.argv[1], collector_url="http://127.0.0.1:9",
                          level="DEBUG")
        tracing.instrument()
        with tracing.span("work"):
            logging.getLogger("shop").warning("hello")
        during = state()
        tracing.uninstrument()
        tracing.uninstall()
    after = state()
    names = sorted(before.keys() | after.keys())
    json.dump({
        "left": [name for name in names if before.get(name) != after.get(name)],
        "changed": [name for name in names if before.get(name) != during.get(name)],
    }, sys.stdout)
"""


@pytest.mark.flow
def test_every_global_is_as_it_was(tmp_path: Path) -> None:
    """After two rounds of configuring, instrumenting and taking it all off again."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PROGRAM), str(tmp_path / "spool")],
        timeout=60,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    told = orjson.loads(done.stdout)
    expected = {"Logger.callHandlers", "provider", "textmap", "level", "Thread._bootstrap"}
    assert expected <= set(told["changed"])
    assert told["left"] == []
