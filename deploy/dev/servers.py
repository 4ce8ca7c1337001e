"""Gets and starts real servers for trying things out: `python deploy/dev/servers.py elasticsearch 9.4.3`.

Tests import the same code (`devservers`). `get` only fills the cache. The servers listen on loopback and
end with Ctrl-C; their data goes with them.
"""

# ruff: noqa: T201  (a command line program talks to its user)

from __future__ import annotations

import argparse
import signal
import sys
import threading

from devservers import Elasticsearch, ServerUnavailable
from devservers.elasticsearch import BUILDS, PASSWORD, USER, elasticsearch_home


def main(argv: list[str] | None = None) -> int:
    """Exit status 0, or 1 when a server cannot be had; the reason is one line on standard error."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], prog="servers.py")
    commands = parser.add_subparsers(dest="command", required=True)
    get = commands.add_parser("get", help="only fill the cache")
    get.add_argument("version", nargs="?", choices=list(BUILDS), help="all of them when none is named")
    run = commands.add_parser("elasticsearch", help="start Elasticsearch until Ctrl-C")
    run.add_argument("version", nargs="?", choices=list(BUILDS), default="9.4.3")
    run.add_argument("--heap-mb", type=int, default=1024)
    run.add_argument("--security", action="store_true", help="users and TLS on")
    arguments = parser.parse_args(argv)
    try:
        if arguments.command == "get":
            for version in [arguments.version] if arguments.version else BUILDS:
                print(elasticsearch_home(version))
            return 0
        server = Elasticsearch(arguments.version, heap_mb=arguments.heap_mb, security=arguments.security)
        with server:
            print(f"ELASTICSEARCH_URL={server.url}", flush=True)
            if server.certificates:
                print(
                    f"user {USER}, password {PASSWORD}, authority {server.certificates.authority}", flush=True
                )
            _wait_for_the_end()
    except ServerUnavailable as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _wait_for_the_end() -> None:
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    ended.wait()


if __name__ == "__main__":
    sys.exit(main())
