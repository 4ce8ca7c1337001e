"""What the store remembers on the collector's own disk: how far it is durable, and how far it went.

`durable_seq` is what `commit` returned; `reserved_seq` is a number that nothing sent so far is above. Between
the two lies what an earlier process may have sent without hearing the answer: exactly those records
are looked up when they come again. Numbers are reserved in advance, so that this costs no write a batch.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import msgspec

from collector.errors import Damaged

FORMAT_VERSION: Final = 1
RESERVE: Final = 200_000  # sequence numbers at a time: a few seconds at full speed


class State(msgspec.Struct, kw_only=True):
    """The file's content."""

    version: int = FORMAT_VERSION
    cluster_uuid: str = ""
    stream: str = ""  # the name of the stream of logs, as a stand-in for all
    durable_seq: int = 0
    reserved_seq: int = 0


class StateFile:
    """A small file that is replaced as a whole; for one process at a time."""

    def __init__(self, path: Path, *, stream: str) -> None:
        """Read it; of other streams nothing is known.

        Raises:
            Damaged: the file is not ours.
        """
        self._path = path
        self.state = State(stream=stream)
        if path.is_file():
            try:
                found = msgspec.json.decode(path.read_bytes(), type=State)
            except msgspec.MsgspecError as error:
                raise Damaged(
                    f"{path}: {error}; remove it: records of the write-ahead log are then looked up again"
                ) from None
            if found.stream == stream:
                self.state = found

    def begin(self, cluster_uuid: str) -> bool:
        """Say which cluster it is; return whether it is the one that is remembered, or the first."""
        same = self.state.cluster_uuid in ("", cluster_uuid)
        if self.state.cluster_uuid != cluster_uuid:
            self.state = State(cluster_uuid=cluster_uuid, stream=self.state.stream)
            self._write()
        return same

    @property
    def durable_seq(self) -> int:
        """Every record up to here is in the cluster."""
        return self.state.durable_seq

    def reserve(self, seq: int) -> None:
        """Call before a record with this number is sent for the first time."""
        if seq > self.state.reserved_seq:
            self.state.reserved_seq = seq + RESERVE
            self._write()

    def make_durable(self, seq: int) -> None:
        """Everything up to here was answered for."""
        if seq > self.state.durable_seq:
            self.state.durable_seq = seq
            self._write()

    def _write(self) -> None:
        half = self._path.with_suffix(".new")
        with half.open("wb") as handle:
            handle.write(msgspec.json.encode(self.state))
            handle.flush()
            os.fsync(handle.fileno())
        half.replace(self._path)
        directory = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
