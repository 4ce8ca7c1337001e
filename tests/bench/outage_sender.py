"""Sends numbered records at a steady rate, in the way that what comes next is fed; started by `outage.py`.

Usage: outage_sender.py library|file|otlp TARGET RECORDS RECORDS_PER_S REQUEST_RECORDS
TARGET: a URL, of `file` a path. Prints `{"sent": …, "refused": …}` at the end. A record's text is
`outage NUMBER` and a filling, 300 bytes in all.
"""

from __future__ import annotations

import json
import logging
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Final

TEXT_BYTES: Final = 300
TIMEOUT_S: Final = 10.0  # OpenTelemetry's exporters' own
FLUSH_S: Final = 120.0


def text_of(number: int) -> str:
    """The same for every way."""
    return f"outage {number} ".ljust(TEXT_BYTES, "x")


def paced(records: int, records_per_s: float) -> Iterator[int]:
    """The numbers, each when it is due."""
    started_s = time.monotonic()
    for number in range(records):
        early_s = started_s + number / records_per_s - time.monotonic()
        if early_s > 0.01:  # some at a time: sleeps are not that exact
            time.sleep(early_s)
        yield number


def by_library(url: str, numbers: Iterator[int]) -> int:
    """Log calls of a program that is traced with our library; return how many were refused to it: none."""
    import tracing

    handle = tracing.configure(service="outage", collector_url=url, level="INFO")
    logger = logging.getLogger("outage")
    for number in numbers:
        logger.info("%s", text_of(number))
    handle.flush(FLUSH_S)
    return 0


def to_file(path: str, numbers: Iterator[int]) -> int:
    """Lines of a log file that somebody else reads."""
    with Path(path).open("a", buffering=1) as file:
        for number in numbers:
            file.write(json.dumps({"message": text_of(number)}) + "\n")
    return 0


def by_otlp(url: str, numbers: Iterator[int], request_records: int) -> int:
    """OTLP over HTTP, each request once; return how many records were answered with anything but 200."""
    from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

    refused = 0
    request, count = ExportLogsServiceRequest(), 0
    records = request.resource_logs.add().scope_logs.add().log_records
    while True:
        number = next(numbers, None)
        if number is not None:
            record = records.add()
            record.time_unix_nano = time.time_ns()
            record.body.string_value = text_of(number)
            count += 1
        if count and (number is None or count == request_records):
            refused += 0 if _post(f"{url}/v1/logs", request.SerializeToString()) else count
            del records[:]
            count = 0
        if number is None:
            return refused


def _post(url: str, body: bytes) -> bool:
    headers = {"Content-Type": "application/x-protobuf"}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=TIMEOUT_S) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def main() -> None:
    """Send, and say what came of it."""
    kind, target, records, rate, request_records = sys.argv[1:]
    numbers = paced(int(records), float(rate))
    if kind == "library":
        refused = by_library(target, numbers)
    elif kind == "file":
        refused = to_file(target, numbers)
    else:
        refused = by_otlp(target, numbers, int(request_records))
    print(json.dumps({"sent": int(records), "refused": refused}))


if __name__ == "__main__":
    main()
