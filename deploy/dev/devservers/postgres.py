"""PostgreSQL, from the distribution's package."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Final

from devservers.process import ServerProcess, free_port, private_directory
from devservers.unavailable import ServerUnavailable

START_TIMEOUT_S: Final = 60.0  # 2 s on an idle machine, mostly for making the data directory
_LIBRARY: Final = Path("/usr/lib/postgresql")


class Postgres(ServerProcess):
    """One server on loopback, its data in a directory that `remove` deletes."""

    def __init__(self) -> None:
        """Prepare a server; `start` starts it.

        Raises:
            ServerUnavailable: PostgreSQL is not installed.
        """
        # Debian puts the server's programs where no path leads, by version.
        programs = sorted(_LIBRARY.glob("*/bin/initdb"), key=lambda found: int(found.parts[-3]))
        if not programs:
            raise ServerUnavailable("PostgreSQL is not installed (Debian: postgresql)")
        binaries = programs[-1].parent
        self._is_ready = shutil.which("pg_isready", path=str(binaries)) or "pg_isready"
        self.port = free_port()
        self.url = f"postgresql://tester@127.0.0.1:{self.port}/postgres"
        directory = private_directory("postgres")
        data = directory / "data"
        options = f"-h 127.0.0.1 -p {self.port} -k {directory} -c fsync=off"
        super().__init__(
            "PostgreSQL",
            [
                "sh",
                "-c",
                f"[ -d {data} ] || {binaries}/initdb -D {data} -U tester -A trust --no-sync && "
                f"exec {binaries}/postgres -D {data} {options}",
            ],
            directory=directory,
            env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
            is_up=self._answers,
            start_timeout_s=START_TIMEOUT_S,
        )

    def _answers(self) -> bool:
        asked = [self._is_ready, "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        return subprocess.run(asked, check=False).returncode == 0
