"""Commands that copy a data directory and bring it back: backup, restore."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from collector.cli_app import AsJson, DataDir, app, give

if TYPE_CHECKING:
    from collector.service.backup import Manifest


@app.command(short_help="Copy a data directory, also while its collector runs.")
def backup(
    target: Annotated[Path, typer.Argument(help="A new or an empty directory.")],
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Copy everything that was taken in so far, also while a collector is running on the directory.

    Without --data-dir it is the directory that the collector's settings name.
    """
    from collector.service.backup import back_up

    source = _directory(data_dir)
    manifest = back_up(source, target)
    said = f"{source} is backed up: {_size_of(manifest)} in {target}"
    give(_answer(source, target, manifest), lambda _, width: [said], as_json=as_json)


@app.command(short_help="Make a data directory of a backup.")
def restore(
    source: Annotated[Path, typer.Argument(metavar="BACKUP", help="What `backtrail backup` has made.")],
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Make a data directory of a backup; each file is checked, and nothing that is there is overwritten.

    The collector goes on from there as after a crash. Programs that had sent more since send no more than
    they still keep; what is missing then is in `backtrail ledger`.
    """
    from collector.service.backup import restore as bring_back

    target = _directory(data_dir)
    manifest = bring_back(source, target)
    said = f"{target} is as it was on {manifest.made}: {_size_of(manifest)}; next: backtrail serve"
    give(_answer(source, target, manifest), lambda _, width: [said], as_json=as_json)


def _directory(data_dir: Path | None) -> Path:
    from collector.settings import load

    return data_dir or load().settings.data_dir


def _answer(source: Path, target: Path, manifest: Manifest) -> dict[str, Any]:
    return {
        "source": str(source),
        "target": str(target),
        "made": manifest.made,
        "bytes": manifest.bytes,
        "files": len(manifest.files),
    }


def _size_of(manifest: Manifest) -> str:
    from collector.cli_tables import bytes_text
    from collector.cli_text import count

    return f"{bytes_text(manifest.bytes)} in {count(len(manifest.files), 'file')}"
