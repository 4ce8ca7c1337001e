"""`python -m collector.service`: the service with the settings of file and environment, no flags."""

from __future__ import annotations

import sys

from collector.errors import CollectorError
from collector.service.running import Collector
from collector.settings import load


def main() -> int:
    """Run until a signal; exit status 0 after a clean stop, 2 when it cannot start."""
    try:
        loaded = load()
        for warning in loaded.warnings:
            sys.stderr.write(f"backtrail: warning: {warning}\n")
        Collector(loaded.settings, reload=lambda: load().settings).run()
    except CollectorError as error:
        sys.stderr.write(f"backtrail: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
