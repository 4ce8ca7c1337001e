"""A program that logs numbered records until it is told to end, or is killed. Started by `scene.py`.

Usage: application.py CONFIG, the path of a JSON object with the fields of `Config`.
SIGTERM: end in order. SIGUSR1: fork a hundred children, each of which logs and ends.
"""

from __future__ import annotations

import json
import logging
import os
import random
import secrets
import signal
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import tracing
from tests.chaos.truth import Writer
from tracing.spool import ShipperLimits, SpoolLimits, open_spool, start_shipper

FORKS: Final = 100
FORKS_AT_ONCE_MAX: Final = 8
RECORDS_PER_CHILD: Final = 3
HUNG_AFTER_S: Final = 60.0
LEVELS: Final = (logging.DEBUG, logging.INFO, logging.INFO, logging.INFO, logging.WARNING, logging.ERROR)
HUNG_FILE: Final = "hung"  # in the directory of the truth: a child that did not end
STORM_FILE: Final = "forked"  # likewise: all children that were wanted have ended


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """How a program logs, and how its lines leave it."""

    service: str
    spool_dir: str
    truth_dir: str
    url: str
    seed: int
    threads: int
    records_per_s: float  # of each thread
    spans: bool  # log inside spans, which are records too
    ship: bool  # by a thread of its own; else an agent must
    mode: str  # of the spool
    limits: dict[str, Any] | None  # of the spool; None: as `configure()` has it


class Program:
    """What runs between start and end."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.is_ending = False
        self.is_fork_wanted = False
        self._logger = logging.getLogger("chaos")
        self._truth = Path(config.truth_dir)

    def configure(self) -> None:
        """Tracing on: as any program has it, or with a spool whose limits are reached within a short run."""
        config = self.config
        common: dict[str, Any] = {"service": config.service, "level": "DEBUG"}
        if config.limits is None:
            tracing.configure(
                spool_dir=config.spool_dir,
                collector_url=config.url,
                ship=config.ship,
                spool_mode=config.mode,
                **common,
            )
            return
        limits = SpoolLimits(mode=config.mode, **config.limits)  # type: ignore[arg-type]
        root, resource = Path(config.spool_dir), {"service.name": config.service}
        spool = open_spool(root, service=config.service, resource=resource, limits=limits)
        tracing.configure(sink=spool, **common)
        if config.ship:
            quick = ShipperLimits(request_timeout_s=3.0, backoff_max_s=2.0)
            start_shipper(root, service=config.service, url=config.url, token=None, spool=spool, limits=quick)

    def run(self) -> None:
        """Log from all threads until the end is wanted."""
        threads = [
            threading.Thread(target=self._work, args=(number,)) for number in range(self.config.threads)
        ]
        for thread in threads:
            thread.start()
        while not self.is_ending:
            if self.is_fork_wanted:
                self.is_fork_wanted = False
                self._fork_children()
                (self._truth / STORM_FILE).touch()
            self._pause(0.02)  # flags, not events: a signal handler may not take a lock
        for thread in threads:
            thread.join()

    def _writer(self, thread: str, records_max: int | None = None) -> Writer:
        name = f"{self.config.service}.{os.getpid()}.{secrets.token_hex(4)}-{thread}"
        bound = {} if records_max is None else {"records_max": records_max}
        return Writer(self._truth, name, **bound)

    def _work(self, number: int) -> None:
        chance = random.Random(f"{self.config.seed} {number}")
        logs, spans = self._writer(f"logs{number}"), self._writer(f"spans{number}")
        while not self.is_ending:
            burst = chance.randint(1, 20)
            if self.config.spans:
                with spans.record() as mark, tracing.span("step", attributes={"chaos": str(mark)}):
                    self._log(logs, burst, chance)
            else:
                self._log(logs, burst, chance)
            self._pause(burst / self.config.records_per_s)

    def _log(self, writer: Writer, count: int, chance: random.Random) -> None:
        for _ in range(count):
            with writer.record() as mark:
                self._logger.log(chance.choice(LEVELS), "%s %s", mark, "x" * chance.randrange(200))

    def _fork_children(self) -> None:
        living: dict[int, float] = {}
        for number in range(FORKS):
            if self.is_ending:
                break
            child = os.fork()
            if child == 0:
                self._be_a_child(number)
            living[child] = time.monotonic()
            while len(living) >= FORKS_AT_ONCE_MAX:
                self._reap(living)
        while living:
            self._reap(living)

    def _be_a_child(self, number: int) -> None:
        """Log and end, now in order, now without a word, now killed."""
        self._log(self._writer("child", RECORDS_PER_CHILD), RECORDS_PER_CHILD, random.Random(number))
        if number % 3 == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        os._exit(0)

    @staticmethod
    def _pause(seconds: float) -> None:
        """As `time.sleep`, whose absolute deadline of the monotonic clock libfaketime misunderstands."""
        threading.Event().wait(seconds)

    def _reap(self, living: dict[int, float]) -> None:
        for child, since_s in list(living.items()):
            if os.waitpid(child, os.WNOHANG)[0]:
                del living[child]
            elif time.monotonic() - since_s > HUNG_AFTER_S:
                (self._truth / HUNG_FILE).touch()
                os.kill(child, signal.SIGKILL)
        self._pause(0.002)


def main() -> None:
    """Run until SIGTERM."""
    program = Program(Config(**json.loads(Path(sys.argv[1]).read_text())))

    def end(*_: object) -> None:
        program.is_ending = True

    def fork(*_: object) -> None:
        program.is_fork_wanted = True

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGUSR1, fork)
    program.configure()
    program.run()


if __name__ == "__main__":
    main()
