"""Redis, from the distribution's package."""

from __future__ import annotations

import shutil
import socket

from devservers.process import ServerProcess, free_port, private_directory
from devservers.unavailable import ServerUnavailable


class Redis(ServerProcess):
    """One server on loopback that writes nothing to the disk."""

    def __init__(self) -> None:
        """Prepare a server; `start` starts it.

        Raises:
            ServerUnavailable: Redis is not installed.
        """
        program = shutil.which("redis-server")
        if program is None:
            raise ServerUnavailable("Redis is not installed (Debian: redis-server)")
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        directory = private_directory("redis")
        options = ["--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(directory)]
        super().__init__(
            "Redis",
            [program, *options, "--save", "", "--appendonly", "no"],
            directory=directory,
            env={"PATH": "/usr/bin:/bin"},
            is_up=self._answers,
            start_timeout_s=20.0,
        )

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(7) == b"+PONG\r\n"
        except OSError:
            return False
