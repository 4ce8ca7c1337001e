"""`backtrail agent`: ships the spools of every service under one root, living and dead.

For programs that must not, or cannot, run a thread of their own (`TRACING_SHIP=false`, uWSGI without
threads), and for what is left on a machine when no process of a service runs any more.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tracing.errors import ConfigurationError, RetryableExportError
from tracing.settings import NO_TLS_FILES, Settings, TlsFiles
from tracing.spool.adoption import services
from tracing.spool.courier import Courier
from tracing.spool.leftovers import drain, ship_left
from tracing.spool.limits import ShipperLimits
from tracing.spool.transport import Transport

EXIT_USAGE: Final = 2
ONCE_TIMEOUT_S: Final = 60.0

_logger = logging.getLogger("backtrail.agent")


class Agent:
    """Ships what lies under a spool root, round after round, until it is told to stop.

    Any number of agents may work on one root: a spool is shipped by whoever holds its lock.

    Raises:
        ConfigurationError: the URL or a file cannot be used.
    """

    def __init__(
        self,
        root: Path,
        *,
        url: str,
        token: str | None,
        tls_files: TlsFiles = NO_TLS_FILES,
        limits: ShipperLimits | None = None,
    ) -> None:
        self._root = root
        self._url = url
        self._limits = limits or ShipperLimits()
        self._courier = Courier(Transport(url, token, self._limits, tls_files), self._limits)
        self._is_reachable: bool | None = None

    def work(self, stop: threading.Event) -> None:
        """Ship until `stop` is set; an unreachable collector is asked again, less and less often."""
        try:
            while not stop.is_set():
                stop.wait(self.round())
        finally:
            self._courier.close()

    def round(self) -> float:
        """Give each spool one turn; return how many seconds to wait before the next round."""
        try:
            done = [ship_left(service, self._courier) for service in services(self._root)]
        except RetryableExportError as error:
            self._say(False, str(error))
            return error.retry_after_s or self._limits.backoff_first_s
        self._say(True, f"{self._courier.counts['lines']} lines sent so far")
        return self._limits.poll_interval_s if all(done) else 0.0

    def _say(self, is_reachable: bool, detail: str) -> None:
        """Log each change once, not each attempt."""
        if is_reachable == self._is_reachable:
            return
        self._is_reachable = is_reachable
        if is_reachable:
            _logger.info("shipping %s to %s: %s", self._root, self._url, detail)
        else:
            _logger.warning("%s does not take lines, they stay in %s: %s", self._url, self._root, detail)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the agent until SIGTERM or SIGINT; exit status 0, or 2 when a setting is malformed."""
    options = _parser().parse_args(argv)
    logging.basicConfig(format="backtrail agent: %(message)s", level=logging.INFO, stream=sys.stderr)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # settings of the programs are not the agent's to judge
            settings = Settings.from_env(
                os.environ,
                collector_url=options.url,
                spool_dir=Path(options.spool_dir) if options.spool_dir else None,
            )
        if options.once:
            return _once(settings, options.timeout)
        worker = Agent(
            settings.spool_dir,
            url=settings.collector_url,
            token=settings.token,
            tls_files=settings.tls_files,
        )
    except ConfigurationError as error:
        sys.stderr.write(f"backtrail: {error}\n")
        return EXIT_USAGE
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    worker.work(stop)
    return 0


def _once(settings: Settings, timeout_s: float) -> int:
    """Ship until nothing is left; exit status 1, and the reason on standard error, if something is.

    Raises:
        ConfigurationError: the URL cannot be used.
    """
    failures: list[RetryableExportError] = []
    carrier = Transport(settings.collector_url, settings.token, ShipperLimits(), settings.tls_files)
    if drain(settings.spool_dir, carrier, timeout_s=timeout_s, tell=failures.append):
        return 0
    _logger.warning("%s", left_behind(settings, failures[-1] if failures else None))
    return 1


def left_behind(settings: Settings, reason: RetryableExportError | None) -> str:
    """Say that lines are left, why, and what becomes of them."""
    why = f"{reason}" if reason is not None else "the time was up"
    return f"{settings.collector_url} did not take everything ({why}); the rest waits in {settings.spool_dir}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="backtrail agent",
        description="Ship what the programs of this machine have logged to the collector: all services under "
        "one spool directory, of living processes that do not ship for themselves, and of dead ones.",
        epilog="Spool files can be read and written by their owner only (mode 0600): the agent must run as "
        "the same user as the programs, or as root. The token is read from TRACING_TOKEN.",
    )
    parser.add_argument("--spool-dir", help="the spool directory (TRACING_SPOOL_DIR)")
    parser.add_argument("--url", help="the collector (TRACING_COLLECTOR_URL)")
    parser.add_argument("--once", action="store_true", help="end when nothing is left; status 1 if some is")
    parser.add_argument(
        "--timeout",
        type=float,
        default=ONCE_TIMEOUT_S,
        metavar="SECONDS",
        help="with --once: give up after so long (default: %(default)s)",
    )
    return parser
