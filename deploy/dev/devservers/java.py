"""Which of the installed Java runtimes fits a server."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from devservers.unavailable import ServerUnavailable

_PLACES = ("/usr/lib/jvm", "/opt/java", "/opt", "/usr/java", "/Library/Java/JavaVirtualMachines")


def java_home(at_least: int, at_most: int, *, needed_by: str) -> Path:
    """The home of the newest runtime whose major version lies between the bounds.

    Raises:
        ServerUnavailable: none does; the message says which were found.
    """
    found = dict(sorted((version, home) for home, version in _installed()))
    fitting = [version for version in found if at_least <= version <= at_most]
    if not fitting:
        seen = ", ".join(map(str, found)) or "none"
        raise ServerUnavailable(f"{needed_by} needs Java {at_least} to {at_most}; installed: {seen}")
    return found[max(fitting)]


def _installed() -> Iterator[tuple[Path, int]]:
    homes = [Path(os.environ["JAVA_HOME"])] if os.environ.get("JAVA_HOME") else []
    on_path = shutil.which("java")
    if on_path:
        homes.append(Path(on_path).resolve().parents[1])
    for place in map(Path, _PLACES):
        if place.is_dir():
            homes += sorted(place.iterdir()) + [home / "Contents" / "Home" for home in place.iterdir()]
    for home in homes:
        release = home / "release"
        if (home / "bin" / "java").exists() and release.is_file():
            version = re.search(r'JAVA_VERSION="(?:1\.)?(\d+)', release.read_text(errors="replace"))
            if version:
                yield home, int(version[1])
