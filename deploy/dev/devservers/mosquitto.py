"""Mosquitto, an MQTT broker, from the distribution's package."""

from __future__ import annotations

import os
import shutil
import socket
from typing import Final

from devservers.process import ServerProcess, free_port, give, private_directory
from devservers.unavailable import ServerUnavailable

# CONNECT of MQTT 3.1.1 (section 3.1): clean session, 10 s keep-alive, client "up"; CONNACK says that it may.
_CONNECT: Final = b"\x10\x0e\x00\x04MQTT\x04\x02\x00\x0a\x00\x02up"
_CONNACK: Final = b"\x20\x02\x00\x00"


class Mosquitto(ServerProcess):
    """One broker on loopback that keeps everything in memory."""

    def __init__(self) -> None:
        """Prepare a broker; `start` starts it.

        Raises:
            ServerUnavailable: Mosquitto is not installed.
        """
        # Debian puts it where the path of an ordinary user does not lead.
        program = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
        if program is None:
            raise ServerUnavailable("Mosquitto is not installed (Debian: mosquitto)")
        self.port = free_port()
        self.url = f"mqtt://127.0.0.1:{self.port}"
        directory = private_directory("mosquitto")
        configuration = directory / "mosquitto.conf"
        # By default it keeps 1 000 messages of the second quality for a client and drops the rest.
        configuration.write_text(
            f"listener {self.port} 127.0.0.1\nallow_anonymous true\npersistence false\n"
            "max_queued_messages 100000\n"
        )
        give(configuration)
        super().__init__(
            "Mosquitto",
            [program, "-c", str(configuration)],
            directory=directory,
            env={"PATH": "/usr/bin:/bin"},
            is_up=self._answers,
            start_timeout_s=20.0,
        )

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(_CONNECT)
                return connection.recv(4) == _CONNACK
        except OSError:
            return False
