"""A sender with positions, started by the kill test: sends its lines until each is acknowledged.

Usage: position_sender.py URL SPOOL_ID LINES SEED ACK_FILE. Appends each acknowledged offset to ACK_FILE.
"""

from __future__ import annotations

import http.client
import json
import random
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit


def lines_of(spool_id: str, count: int) -> list[bytes]:
    """The lines of a spool: the same for sender and test."""
    return [
        json.dumps(
            {
                "timestamp": f"2026-11-24T05:{number // 60 % 60:02}:{number % 60:02}.{number:09}Z",
                "level": "INFO",
                "service": f"sender-{spool_id[:4]}",
                "message": f"line {number} of {spool_id[:4]}",
            }
        ).encode()
        + b"\n"
        for number in range(count)
    ]


def offsets_of(lines: list[bytes]) -> list[int]:
    """The logical offset of each line, and of the end."""
    offsets = [0]
    for line in lines:
        offsets.append(offsets[-1] + len(line))
    return offsets


def send(url: str, spool_id: str, count: int, seed: int, ack_file: Path) -> None:
    """Send in batches of random size, again after every trouble, until the end is acknowledged."""
    lines = lines_of(spool_id, count)
    offsets = offsets_of(lines)
    header = {
        "backtrail_spool": 1,
        "spool_id": spool_id,
        "segment": 0,
        "first_offset": 0,
        "resource": {"service.name": f"sender-{spool_id[:4]}"},
    }
    header_line = json.dumps(header).encode() + b"\n"
    chance = random.Random(seed)
    address = urlsplit(url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=30)
    acknowledged = 0
    with ack_file.open("a") as acks:
        while acknowledged < offsets[-1]:
            at = offsets.index(acknowledged)
            # now and then something that was acknowledged is sent again, as after a lost answer
            start = max(0, at - chance.choice([0, 0, 0, 1, 50]))
            batch = lines[start : at + chance.randint(1, 10)]
            headers = {
                "Backtrail-Format": "1",
                "Backtrail-Spool": spool_id,
                "Backtrail-Offset": str(offsets[start]),
            }
            try:
                connection.request("POST", "/v1/records", header_line + b"".join(batch), headers)
                response = connection.getresponse()
                answer = json.loads(response.read())
                if response.status == 200:
                    acknowledged = max(acknowledged, answer["acknowledged_offset"])
                    acks.write(f"{acknowledged}\n")
                    acks.flush()
                    time.sleep(chance.uniform(0.0, 0.01))  # a program that logs, not a bulk load
                    continue
                if response.status not in (429, 503):
                    raise SystemExit(f"{response.status}: {answer}")
            except (OSError, http.client.HTTPException, ValueError):
                connection.close()
            time.sleep(0.02)  # the collector is away: as a shipper backs off


if __name__ == "__main__":
    send(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), Path(sys.argv[5]))
