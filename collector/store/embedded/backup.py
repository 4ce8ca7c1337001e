"""A copy of a store while it is written to.

Segments never change once they are written, so they are linked rather than copied where the file
system can; what grows or is replaced is copied. The copy is an ordinary store: restoring it means opening it.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Final

from collector.errors import StoreFailed
from collector.store.embedded.damage import segments_of
from collector.store.embedded.files import sync_directory
from collector.store.embedded.partition import DICTIONARY, INDEX, NOTE
from collector.store.embedded.records import RECORDS

_ATTEMPTS_MAX: Final = 20  # merges that may end while one partition is copied


def copy_partition(source: Path, target: Path) -> int:
    """Copy a partition as it is at its last commit; how many bytes it has.

    Raises:
        StoreFailed: merges replaced its files again and again.
        OSError: the disk is full or failed; FileNotFoundError: the partition was dropped meanwhile.
    """
    for _ in range(_ATTEMPTS_MAX):
        shutil.rmtree(target, ignore_errors=True)
        (target / INDEX).mkdir(parents=True)
        try:
            _copy_index(source / INDEX, target / INDEX)
            # After the index: whatever that holds is in the others by now.
            for name in (DICTIONARY, NOTE, RECORDS):
                if (source / name).exists():
                    shutil.copyfile(source / name, target / name)
        except FileNotFoundError:
            if not source.is_dir():
                raise
            continue  # a merge has ended, and has taken away what it merged
        sync_directory(target / INDEX)
        sync_directory(target)
        return sum(path.stat().st_size for path in target.rglob("*") if path.is_file())
    raise StoreFailed(f"{source}: its files changed during {_ATTEMPTS_MAX} attempts to copy them; try again")


def _copy_index(source: Path, target: Path) -> None:
    meta = (source / "meta.json").read_bytes()
    for stem in segments_of(meta):
        found = list(source.glob(f"{stem}.*"))
        if not found:
            raise FileNotFoundError(source / stem)
        for path in found:
            _link_or_copy(path, target / path.name)
    if (source / ".managed.json").exists():
        shutil.copyfile(source / ".managed.json", target / ".managed.json")
    (target / "meta.json").write_bytes(meta)


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise
    except OSError:
        shutil.copyfile(source, target)  # another file system, or one without links
