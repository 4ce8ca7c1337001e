"""The HTTP server around the application: a socket, a thread with an event loop, a graceful end."""

from __future__ import annotations

import errno
import math
import socket
import ssl
import threading
from typing import Final

import uvicorn
from starlette.types import ASGIApp

from collector.api.protocol import BoundedHttpProtocol
from collector.errors import ConfigurationError

# A connection that is kept open and idle; longer than the pause between two batches of a shipper.
KEEP_ALIVE_S: Final = 75
BACKLOG_CONNECTIONS_MAX: Final = 1024
STARTUP_TIMEOUT_S: Final = 30.0


class HttpServer:
    """Serves an application on one TCP port, from a thread of its own.

    The port is taken when the object is made, so that a port in use stops the start before anything
    else has happened; calls are answered between `start` and `stop`.

    Args:
        tls: our certificate; `None`: plain HTTP.
    Raises:
        ConfigurationError: the address cannot be listened on; the message says why.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        host: str,
        port: int,
        shutdown_timeout_s: float,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._socket = _listen(host, port)
        self.port: int = self._socket.getsockname()[1]
        config = uvicorn.Config(
            app,
            loop="uvloop",
            http=BoundedHttpProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=math.ceil(shutdown_timeout_s),
        )
        config.load()
        config.ssl = tls
        self._server = _Server(config)
        self._thread = threading.Thread(target=self._serve, name="backtrail-http", daemon=True)
        self._failure: BaseException | None = None

    def start(self) -> None:
        """Begin to answer; returns once the first call would be answered."""
        self._thread.start()
        if not self._server.is_up.wait(STARTUP_TIMEOUT_S) or self._failure is not None:
            raise ConfigurationError(f"the HTTP server did not come up: {self._failure or 'timeout'}")

    def stop(self) -> None:
        """Take no more connections, let running requests finish within their time, end the thread."""
        if self._thread.is_alive():
            self._server.should_exit = True
            self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        try:
            self._server.run(sockets=[self._socket])
        except BaseException as error:
            self._failure = error
            raise
        finally:
            self._server.is_up.set()  # nobody waits for a server that has failed


class _Server(uvicorn.Server):
    """uvicorn's server, saying when it is up."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.is_up = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start as uvicorn does, then say so."""
        await super().startup(sockets)
        self.is_up.set()


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host.strip("[]"), port))
        listener.listen(BACKLOG_CONNECTIONS_MAX)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            detail = "the port is in use; stop the other program, or name another port (0 picks a free one)"
        elif error.errno == errno.EACCES:
            detail = "this user may not listen there; ports from 1024 on need no rights"
        else:
            detail = error.strerror or str(error)
        raise ConfigurationError(f"cannot listen on {host}:{port}: {detail}") from None
    return listener
