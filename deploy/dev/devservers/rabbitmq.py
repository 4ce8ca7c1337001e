"""RabbitMQ, from the distribution's package, with a port mapper of its own."""

from __future__ import annotations

import os
import shutil
import socket
from pathlib import Path
from typing import Final

from devservers.process import ServerProcess, free_port, private_directory
from devservers.unavailable import ServerUnavailable

START_TIMEOUT_S: Final = 120.0  # 6 s on an idle machine
_LIBRARY: Final = Path("/usr/lib/rabbitmq/lib")

# The port mapper is started by hand, and ends with the broker: by itself it would stay behind as a daemon.
# Both end with this script, should that be killed.
_START: Final = """#!/bin/sh
setpriv --pdeathsig KILL -- epmd -address 127.0.0.1 -port "$ERL_EPMD_PORT" &
epmd=$!
setpriv --pdeathsig TERM -- "$1" &
broker=$!
trap 'kill $broker' TERM INT
wait $broker
wait $broker
kill $epmd
"""


class RabbitMQ(ServerProcess):
    """One broker on loopback, its data in a directory that `remove` deletes."""

    def __init__(self) -> None:
        """Prepare a broker; `start` starts it.

        Raises:
            ServerUnavailable: RabbitMQ is not installed.
        """
        # The script in sbin switches the user and uses the system's folders; this one does neither.
        scripts = sorted(_LIBRARY.glob("rabbitmq_server-*/sbin/rabbitmq-server"))
        if not scripts or shutil.which("epmd") is None:
            raise ServerUnavailable("RabbitMQ is not installed (Debian: rabbitmq-server)")
        self.port = free_port()
        self.url = f"amqp://guest:guest@127.0.0.1:{self.port}/"
        directory = private_directory("rabbitmq")
        (directory / "start.sh").write_text(_START)
        (directory / "start.sh").chmod(0o755)
        (directory / "rabbitmq.conf").write_text(
            f"listeners.tcp.1 = 127.0.0.1:{self.port}\ndisk_free_limit.absolute = 10MB\n"
        )
        (directory / "plugins").write_text("[].\n")
        env = {
            "PATH": os.environ.get("PATH", "/usr/local/bin:/usr/bin:/bin") + ":/usr/sbin",
            "HOME": str(directory),
            "LANG": "C.UTF-8",
            "ERL_EPMD_PORT": str(free_port()),
            "RABBITMQ_NODENAME": f"rabbit{self.port}@localhost",
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_MNESIA_BASE": str(directory / "data"),
            "RABBITMQ_LOG_BASE": str(directory / "logs"),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_CONFIG_FILE": str(directory / "rabbitmq.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(directory / "plugins"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
        }
        super().__init__(
            "RabbitMQ",
            [str(directory / "start.sh"), str(scripts[-1])],
            directory=directory,
            env=env,
            is_up=self._answers,
            start_timeout_s=START_TIMEOUT_S,
            as_root=True,
        )

    def _answers(self) -> bool:
        """Whether it greets: an AMQP header of a version that it does not speak is answered with its own."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(b"AMQP\x00\x09\x09\x09")
                return connection.recv(4) == b"AMQP"
        except OSError:
            return False
