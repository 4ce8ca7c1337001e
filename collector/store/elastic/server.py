"""What the server at the other end is and has; asked once, so that the better way is used where it exists."""

from __future__ import annotations

import re
from typing import Final

import msgspec

from collector.errors import ConfigurationError
from collector.store.elastic.connection import Connection, Forbidden, Rejected

VERSION_MIN: Final = (8, 14)
_VERSION: Final = re.compile(r"(\d+)\.(\d+)")


class Server(msgspec.Struct, frozen=True, kw_only=True):
    """A cluster's version and the modules that every node of it has."""

    version: tuple[int, int]
    cluster_uuid: str
    modules: frozenset[str] = frozenset()
    modules_known: bool = True  # False: our credentials may not ask, so the version alone decides

    @property
    def has_lifecycle(self) -> bool:
        """Whether the server itself rolls streams over and deletes what has expired."""
        return "data-streams" in self.modules

    @property
    def has_logsdb(self) -> bool:
        """Whether `index.mode: logsdb` exists: about half the disk with our ids."""
        return self.version >= (8, 17)

    @property
    def has_passthrough_priority(self) -> bool:
        """Whether passthrough objects have a priority, and with it a rule for names that meet."""
        return self.version >= (8, 16)

    @property
    def has_constant_keyword(self) -> bool:
        """Whether a field may say once for an index what is the same in all of its documents."""
        return "constant-keyword" in self.modules


def ask_server(connection: Connection) -> Server:
    """Find out what answers.

    Raises:
        ConfigurationError: it is older than `VERSION_MIN`, or no Elasticsearch at all.
        Unavailable, Forbidden: see `Connection.request`.
    """
    about = connection.ask("GET", "/")
    number = str(about.get("version", {}).get("number", ""))
    match = _VERSION.match(number)
    if match is None:
        raise ConfigurationError(f"store: what answers is no Elasticsearch: {str(about)[:200]}")
    version = int(match[1]), int(match[2])
    if version < VERSION_MIN:
        wanted = ".".join(map(str, VERSION_MIN))
        raise ConfigurationError(f"store: Elasticsearch {number} is too old, {wanted} or newer is needed")
    modules, known = _modules(connection)
    return Server(
        version=version, cluster_uuid=str(about["cluster_uuid"]), modules=modules, modules_known=known
    )


def _modules(connection: Connection) -> tuple[frozenset[str], bool]:
    wanted = {"filter_path": "nodes.*.modules.name,nodes.*.plugins.name"}
    try:
        nodes = connection.ask("GET", "/_nodes/plugins", params=wanted).get("nodes", {})
    except (Forbidden, Rejected):
        return frozenset(), False
    each = [
        {part["name"] for kind in ("modules", "plugins") for part in node.get(kind, [])}
        for node in nodes.values()
    ]
    return frozenset(set.intersection(*each)) if each else frozenset(), True
