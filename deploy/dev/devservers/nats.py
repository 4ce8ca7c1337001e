"""NATS with JetStream, from the distribution's package."""

from __future__ import annotations

import os
import shutil
import socket

from devservers.process import ServerProcess, free_port, give, private_directory
from devservers.unavailable import ServerUnavailable


class Nats(ServerProcess):
    """One server on loopback; its streams are in a directory that `remove` deletes."""

    def __init__(self) -> None:
        """Prepare a server; `start` starts it.

        Raises:
            ServerUnavailable: NATS is not installed.
        """
        # Debian puts it where the path of an ordinary user does not lead.
        program = shutil.which("nats-server", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
        if program is None:
            raise ServerUnavailable("NATS is not installed (Debian: nats-server)")
        self.port = free_port()
        self.url = f"nats://127.0.0.1:{self.port}"
        directory = private_directory("nats")
        configuration = directory / "nats.conf"
        # A client that the machine has stalled is not to be hung up on: what is sent meanwhile is lost to it.
        configuration.write_text(
            f'listen: "127.0.0.1:{self.port}"\nauthorization {{ timeout: 60 }}\nwrite_deadline: "60s"\n'
            f'jetstream {{ store_dir: "{directory}" }}\n'
        )
        give(configuration)
        super().__init__(
            "NATS",
            [program, "-c", str(configuration)],
            directory=directory,
            env={"PATH": "/usr/bin:/bin"},
            is_up=self._answers,
            start_timeout_s=20.0,
        )

    def _answers(self) -> bool:
        """Whether it introduces itself, which it does unasked."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                return connection.recv(5) == b"INFO "
        except OSError:
            return False
