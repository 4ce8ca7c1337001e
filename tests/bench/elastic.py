"""How fast records get into a local Elasticsearch, beside the server's own ceiling and rsyslog, in one run.

`python -m tests.bench.elastic [--records N] [--rounds N] [--only NAME]`. The ceiling is what the server takes
of the very same documents, encoded beforehand, with the same ids, bulk size and mode, over one connection.
Each round runs every contender once; figures on a shared machine drift, ratios between neighbours hold.

"client in threads" sends the ceiling's bodies through the official client as the store does, several at once,
and "client in a loop", for which one has to ask with `--only`, through the asynchronous one: which of the two
the collector should use.
"""

# ruff: noqa: E402  (the path to the servers comes first)
from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "deploy" / "dev"))

from devservers import Elasticsearch, ServerUnavailable, free_port
from elasticsearch import AsyncElasticsearch

from collector.indexing import Indexer
from collector.intake import Intake, open_log
from collector.receive.lines import record_from_line
from collector.store.elastic import open_store
from collector.store.elastic.bulk import FILTER_PATH, Item, body_of, chunks
from collector.store.elastic.connection import JSON, NDJSON, Connection, untouched
from collector.store.elastic.encoding import DocumentEncoder
from collector.store.elastic.guard import MappingGuard
from collector.store.elastic.names import Names
from collector.store.elastic.options import ElasticOptions
from tests.bench.service import HEADER, SPOOL, lines

BATCH_LINES = 5_000
CLIENT_BULKS_AT_ONCE = 3


class Figures(dict[str, Any]):
    """What one contender did in one round."""


def documents(records: int, namespace: str) -> list[bytes]:
    """Bulk bodies of what the store would send."""
    names = Names(namespace=namespace)
    encoder = DocumentEncoder(MappingGuard(fields_max=1_000, new_keys_per_hour_max=1_000))
    shared = msgspec.json.decode(HEADER)["resource"]
    options = ElasticOptions(hosts=("http://unused:9200",))
    offset = 0
    items = []
    for number, line in enumerate(lines(records), 1):
        uid = f"{SPOOL}-{offset}"
        record = record_from_line(line, uid=uid, resource=shared, received_ns=time.time_ns(), seq=number)
        items.append(Item(record, names.stream_of(record.kind), uid, encoder.encode(record)))
        offset += len(line)
    bulks = chunks(items, bytes_max=options.bulk_bytes, records_max=options.bulk_records_max)
    return [body_of(bulk) for bulk in bulks]


def prepare(server: Elasticsearch, namespace: str, directory: Path) -> str:
    """Templates in place; the URL of a store in a namespace of its own."""
    url = f"{server.url}?namespace={namespace}&replicas=0"
    open_store(url, directory / "prepare").close()
    return url


def ceiling(server: Elasticsearch, directory: Path, records: int) -> Figures:
    """The server by itself."""
    namespace = uuid4().hex
    prepare(server, namespace, directory)
    bodies = documents(records, namespace)
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=120)
    servers_cpu, started = _cpu_of(server_pid(server)), time.perf_counter()
    for body in bodies:
        connection.request(
            "POST", f"/_bulk?filter_path={FILTER_PATH}", body, {"Content-Type": "application/x-ndjson"}
        )
        answer = connection.getresponse().read()
        if b'"error"' in answer:
            raise RuntimeError(answer[:400])
    server.request("POST", f"/*-backtrail.otel-{namespace}/_refresh")
    return Figures(
        seconds=time.perf_counter() - started,
        server_cpu_s_per_10k=(_cpu_of(server_pid(server)) - servers_cpu) / records * 10_000,
        bytes_per_record=_bytes_on_disk(server, *_streams(namespace)) / records,
    )


def drain(server: Elasticsearch, directory: Path, records: int) -> Figures:
    """A collector that has everything in its write-ahead log already."""
    namespace = uuid4().hex
    store = open_store(prepare(server, namespace, directory), directory / "store")
    wal, ledger = open_log(directory, durable_seq=0)
    intake = Intake(wal, ledger)
    for headers, body in _requests(records):
        intake.records(headers, body)
    indexer = Indexer(wal, store, ledger)
    servers_cpu, cpu, started = _cpu_of(server_pid(server)), _cpu_s(), time.perf_counter()
    indexer.start()
    if not indexer.wait_until(wal.last_seq, 600):
        raise RuntimeError(str(indexer.stats()))
    figures = Figures(
        seconds=time.perf_counter() - started,
        cpu_s_per_10k=(_cpu_s() - cpu) / records * 10_000,
        server_cpu_s_per_10k=(_cpu_of(server_pid(server)) - servers_cpu) / records * 10_000,
    )
    assert store.count() == records
    indexer.stop()
    wal.close()
    ledger.close()
    store.close()
    figures["bytes_per_record"] = _bytes_on_disk(server, *_streams(namespace)) / records
    return figures


def end_to_end(server: Elasticsearch, directory: Path, records: int) -> Figures:
    """From the first byte over HTTP into a collector process until the last record can be found."""
    namespace = uuid4().hex
    url = prepare(server, namespace, directory)
    port = free_port()
    environment = {**os.environ, "BACKTRAIL_DATA_DIR": str(directory / "data"), "BACKTRAIL_STORE": url}
    requests = list(_requests(records))
    with (directory / "collector.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "collector.service"],
            env={**environment, "BACKTRAIL_PORT": str(port)},
            stdout=log,
            stderr=log,
        )
    try:
        _wait(lambda: _get(port, "/readyz") is not None)
        servers_cpu = _cpu_of(server_pid(server))
        started_cpu = _cpu_of(process.pid)  # what it took to start
        cpu, started = _cpu_s(), time.perf_counter()
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        for headers, body in requests:
            connection.request("POST", "/v1/records", body, headers)
            answer = connection.getresponse()
            if answer.status != 200:
                raise RuntimeError(answer.read()[:400])
            answer.read()
        sender_cpu = _cpu_s() - cpu
        # /readyz costs neither side anything, and says when the last record can be found
        _wait(lambda: str((_get(port, "/readyz") or {}).get("detail")).startswith("0 records"))
        seconds = time.perf_counter() - started
        collector_cpu = _cpu_of(process.pid) - started_cpu
        servers_cpu = _cpu_of(server_pid(server)) - servers_cpu
        found = (_get(port, "/api/v1/stats") or {}).get("records")
        if found != records:
            raise RuntimeError(f"{records} records were sent and {found} are found")
    finally:
        process.terminate()
        process.wait(60)
    return Figures(
        seconds=seconds,
        cpu_s_per_10k=collector_cpu / records * 10_000,
        sender_cpu_s_per_10k=sender_cpu / records * 10_000,
        server_cpu_s_per_10k=servers_cpu / records * 10_000,
    )


def rsyslog(server: Elasticsearch, directory: Path, records: int) -> Figures:
    """rsyslog's imfile and omelasticsearch, the file-to-Elasticsearch peer, with the same lines."""
    program = shutil.which("rsyslogd")
    if program is None or not Path("/usr/lib/x86_64-linux-gnu/rsyslog/omelasticsearch.so").exists():
        raise ServerUnavailable("rsyslog with omelasticsearch (Debian: rsyslog-elasticsearch)")
    index = f"rsyslog-{uuid4().hex}"
    settings = {"number_of_replicas": 0, "refresh_interval": "10s"}
    server.request("PUT", f"/{index}", {"settings": settings})
    source = directory / "lines.log"
    config = directory / "rsyslog.conf"
    config.write_text(f"""
global(workDirectory="{directory}" maxMessageSize="64k")
module(load="imfile" mode="inotify")
module(load="omelasticsearch")
input(type="imfile" File="{source}" Tag="bench" ruleset="out")
template(name="line" type="list") {{ property(name="msg") }}
ruleset(name="out" queue.type="LinkedList" queue.size="200000" queue.dequeueBatchSize="3000") {{
  action(type="omelasticsearch" server="127.0.0.1" serverport="{server.port}" template="line"
         searchIndex="{index}" searchType="" bulkmode="on" maxbytes="5m" action.resumeRetryCount="-1")
}}
""")
    body = b"".join(lines(records))
    source.write_bytes(b"")
    process = subprocess.Popen(
        [program, "-n", "-f", str(config), "-i", str(directory / "rsyslog.pid")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        time.sleep(1)  # it says nowhere that it watches
        servers_cpu, started = _cpu_of(server_pid(server)), time.perf_counter()
        source.write_bytes(body)

        def all_there() -> bool:  # without a refresh, which would cost the peer its speed
            stats = server.request("GET", f"/{index}/_stats/indexing?filter_path=_all.primaries.indexing")
            return int(stats["_all"]["primaries"]["indexing"]["index_total"]) >= records

        _wait(all_there)
        server.request("POST", f"/{index}/_refresh")
        seconds = time.perf_counter() - started
        cpu = _cpu_of(process.pid)
        servers_cpu = _cpu_of(server_pid(server)) - servers_cpu
    finally:
        process.terminate()
        process.wait(60)
    return Figures(
        seconds=seconds,
        cpu_s_per_10k=cpu / records * 10_000,
        server_cpu_s_per_10k=servers_cpu / records * 10_000,
        bytes_per_record=_bytes_on_disk(server, index) / records,
    )


def client_in_threads(server: Elasticsearch, directory: Path, records: int) -> Figures:
    """The official client as the store uses it: bytes through, a thread for each bulk on its way."""
    url = prepare(server, namespace := uuid4().hex, directory)
    connection = Connection(ElasticOptions.from_url(url))

    def send(body: bytes) -> bytes:
        return connection.request("POST", "/_bulk", body, params={"filter_path": FILTER_PATH}, timeout_s=120)

    def everything(bodies: list[bytes]) -> list[bytes]:
        with ThreadPoolExecutor(CLIENT_BULKS_AT_ONCE) as pool:
            return list(pool.map(send, bodies))

    figures = _sent(everything, documents(records, namespace), records)
    connection.close()
    return figures


def client_in_a_loop(server: Elasticsearch, directory: Path, records: int) -> Figures:
    """The official asynchronous client with the same bodies, as many on their way, bytes through as well."""
    prepare(server, namespace := uuid4().hex, directory)

    async def send_all(bodies: list[bytes]) -> list[bytes]:
        client = AsyncElasticsearch([server.url], serializers=untouched(), max_retries=0, request_timeout=120)
        room = asyncio.Semaphore(CLIENT_BULKS_AT_ONCE)

        async def send(body: bytes) -> bytes:
            async with room:
                answer = await client.perform_request(
                    "POST",
                    "/_bulk",
                    params={"filter_path": FILTER_PATH},
                    headers={"accept": JSON, "content-type": NDJSON},
                    body=body,
                )
            content = answer.body
            assert isinstance(content, bytes)
            return content

        try:
            return await asyncio.gather(*map(send, bodies))
        finally:
            await client.close()

    return _sent(lambda bodies: asyncio.run(send_all(bodies)), documents(records, namespace), records)


def _sent(send_all: Callable[[list[bytes]], list[bytes]], bodies: list[bytes], records: int) -> Figures:
    cpu, started = _cpu_s(), time.perf_counter()
    answers = send_all(bodies)
    figures = Figures(
        seconds=time.perf_counter() - started, cpu_s_per_10k=(_cpu_s() - cpu) / records * 10_000
    )
    if wrong := [answer for answer in answers if b'"error"' in answer]:
        raise RuntimeError(wrong[0][:400])
    return figures


CONTENDERS: dict[str, Callable[[Elasticsearch, Path, int], Figures]] = {
    "ceiling": ceiling,
    "drain a filled log": drain,
    "client in threads": client_in_threads,
    "end to end": end_to_end,
    "rsyslog": rsyslog,
}
CLIENTS: dict[str, Callable[[Elasticsearch, Path, int], Figures]] = {
    "client in a loop": client_in_a_loop,
}


def main(argv: list[str] | None = None) -> int:
    """Print the table, and write it to bench-results/elastic.json."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--version", default="9.4.3")
    parser.add_argument("--only", choices=[*CONTENDERS, *CLIENTS], action="append")
    arguments = parser.parse_args(argv)
    results: dict[str, list[Figures]] = {}
    with Elasticsearch(arguments.version, heap_mb=1024) as server:
        with tempfile.TemporaryDirectory() as directory:
            ceiling(server, Path(directory), 30_000)  # a cold server is a third slower
        for number in range(arguments.rounds):
            for name in arguments.only or CONTENDERS:
                print(f"round {number + 1}: {name} …", file=sys.stderr)
                with tempfile.TemporaryDirectory(prefix="backtrail-bench-") as directory:
                    try:
                        figures = {**CONTENDERS, **CLIENTS}[name](server, Path(directory), arguments.records)
                    except ServerUnavailable as error:
                        print(f"{name}: left out: {error}", file=sys.stderr)
                        continue
                results.setdefault(name, []).append(figures)
    print(_table(results, arguments.records))
    path = REPOSITORY / "bench-results" / "elastic.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"records": arguments.records, "results": results}, indent=1))
    return 0


def _table(results: dict[str, list[Figures]], records: int) -> str:
    """Ratios are between neighbours of one round; of each the median."""
    rows = [
        "| contender | records/s (each round) | × ceiling | × rsyslog | CPU s/10 k records | its sender's"
        " | the server's | bytes/record |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name, rounds in results.items():
        cells = [" / ".join(f"{records / figures['seconds']:,.0f}" for figures in rounds)]
        for peer in ("ceiling", "rsyslog"):
            pairs = zip(results.get(peer, []), rounds, strict=False)
            ratios = [one["seconds"] / mine["seconds"] for one, mine in pairs]
            cells.append(f"{statistics.median(ratios):.2f}" if ratios else "")
        cells += [
            f"{statistics.median(one[key] for one in rounds):.3g}" if key in rounds[0] else ""
            for key in (
                "cpu_s_per_10k",
                "sender_cpu_s_per_10k",
                "server_cpu_s_per_10k",
                "bytes_per_record",
            )
        ]
        rows.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(rows)


def _requests(records: int) -> Any:
    """What a shipper sends: headers and body, in order."""
    batch: list[bytes] = []
    offset = 0
    for line in lines(records):
        batch.append(line)
        if len(batch) == BATCH_LINES:
            yield _headers(offset), HEADER + b"".join(batch)
            offset += sum(map(len, batch))
            batch = []
    if batch:
        yield _headers(offset), HEADER + b"".join(batch)


def _headers(offset: int) -> dict[str, str]:
    return {"backtrail-format": "1", "backtrail-spool": SPOOL, "backtrail-offset": str(offset)}


def _streams(namespace: str) -> tuple[str, str]:
    return f"logs-backtrail.otel-{namespace}", f"traces-backtrail.otel-{namespace}"


def _bytes_on_disk(server: Elasticsearch, *targets: str) -> int:
    """After a merge to one segment."""
    where = ",".join(targets)
    server.request("POST", f"/{where}/_forcemerge?max_num_segments=1", timeout_s=300)
    server.request("POST", f"/{where}/_flush")
    found = server.request("GET", f"/{where}/_stats/store")
    return int(found["_all"]["primaries"]["store"]["size_in_bytes"])


def server_pid(server: Elasticsearch) -> int:
    """The process that does the work; what we started is only its launcher."""
    nodes = server.request("GET", "/_nodes/jvm?filter_path=nodes.*.jvm.pid")["nodes"]
    return int(next(iter(nodes.values()))["jvm"]["pid"])


def _cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _cpu_of(pid: int) -> float:
    """CPU seconds of another process so far (Linux)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _get(port: int, path: str) -> Any:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read()
        return json.loads(body) if answer.status == 200 else None
    except OSError:
        return None
    finally:
        connection.close()


def _wait(condition: Callable[[], bool], patience_s: float = 600) -> None:
    deadline = time.monotonic() + patience_s
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError("it never came")
        time.sleep(0.05)


if __name__ == "__main__":
    sys.exit(main())
