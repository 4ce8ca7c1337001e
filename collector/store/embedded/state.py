"""What the store knows about itself beside its partitions: `state.json`.

Losing it does no harm: then everything the write-ahead log still has is replayed, and the partitions
know what they have. It is therefore written without waiting for the disk, except before a deletion.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

from collector.store.embedded.files import replace_file
from collector.store.embedded.snapshot import Figures

STATE: Final = "state.json"


class State(msgspec.Struct):
    """Changed by the writer after each commit."""

    format: int = 1
    durable_seq: int = 0
    partitions: dict[str, Figures] = {}  # each at its last commit
    damaged_partitions: int = 0
    damaged_records: int = 0
    rebuilt_partitions: int = 0
    rebuilt_records: int = 0


def read_state(directory: Path) -> State:
    """The state as it was last written; a fresh one when there is none that can be read."""
    try:
        return msgspec.json.decode((directory / STATE).read_bytes(), type=State)
    except (OSError, msgspec.DecodeError):
        return State()


def write_state(directory: Path, state: State, *, durable: bool = False) -> None:
    """Put the state in place of the one before.

    Raises:
        OSError: the disk is full or failed; the one before is still there.
    """
    replace_file(directory / STATE, msgspec.json.encode(state), durable=durable)
