"""A server as a process: started, waited for, stopped, killed, and never left behind."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, Self

from devservers.unavailable import ServerUnavailable

NOBODY: Final = 65534  # the ordinary user that servers run as when we are root
POLL_S: Final = 0.05
_FIRST_PORT: Final = 20_000
_PORTS: Final = 12_000
GONE_TIMEOUT_S: Final = 5.0  # after SIGKILL; longer means a zombie that nobody reaps


def free_port() -> int:
    """A loopback port that nobody listened on a moment ago.

    A server takes its time until it listens. A port that the kernel gives out itself could be somebody
    else's by then, so this one is from below those (32 768 and more, `ip_local_port_range`).
    """
    while True:
        port = _FIRST_PORT + secrets.randbelow(_PORTS)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def private_directory(name: str) -> Path:
    """A new directory that belongs to the user servers run as; the server may write into nothing else."""
    directory = Path(tempfile.mkdtemp(prefix=f"backtrail-{name}-"))
    directory.chmod(0o755)
    give(directory)
    return directory


def give(path: Path) -> None:
    """Hand a file or directory, with all below it, to the user servers run as."""
    if os.getuid() == 0:
        os.chown(path, NOBODY, NOBODY)
        if path.is_dir():
            for child in path.iterdir():
                give(child)


class ServerProcess:
    """One server with its own directory, ports and log; started again, it finds its data.

    It runs in a process group of its own, as an ordinary user, and Linux ends it with the thread that
    started it, so that a killed test run leaves nothing behind.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        directory: Path,
        env: Mapping[str, str],
        is_up: Callable[[], bool],
        start_timeout_s: float,
        as_root: bool = False,
    ) -> None:
        self.name = name
        self.directory = directory
        self.log = directory / "output.log"
        self._command = list(command)
        self._env = dict(env)
        self._is_up = is_up
        self._start_timeout_s = start_timeout_s
        self._as_root = as_root
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.poll() is None

    def start(self, *, wait: bool = True) -> Self:
        """Start, and wait until it answers.

        Raises:
            ServerUnavailable: it ended or stayed silent; the message quotes the end of its log.
        """
        if self.running:
            return self
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                [*self._guard(), *self._command],
                cwd=self.directory,
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        if wait:
            self.wait_up()
        return self

    def wait_up(self) -> None:
        """Wait until it answers; see `start`."""
        deadline = time.monotonic() + self._start_timeout_s
        while not self._is_up():
            if not self.running or time.monotonic() > deadline:
                state = "is silent" if self.running else "ended at once"
                self.kill()
                tail = self.log.read_bytes()[-600:].decode(errors="replace").strip()
                raise ServerUnavailable(f"{self.name} {state}: … {' '.join(tail.split())}")
            time.sleep(POLL_S)

    def stop(self, timeout_s: float = 30.0) -> None:
        """End it in its own good time; kill it when that takes too long."""
        if self._process is None:
            return
        self._signal(signal.SIGTERM)
        self._wait_gone(timeout_s)
        self.kill()

    def kill(self) -> None:
        """SIGKILL to all of it, as the kernel does when memory is short."""
        if self._process is None:
            return
        self._signal(signal.SIGKILL)
        self._wait_gone(GONE_TIMEOUT_S)
        self._process = None

    def suspend(self) -> None:
        """Stop its clock: connections stay open, nothing is answered."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on after `suspend`."""
        self._signal(signal.SIGCONT)

    def remove(self) -> None:
        """Kill it and delete its directory."""
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.remove()

    def _guard(self) -> list[str]:
        setpriv = shutil.which("setpriv")
        if setpriv is None:
            if os.getuid() == 0 and not self._as_root:
                raise ServerUnavailable(
                    f"{self.name} must not run as root: `setpriv` is missing (util-linux)"
                )
            return []
        guard = [setpriv, "--pdeathsig", "KILL"]
        if os.getuid() == 0 and not self._as_root:
            guard += [f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
        return [*guard, "--"]

    def _signal(self, number: signal.Signals) -> None:
        """To the whole group: a launcher and what it launched."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)

    def _wait_gone(self, timeout_s: float) -> None:
        """Until no process of the group is left, so that ports and locks are free again."""
        assert self._process is not None
        deadline = time.monotonic() + timeout_s
        with contextlib.suppress(ProcessLookupError):
            while time.monotonic() < deadline:
                self._process.poll()  # reaps the leader, else it stays in the group as a zombie
                os.killpg(self._process.pid, 0)
                time.sleep(POLL_S)
