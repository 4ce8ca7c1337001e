"""Moto, which answers as AWS does, as a server: the Python package of this environment."""

from __future__ import annotations

import importlib.util
import os
import socket
import sys
from typing import Final

from devservers.process import ServerProcess, free_port, private_directory
from devservers.unavailable import ServerUnavailable

START_TIMEOUT_S: Final = 60.0  # 2 s on an idle machine, mostly imports


class Moto(ServerProcess):
    """One server on loopback that keeps everything in memory."""

    def __init__(self) -> None:
        """Prepare a server; `start` starts it.

        Raises:
            ServerUnavailable: Moto is not installed.
        """
        if importlib.util.find_spec("moto") is None:
            raise ServerUnavailable("Moto is not installed (pip install 'moto[server]')")
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        super().__init__(
            "Moto",
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)],
            directory=private_directory("moto"),
            env={"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "HOME": "/nonexistent"},
            is_up=self._answers,
            start_timeout_s=START_TIMEOUT_S,
            as_root=True,  # the interpreter may be where an ordinary user may not look
        )

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return True
        except OSError:
            return False
