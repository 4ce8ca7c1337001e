"""Records -> bodies of import requests. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Final

# One import request: large enough that the fsync behind it does not count, small enough for any limit.
BATCH_BYTES_MAX: Final = 2 * 1024 * 1024
BATCH_RECORDS_MAX: Final = 10_000
# What goes with each body; names in lower case, as the intake reads them.
IMPORT_HEADERS: Final = {
    "content-type": "application/x-ndjson",
    "backtrail-format": "1",
    "backtrail-import": "1",
}


def import_bodies(records: Iterable[tuple[str, bytes]]) -> Iterator[bytes]:
    """Cut records into request bodies for `Backtrail-Import`: each line carries its own `uid`.

    Args:
        records: identity and line of each record; a line without its newline is mended.
    """
    lines: list[bytes] = []
    size = 0
    for uid, line in records:
        line = line.strip()
        if line.endswith(b"}"):  # whatever else it is, the collector says best what is wrong with it
            # at the end, because readers of JSON take the last of two equal keys
            line = b'%b,"uid":%b}' % (line[:-1], json.dumps(uid).encode())
        lines.append(line + b"\n")
        size += len(lines[-1])
        if size >= BATCH_BYTES_MAX or len(lines) >= BATCH_RECORDS_MAX:
            yield b"".join(lines)
            lines, size = [], 0
    if lines:
        yield b"".join(lines)
