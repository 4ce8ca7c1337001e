"""The world that faults happen in: applications, agents, a proxy, a collector; processes that can be ended.

three applications ──► spools on one disk ──► shippers and agent ──► proxy ──► collector on another disk
"""

# ruff: noqa: E402  (the path to the servers comes first)
from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

REPOSITORY: Final = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "deploy" / "dev")]

from devservers import Elasticsearch
from devservers.process import ServerProcess, free_port

from collector.client import CollectorClient
from collector.errors import CollectorError
from collector.ledger import Ledger
from collector.store.embedded.aside import waiting
from tests.chaos.application import HUNG_FILE, STORM_FILE, Config
from tests.chaos.checker import Destroyed, Stored
from tests.chaos.proxy import Proxy
from tests.chaos.tampering import MIB, Clock, Disk, FailingCalls
from tests.chaos.truth import mark_of, read_truth

START_TIMEOUT_S: Final = 90.0  # of a machine that does other things, too
SETTLE_TIMEOUT_S: Final = 240.0  # until everything that is left is shipped and indexed
SPOOLS_MAX: Final = 1_000_000
SMALL: Final = {  # limits of a spool that a short run reaches
    "segment_bytes_max": 32_768,
    "service_bytes_max": 5 * MIB,
    "memory_bytes_max": 128 * 1024,
    "disk_free_bytes_min": MIB,
}


class Program(ServerProcess):
    """A process of ours, with calls and a clock that can be spoiled."""

    def __init__(
        self,
        name: str,
        command: list[str],
        directory: Path,
        *,
        env: Mapping[str, str] | None = None,
        is_spoilable: bool = True,
        is_up: Callable[[], bool] = lambda: True,
    ) -> None:
        """Prepare.

        Args:
            directory: for its output and for what controls it; made when absent.
            is_spoilable: False for a program that forks: the preloaded libraries have locks of their own.
        """
        directory.mkdir(exist_ok=True)
        self.calls = FailingCalls(directory, name)
        self.clock = Clock(directory, name)
        ours = {
            key: text for key, text in os.environ.items() if not key.startswith(("BACKTRAIL_", "TRACING_"))
        }
        ours["PYTHONPATH"] = str(REPOSITORY)  # this checkout, whatever is installed
        spoils: dict[str, str] = {}
        if is_spoilable:
            preloads = " ".join(map(str, [*self.calls.preloads, *self.clock.preloads]))
            spoils = {"LD_PRELOAD": preloads, **self.calls.env, **self.clock.env}
        super().__init__(
            name,
            [sys.executable, *command],
            directory=directory,
            env={**ours, **spoils, **(env or {})},
            is_up=is_up,
            start_timeout_s=START_TIMEOUT_S,
            as_root=True,
        )

    @property
    def pid(self) -> int:
        """Of the running process."""
        assert self._process is not None
        return self._process.pid

    def send_signal(self, number: int) -> None:
        """To the process alone."""
        os.kill(self.pid, number)


class Scene:
    """Everything of one run. `close` ends every process and gives the disks back."""

    def __init__(self, directory: Path, *, seed: int, server: Elasticsearch | None = None) -> None:
        """Prepare; `start` starts.

        Args:
            server: what the collector stores in, running; `None`: its own store.
        """
        self.directory = directory
        self.complaints: list[str] = []
        self.destroyed: list[Destroyed] = []
        self._seed = seed
        self.server = server
        self.truth = directory / "truth"
        self.truth.mkdir(parents=True)
        self.application_disk = Disk(directory / "applications", size_bytes=256 * MIB)
        self.collector_disk = Disk(directory / "collector", size_bytes=2048 * MIB)
        self.spools = self.application_disk.path / "spool"
        self.data = self.collector_disk.path / "data"
        self.collector_port = free_port()
        self.proxy = Proxy(self.collector_port, seed=seed)
        self.collector = self._collector()
        self.agents = [self._agent(number) for number in range(2)]
        self.applications = [
            self._application("orders", spans=True, ship=True, mode="write", limits=None),
            self._application("mapped", spans=False, ship=True, mode="mapped", limits=SMALL),
            self._application("agentless", spans=False, ship=False, mode="write", limits=SMALL),
        ]

    def start(self) -> None:
        """Start all but the second agent."""
        self.collector.start()
        self.agents[0].start()
        for application in self.applications:
            application.start()

    def client(self) -> CollectorClient:
        """Asks the collector itself, past the proxy."""
        return CollectorClient(f"http://127.0.0.1:{self.collector_port}", timeout_s=60)

    @property
    def is_embedded(self) -> bool:
        """Whether the collector has a store of its own."""
        return self.server is None

    def restart(self, application: Program) -> None:
        """A new life of an application that is not running."""
        application.clock.set_back()
        application.start()

    def wait_for_forks(self) -> None:
        """Until the children of a hundred forks have ended: what befalls a disk now is not to befall them."""
        deadline_s = time.monotonic() + START_TIMEOUT_S
        file = self.truth / STORM_FILE
        while not file.exists() and time.monotonic() < deadline_s:
            time.sleep(0.02)
        if not file.exists():
            self.complaints.append("a hundred forks are not done")
        file.unlink(missing_ok=True)

    def settle(self) -> None:
        """End the applications in order, and wait until all that they have left is shipped and indexed."""
        for application in self.applications:
            application.stop()
        for agent in self.agents:
            agent.stop()
        for needed in (self.collector, self.server):
            if needed is not None and not needed.running:
                needed.start()
        deadline_s = time.monotonic() + SETTLE_TIMEOUT_S
        while True:
            left_s = deadline_s - time.monotonic()
            done = subprocess.run(
                [sys.executable, "-m", "tracing.launch", "agent", "--once", "--timeout", "20"],
                env={**os.environ, "PYTHONPATH": str(REPOSITORY), **self._agent_env()},
                cwd=REPOSITORY,
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode == 0 and self._is_indexed():
                break
            if left_s < 0:
                self.complaints.append(f"not everything was shipped and indexed: {done.stderr[-300:]}")
                break
        if list(self.spools.glob("*/*/*.ndjson")):
            left = ", ".join(str(path.parent) for path in self.spools.glob("*/*/*.ndjson"))
            self.complaints.append(f"spools are left: {left[:300]}")
        if (self.truth / HUNG_FILE).exists():
            self.complaints.append("a forked child did not end")

    def stored(self) -> Iterator[Stored]:
        """Every record of ours that the collector finds."""
        with self.client() as client, closing(client.export("ndjson")) as pieces:
            rest = b""
            for piece in pieces:
                *lines, rest = (rest + piece).split(b"\n")
                for line in lines:
                    record = json.loads(line)
                    text = record.get("message") or str(record.get("attributes", {}).get("chaos", ""))
                    mark = mark_of(text)
                    if mark is not None and record.get("kind", "log") in ("log", "span"):
                        yield Stored(record["uid"], mark)

    def ledger(self) -> list[dict[str, Any]]:
        """Every spool that the collector heard of. Ends the collector: its API tells of the newest only."""
        self.collector.stop(timeout_s=SETTLE_TIMEOUT_S)
        ledger = Ledger.open(self.data, read_only=True)
        try:
            return [spool for spool in ledger.spools(SPOOLS_MAX) if "chaos-" in spool.get("service", "")]
        finally:
            ledger.close()

    def sent(self) -> dict[str, Any]:
        """What the writers say."""
        return read_truth(self.truth)

    def close(self) -> None:
        """End everything; only the output of the programs is left."""
        for program in (*self.applications, *self.agents, self.collector):
            program.kill()
        self.proxy.close()
        self.application_disk.remove()
        self.collector_disk.remove()

    def remove(self) -> None:
        """`close`, and nothing is left."""
        self.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _is_indexed(self) -> bool:
        with suppress(CollectorError), self.client() as client:
            stats = client.stats()
            return stats["indexing"]["lag_records"] == 0 and not waiting(self.data / "store")
        return False

    def _collector(self) -> Program:
        env = {
            "BACKTRAIL_DATA_DIR": str(self.data),
            "BACKTRAIL_PORT": str(self.collector_port),
            "BACKTRAIL_STORE": self._store(),
            "BACKTRAIL_COMMIT_INTERVAL_S": "3",  # so that a kill finds something in the log only
            "BACKTRAIL_DISK_FREE_BYTES_MIN": "16MiB",
            "BACKTRAIL_WAL_BYTES_MAX": "64MiB",
        }
        command = ["-m", "collector.service"]
        directory = self.directory / "collector-output"
        return Program("collector", command, directory, env=env, is_up=self._answers)

    def _store(self) -> str:
        if self.server is None:
            return "embedded"
        return f"{self.server.url}?namespace={uuid4().hex}&replicas=0"

    def _answers(self) -> bool:
        with suppress(CollectorError), self.client() as client:
            client.health()
            return True
        return False

    def _agent_env(self) -> dict[str, str]:
        return {"TRACING_SPOOL_DIR": str(self.spools), "TRACING_COLLECTOR_URL": self.proxy.url}

    def _agent(self, number: int) -> Program:
        command = ["-m", "tracing.launch", "agent"]
        directory = self.directory / f"agent-{number}"
        return Program(f"agent-{number}", command, directory, env=self._agent_env())

    def _application(self, name: str, **how: Any) -> Program:
        config = Config(
            service=f"chaos-{name}",
            spool_dir=str(self.spools),
            truth_dir=str(self.truth),
            url=self.proxy.url,
            seed=self._seed,
            threads=3,
            records_per_s=50.0,
            **how,
        )
        directory = self.directory / name
        directory.mkdir()
        file = directory / "config.json"
        file.write_text(json.dumps(dataclasses.asdict(config)))
        command = [str(Path(__file__).with_name("application.py")), str(file)]
        program = Program(name, command, directory, is_spoilable=name != "orders")
        program._is_up = lambda: any(self.truth.glob(f"chaos-{name}.{program.pid}.*"))
        return program
