"""Getting what servers are made of: a cache directory, Maven's client, parts of archives.

A download goes into a directory beside its place and is renamed when it is whole, under a lock, so that
two test runs at once get it once and a run that is killed leaves nothing half done.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from devservers.unavailable import ServerUnavailable

REPOSITORY: Final = Path(__file__).resolve().parents[3]
DOWNLOAD_TIMEOUT_S: Final = 1_800  # a gigabyte over a slow line


def cache_directory() -> Path:
    """Where servers are kept: `BACKTRAIL_SERVERS_CACHE`, else `.cache/servers` of the checkout."""
    given = os.environ.get("BACKTRAIL_SERVERS_CACHE")
    return Path(given).expanduser().resolve() if given else REPOSITORY / ".cache" / "servers"


def cached(name: str, make: Callable[[Path], None]) -> Path:
    """The directory `name` of the cache; made by `make`, which fills an empty one, when it is not there.

    Raises:
        ServerUnavailable: from `make`; nothing is left behind.
    """
    place = cache_directory() / name
    if place.is_dir():
        return place
    place.parent.mkdir(parents=True, exist_ok=True)
    with _locked(place.parent / f".{name}.lock"):
        if place.is_dir():  # somebody else got it while we waited
            return place
        half = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=place.parent))
        try:
            half.chmod(0o755)  # servers run as another user than root
            make(half)
            half.rename(place)
        finally:
            shutil.rmtree(half, ignore_errors=True)
    return place


def maven_get(coordinates: str, *, megabytes: int, into: Path) -> Path:
    """Get one artifact with Maven's client.

    Args:
        coordinates: `group:artifact:version:packaging`.
        megabytes: about how large it is, for the progress bar.
        into: directory that becomes Maven's local repository, so that removing it removes everything.
    Returns:
        The artifact's file, somewhere below `into`.
    Raises:
        ServerUnavailable: there is no Maven client, or it could not get the artifact.
    """
    maven = shutil.which("mvn")
    if maven is None:
        raise ServerUnavailable(f"{coordinates}: needs Maven's client `mvn` to get it (Debian: maven)")
    _, artifact, version, packaging = coordinates.split(":")
    command = [maven, "-q", "-B", "-ntp", f"-Dmaven.repo.local={into}", "dependency:get"]
    command += ["-Dtransitive=false", f"-Dartifact={coordinates}"]
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
        try:
            with progress(f"getting {artifact} {version}", megabytes) as show:
                deadline = time.monotonic() + DOWNLOAD_TIMEOUT_S
                while process.poll() is None and time.monotonic() < deadline:
                    show(_size(into) // 1_000_000)
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        process.wait(0.5)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        found = next(into.rglob(f"{artifact}-{version}.{packaging}"), None)
        if process.returncode != 0 or found is None:
            output.seek(0)
            tail = output.read()[-400:].decode(errors="replace").strip()
            raise ServerUnavailable(f"{coordinates}: Maven could not get it: {' '.join(tail.split())}")
    return found


def unzip_folder(archive: Path, folder: str, into: Path) -> None:
    """Unpack one folder of the archive's only top directory, with the files' permission bits.

    Raises:
        ServerUnavailable: the archive has no such folder.
    """
    with zipfile.ZipFile(archive) as opened:
        members = [item for item in opened.infolist() if item.filename.split("/")[1:2] == [folder]]
        if not members:
            raise ServerUnavailable(f"{archive.name}: no folder {folder!r} in it")
        for item in members:
            relative = Path(*Path(item.filename).parts[2:])
            target = into / relative
            if ".." in relative.parts:
                raise ServerUnavailable(f"{archive.name}: unsafe path {item.filename!r}")
            if item.is_dir():
                target.mkdir(parents=True, exist_ok=True)
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            with opened.open(item) as source, target.open("wb") as sink:
                shutil.copyfileobj(source, sink, 1 << 20)
            # readable by the ordinary user that the server runs as
            target.chmod(0o755 if (item.external_attr >> 16) & 0o100 else 0o644)


@contextlib.contextmanager
def progress(what: str, total: int, unit: str = "MB") -> Iterator[Callable[[int], None]]:
    """Show how far something is: a bar on a terminal, a line at the beginning and the end elsewhere."""
    terminal = sys.stderr.isatty()
    started = time.monotonic()

    def show(done: int) -> None:
        if terminal:
            filled = min(30, 30 * done // max(total, 1))
            bar = "█" * filled + "░" * (30 - filled)
            sys.stderr.write(f"\r{what} {bar} {done}/{total} {unit} ")
            sys.stderr.flush()

    if not terminal:
        sys.stderr.write(f"{what} ({total} {unit}) …\n")
    yield show
    sys.stderr.write(f"{chr(13) if terminal else ''}{what}: done in {time.monotonic() - started:.0f} s\n")


def _size(directory: Path) -> int:
    total = 0
    for root, _, files in os.walk(directory):
        for name in files:
            with contextlib.suppress(OSError):  # Maven renames its partial files meanwhile
                total += (Path(root) / name).stat().st_size
    return total


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
