"""A process that appends to a log until it is killed: `wal_appender.py DIRECTORY THREADS`.

Each acknowledged line is named on standard output, one write a line, after `append` has returned.
"""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

from collector.wal import Envelope, Wal, WalBatch, WalLimits

LIMITS = WalLimits(bytes_max=1024**3, segment_bytes_max=32_768, frame_bytes_max=2048, disk_free_bytes_min=0)


def append_for_ever(wal: Wal, thread: int) -> None:
    number = 0
    while True:
        texts = [f"{os.getpid()}-{thread}-{number + n}" for n in range(1 + number % 40)]
        lines = b"".join(b'{"m":"%b"}\n' % text.encode() for text in texts)
        wal.append(WalBatch(Envelope(received_ns=1), lines))
        os.write(1, "".join(f"{text}\n" for text in texts).encode())
        number += len(texts)


if __name__ == "__main__":
    log = Wal.open(Path(sys.argv[1]), limits=LIMITS)
    for at in range(int(sys.argv[2])):
        threading.Thread(target=append_for_ever, args=(log, at)).start()
