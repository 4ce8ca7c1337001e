"""Real senders of other protocols against a running collector."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import logging_loki
import pytest
from elasticsearch import Elasticsearch, helpers
from opentelemetry.exporter.zipkin.json import ZipkinExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from collector.service import Collector
from collector.settings import Settings

pytestmark = pytest.mark.flow


@pytest.fixture
def collector(tmp_path: Path) -> Iterator[Collector]:
    settings = Settings(data_dir=tmp_path / "data", port=0, store="memory", commit_interval_s=0.05)
    with Collector(settings) as running:
        yield running


def found(collector: Collector, q: str = "*") -> list[dict[str, Any]]:
    assert collector.pipeline.drain(30)
    return list(collector.pipeline.answers.logs(q, limit=1000)["records"])


def test_the_official_elasticsearch_client(collector: Collector) -> None:
    """Its handshake, its bulk helper, its way to hear of errors; the same ids again change nothing."""
    with Elasticsearch(collector.url) as client:
        assert client.info()["version"]["number"] == "8.14.0"
        actions = [
            {"_op_type": "create", "_index": "logs-app", "_id": f"{n}", "message": f"line {n}", "n": n}
            for n in range(700)
        ]
        for _ in range(2):
            assert helpers.bulk(client, actions, chunk_size=200) == (700, [])
        stored, errors = helpers.bulk(
            client,
            [{"_op_type": "delete", "_index": "a", "_id": "1"}, {"_index": "a", "message": "kept"}],
            raise_on_error=False,
        )
        assert stored == 1 and len(errors) == 1
    assert len(found(collector)) == 701


def test_the_zipkin_exporter_of_opentelemetry(collector: Collector) -> None:
    """A whole trace, with parents and errors."""
    provider = TracerProvider(resource=Resource({"service.name": "stock"}))
    provider.add_span_processor(BatchSpanProcessor(ZipkinExporter(endpoint=f"{collector.url}/api/v2/spans")))
    tracer = provider.get_tracer("shop")
    with tracer.start_as_current_span("outer") as outer:
        try:
            with tracer.start_as_current_span("inner"):
                raise ValueError("no")
        except ValueError:
            pass
    provider.shutdown()
    assert collector.pipeline.drain(30)
    trace_id = f"{outer.get_span_context().trace_id:032x}"
    trace = collector.pipeline.answers.trace_model(trace_id)
    (root,) = trace.roots
    assert (root.name, root.service) == ("outer", "stock")
    (inner,) = root.children
    assert inner.record.is_error and inner.record.status is not None
    assert inner.record.status.message == "ValueError: no"


def test_a_logging_handler_for_loki(collector: Collector) -> None:
    """A stock handler, with labels of its own."""
    logger = logging.getLogger("test.loki")
    logger.propagate = False
    handler = logging_loki.LokiHandler(
        url=f"{collector.url}/loki/api/v1/push", tags={"application": "shop"}, version="1"
    )
    logger.addHandler(handler)
    try:
        for number in range(5):
            logger.error("trace_id=%032x line %d", 7, number)
    finally:
        logger.removeHandler(handler)
        handler.close()
    records = found(collector)
    assert sorted(one["message"][-6:] for one in records) == [f"line {n}" for n in range(5)]
    assert {(one["service"], one["level"], one["trace_id"]) for one in records} == {
        ("shop", "ERROR", f"{7:032x}")
    }


RSYSLOG = """
module(load="imfile")
module(load="omelasticsearch")
global(workDirectory="{directory}")
template(name="document" type="list") {{
  constant(value="{{\\"@timestamp\\":\\"")
  property(name="timereported" dateFormat="rfc3339")
  constant(value="\\",\\"service.name\\":\\"shop\\",\\"message\\":\\"")
  property(name="msg" format="json")
  constant(value="\\"}}")
}}
input(type="imfile" File="{log}" Tag="shop:" addMetadata="off")
action(type="omelasticsearch" server="127.0.0.1" serverport="{port}" template="document"
  searchIndex="logs-shop" searchType="" bulkmode="on" maxbytes="1m" queue.type="linkedlist"
  action.resumeretrycount="-1")
"""


def test_omelasticsearch_of_rsyslog(
    collector: Collector, tmp_path: Path, need: Callable[[bool, str], None]
) -> None:
    """From a file through rsyslog's bulk sender, every line once."""
    module = Path("/usr/lib/x86_64-linux-gnu/rsyslog/omelasticsearch.so")
    rsyslogd = shutil.which("rsyslogd", path=f"{os.environ['PATH']}:/usr/sbin")
    need(rsyslogd is not None and module.exists(), "rsyslog with omelasticsearch")
    log, config, pid_file = tmp_path / "shop.log", tmp_path / "rsyslog.conf", tmp_path / "pid"
    port = collector.url.rpartition(":")[2]
    config.write_text(RSYSLOG.format(directory=tmp_path, log=log, port=port))
    log.write_text("".join(f'line {n} said "hi"\n' for n in range(300)))
    assert rsyslogd is not None
    with subprocess.Popen([rsyslogd, "-n", "-f", config, "-i", pid_file]) as process:
        try:
            wait_for(lambda: len(found(collector)) >= 300)
        finally:
            process.send_signal(signal.SIGTERM)
    records = found(collector)
    assert sorted(one["message"] for one in records) == sorted(f'line {n} said "hi"' for n in range(300))
    assert {one["service"] for one in records} == {"shop"}


def wait_for(condition: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(1200):
        if condition():
            return
        pause.wait(0.05)
    raise AssertionError("it did not happen in time")
