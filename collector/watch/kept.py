"""The baseline that the service keeps: learned minute by minute, bounded, and on disk.

Two baselines are learned side by side. The *steady* one measures; the *fresh* one takes its place when it
is old or large enough, and a new one begins. What measures is therefore never older than two terms, and
never larger than what two terms learn. Directory `baseline/` of the data directory:

    steady.baseline   fresh.baseline   as `Baseline.to_bytes` writes them (with a version)
    state.json        {"version", "learned_to_ns", "fresh_since_ns", "minutes"}

Losing it, or any part of it, costs the time of learning again.
"""

from __future__ import annotations

import contextlib
import logging
import os
from pathlib import Path
from typing import Final

import msgspec

from collector.diagnose.baseline import Baseline
from collector.errors import Damaged, NotFound
from collector.model import Trace

logger = logging.getLogger(__name__)

DIRECTORY: Final = "baseline"
STEADY, FRESH, STATE = FILES = ("steady.baseline", "fresh.baseline", "state.json")  # written in this order
FORMAT_VERSION: Final = 1
TERM_NS: Final = 6 * 3_600_000_000_000  # long enough for hours that differ, short enough to follow deploys
TERM_TRACES_MAX: Final = 100_000
# What has seen less says nothing about how healthy minutes differ.
WARM_MINUTES: Final = 10
WARM_TRACES: Final = 200


class _State(msgspec.Struct, kw_only=True):
    version: int = FORMAT_VERSION
    learned_to_ns: int = 0
    fresh_since_ns: int = 0
    minutes: int = 0  # that the steady baseline has learned, since there is one


class KeptBaseline:
    """What is normal here, as far as it is known. One thread at a time."""

    def __init__(self, directory: Path) -> None:
        """Go on with what is in the directory; what cannot be read is learned anew, and the log says so."""
        self._directory = directory
        self._state = _State()
        self.steady = Baseline()
        self._fresh = Baseline()
        try:
            state = msgspec.json.decode((directory / STATE).read_bytes(), type=_State)
            if state.version != FORMAT_VERSION:
                raise ValueError(f"version {state.version}, this program reads {FORMAT_VERSION}")
            self.steady = Baseline.from_bytes((directory / STEADY).read_bytes())
            self._fresh = Baseline.from_bytes((directory / FRESH).read_bytes())
            self._state = state
        except FileNotFoundError:
            pass  # the first start
        except (ValueError, OSError) as error:
            logger.warning("%s: %s; what is normal is learned anew", directory, error)
            self.steady, self._fresh = Baseline(), Baseline()

    @property
    def learned_to_ns(self) -> int:
        """Every minute before this was looked at; 0: none was."""
        return self._state.learned_to_ns

    @property
    def minutes(self) -> int:
        """How many minutes were learned, since the directory is there."""
        return self._state.minutes

    @property
    def is_warm(self) -> bool:
        """Whether enough is known to call something unusual."""
        return self._state.minutes >= WARM_MINUTES and self.steady.profile.traces >= WARM_TRACES

    def learn(self, traces: list[Trace], *, end_ns: int) -> None:
        """Take the traces of a minute as normal.

        Args:
            end_ns: of the minute.
        """
        state = self._state
        self.steady.learn(traces)
        self._fresh.learn(traces)
        state.minutes += 1
        state.fresh_since_ns = state.fresh_since_ns or end_ns
        is_old = end_ns - state.fresh_since_ns >= TERM_NS
        if is_old or self._fresh.profile.traces >= TERM_TRACES_MAX:
            self.steady, self._fresh = self._fresh, Baseline()
            state.fresh_since_ns = end_ns

    def pass_over(self, end_ns: int) -> None:
        """Go on behind a minute, whether or not it was learned."""
        self._state.learned_to_ns = max(self._state.learned_to_ns, end_ns)

    def save(self) -> None:
        """Write it to disk; a crash leaves what was there before, or at worst forgets a few minutes.

        Raises:
            OSError: the disk fails or is full.
        """
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_whole(self._directory / STEADY, self.steady.to_bytes())
        write_whole(self._directory / FRESH, self._fresh.to_bytes())
        write_whole(self._directory / STATE, msgspec.json.encode(self._state))


def read_baseline(path: Path) -> Baseline:
    """Read a baseline from a file of `backtrail baseline build`, or from a data directory.

    Raises:
        NotFound: there is none.
        Damaged: the file is no baseline, or of another version.
    """
    if path.is_dir():
        inside = (path / STEADY, path / DIRECTORY / STEADY)
        path = next((file for file in inside if file.is_file()), inside[-1])
    try:
        return Baseline.from_bytes(path.read_bytes())
    except OSError as error:
        raise NotFound(f"{path}: {error.strerror}; `backtrail baseline build` makes one") from None
    except ValueError as error:
        raise Damaged(f"{path}: {error}; `backtrail baseline build` makes one") from None


def known_baseline(directory: Path) -> Baseline | None:
    """What the service that had this directory took for normal; None: too little is known."""
    kept = KeptBaseline(directory)
    return kept.steady if kept.is_warm else None


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that it is never seen half written, also after a crash.

    Raises:
        OSError: the disk fails or is full; what was there before stays.
    """
    beside = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        with beside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)
        raise
