"""Google Pub/Sub as a process: the small service beside this file."""

from __future__ import annotations

import importlib.util
import os
import socket
import sys
from pathlib import Path
from typing import Final

from devservers.process import ServerProcess, free_port, private_directory
from devservers.unavailable import ServerUnavailable

START_TIMEOUT_S: Final = 60.0  # 1 s on an idle machine, mostly imports


class PubSub(ServerProcess):
    """One service on loopback that keeps everything in memory."""

    def __init__(self) -> None:
        """Prepare a service; `start` starts it.

        Raises:
            ServerUnavailable: the client library, whose messages it uses, is not installed.
        """
        if importlib.util.find_spec("google.pubsub_v1") is None:
            raise ServerUnavailable("google-cloud-pubsub is not installed")
        self.port = free_port()
        self.url = f"127.0.0.1:{self.port}"  # as PUBSUB_EMULATOR_HOST has it
        super().__init__(
            "Pub/Sub",
            [sys.executable, "-m", "devservers.pubsub_service", str(self.port)],
            directory=private_directory("pubsub"),
            env={
                "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
                "PYTHONPATH": str(Path(__file__).resolve().parents[1]),
            },
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
