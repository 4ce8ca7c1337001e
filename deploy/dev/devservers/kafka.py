"""Kafka without ZooKeeper: one node that is broker and controller, out of Maven Central."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from devservers.downloads import DOWNLOAD_TIMEOUT_S, cached, progress
from devservers.java import java_home
from devservers.process import ServerProcess, free_port, give, private_directory
from devservers.unavailable import ServerUnavailable

VERSION: Final = "4.4.0"
START_TIMEOUT_S: Final = 120.0  # 3 s on an idle machine
_CLUSTER: Final = "MkU3OEVBNTcwNTJENDM2Qk"  # a random one that begins with "-" would be taken for an option
_MEGABYTES: Final = 110
_POM: Final = f"""<project xmlns="http://maven.apache.org/POM/4.0.0">
<modelVersion>4.0.0</modelVersion>
<groupId>dev</groupId><artifactId>kafka</artifactId><version>1</version><packaging>pom</packaging>
<dependencies>
<dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId>
<version>{VERSION}</version></dependency>
<dependency><groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId>
<version>1.7.36</version></dependency>
</dependencies></project>
"""


def kafka_libraries() -> Path:
    """The directory of jars, got if need be.

    Raises:
        ServerUnavailable: it cannot be got.
    """
    return cached(f"kafka-{VERSION}", _get)


def _get(directory: Path) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        raise ServerUnavailable(f"Kafka {VERSION}: needs Maven's client `mvn` to get it (Debian: maven)")
    with (
        tempfile.TemporaryDirectory() as work,
        progress(f"getting Kafka {VERSION}", _MEGABYTES),
    ):
        (Path(work) / "pom.xml").write_text(_POM)
        command = [maven, "-q", "-B", "-ntp", f"-Dmaven.repo.local={work}/repository"]
        command += [
            "dependency:copy-dependencies",
            "-DincludeScope=runtime",
            f"-DoutputDirectory={directory}",
        ]
        done = subprocess.run(
            command, cwd=work, capture_output=True, text=True, timeout=DOWNLOAD_TIMEOUT_S, check=False
        )
    if done.returncode != 0 or not any(directory.glob("kafka_2.13-*.jar")):
        raise ServerUnavailable(f"Kafka {VERSION}: Maven could not get it: {done.stdout[-400:].strip()}")


class Kafka(ServerProcess):
    """One node on loopback, its data in a directory that `remove` deletes."""

    def __init__(self, *, heap_mb: int = 256) -> None:
        """Prepare a node; `start` starts it.

        Raises:
            ServerUnavailable: Kafka or a fitting Java cannot be had.
        """
        libraries = kafka_libraries()
        java = java_home(17, 99, needed_by=f"Kafka {VERSION}") / "bin" / "java"
        self.port = free_port()
        self.url = f"127.0.0.1:{self.port}"
        directory = private_directory("kafka")
        settings = directory / "server.properties"
        settings.write_text(_settings(self.port, free_port(), directory / "data"))
        give(directory)
        start = directory / "start.sh"
        run = f'"{java}" -Xmx{heap_mb}m -XX:+UseSerialGC -cp "{libraries}/*"'
        start.write_text(
            "#!/bin/sh\nset -e\n"
            f"[ -d data ] || {run} kafka.tools.StorageTool format"
            f" --cluster-id {_CLUSTER} --config {settings}\n"
            f"exec {run} kafka.Kafka {settings}\n"
        )
        start.chmod(0o755)
        super().__init__(
            f"Kafka {VERSION}",
            [str(start)],
            directory=directory,
            env={"PATH": "/usr/bin:/bin", "HOME": str(directory)},
            is_up=self._answers,
            start_timeout_s=START_TIMEOUT_S,
        )

    def _answers(self) -> bool:
        """It says so itself; a port that is open takes no requests yet."""
        return b"Kafka Server started" in self.log.read_bytes()


def _settings(port: int, controller_port: int, data: Path) -> str:
    lines = {
        "process.roles": "broker,controller",
        "node.id": 1,
        "controller.quorum.voters": f"1@127.0.0.1:{controller_port}",
        "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
        "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
        "controller.listener.names": "CONTROLLER",
        "log.dirs": data,
        "offsets.topic.replication.factor": 1,
        "offsets.topic.num.partitions": 1,
        "transaction.state.log.replication.factor": 1,
        "transaction.state.log.min.isr": 1,
        "share.coordinator.state.topic.replication.factor": 1,
        "share.coordinator.state.topic.min.isr": 1,
        "group.initial.rebalance.delay.ms": 0,
        "broker.session.timeout.ms": 2000,
        "broker.heartbeat.interval.ms": 500,
    }
    return "".join(f"{key}={value}\n" for key, value in lines.items())
