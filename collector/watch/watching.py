"""The watch: looks at each minute soon after it is over, tells what is not as usual, learns what is.

What it tells are events that come in like any record (`collector.watch.events`), so they are durable, found
by search, and there once, however often a minute is looked at again after a crash.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from collector.diagnose.ask import recorded_changes
from collector.diagnose.baseline import Baseline
from collector.errors import CollectorError
from collector.store.contract import MINUTE_NS, Store
from collector.watch.events import FindingEvent, episode_id, event_line, event_of, findings_condition
from collector.watch.kept import KeptBaseline
from collector.watch.minute import StatusOf, Suspicion, look, sample
from tracing.line import format_timestamp

logger = logging.getLogger(__name__)

SETTLE_NS: Final = 20_000_000_000  # what began in a minute is mostly over and here so long after its end
CATCH_UP_MINUTES: Final = 30  # of what was missed while nobody looked; also what a new service learns from
QUIET_MINUTES: Final = 3  # so many minutes as usual, one after the other, end an episode
# What has lasted so long is how things are now: it is learned, and told once more.
USUAL_MINUTES: Final = 120
SAVE_MINUTES: Final = 10  # learned minutes that a crash may forget
STOP_TIMEOUT_S: Final = 10.0  # a look takes a second or two
EPISODES_MAX: Final = 1_000  # that are remembered at a start, the newest
EPISODES_BACK_NS: Final = 86_400_000_000_000
EVIDENCE_MAX: Final = 10
TRACES_MAX: Final = 5

Write = Callable[[str, bytes], None]  # identity and line of a record; returns once it is durable


class _State(msgspec.Struct, kw_only=True):
    """What goes on after a minute."""

    episodes: dict[str, _Episode] = {}  # by service
    doubted: dict[str, int] = {}  # services that were not quite as usual, and since when, epoch nanoseconds

    @property
    def is_as_usual(self) -> bool:
        """Whether the minute is fit to be learned from."""
        return not self.doubted and all(episode.is_usual for episode in self.episodes.values())


class _Episode(msgspec.Struct, kw_only=True):
    """Something that is not as usual, and goes on."""

    began: FindingEvent
    minutes: int = 1  # in which it showed
    quiet: int = 0  # minutes as usual since it showed last
    is_usual: bool = False  # it has been told that it is how things are now


class Watch:
    """Looks at every minute, in a thread of its own.

    Args:
        store: read only, by the methods of the contract.
        directory: where the baseline is kept.
        write: brings a record in, as any sender would.
        status_of: what the ledger knows of the processes of a trace's records.
        clock_ns: now, epoch nanoseconds.
    """

    def __init__(
        self,
        store: Store,
        directory: Path,
        write: Write,
        *,
        status_of: StatusOf | None = None,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._store = store
        self._write = write
        self._status_of = status_of
        self._clock_ns = clock_ns
        self._kept = KeptBaseline(directory)
        self._unsaved = 0
        self._copy: bytes | None = None  # of the steady baseline; None: it has learned since
        self._lock = threading.Lock()  # over the kept baseline and its copy
        self._state: _State | None = None  # None: the episodes were not read from the store yet
        self._counts: Counter[str] = Counter(dict.fromkeys(_COUNTERS, 0))
        self._seconds = 0.0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="backtrail-watch", daemon=True)

    def start(self) -> None:
        """Begin; the first look is at the minute that goes on now, when it is over."""
        self._thread.start()

    def stop(self) -> None:
        """End after the minute that is being looked at, and keep what was learned.

        A store that does not answer is not waited for.
        """
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(STOP_TIMEOUT_S)
        self._save()

    @property
    def is_running(self) -> bool:
        """Whether it looks at minutes by itself."""
        return self._thread.is_alive()

    def stats(self) -> dict[str, float]:
        """What it did since the start, and how things are."""
        with self._lock:
            known = {
                "baseline_minutes": self._kept.minutes,
                "baseline_traces": self._kept.steady.profile.traces,
                "warm": int(self._kept.is_warm),
            }
        episodes = self._state.episodes if self._state is not None else {}
        ongoing = sum(not episode.is_usual for episode in episodes.values())
        return {**self._counts, **known, "ongoing": ongoing, "seconds": round(self._seconds, 3)}

    def baseline(self) -> Baseline | None:
        """A copy of what is normal; None: too little is known yet."""
        with self._lock:
            if not self._kept.is_warm:
                return None
            if self._copy is None:
                self._copy = self._kept.steady.to_bytes()
            data = self._copy
        return Baseline.from_bytes(data)

    def look_at_due(self) -> int:
        """Look at every minute that is over and was not looked at, earliest first; return how many.

        Raises:
            CollectorError, OSError: the store or the log does not answer; what is left stays due.
        """
        now_ns = self._clock_ns()
        last_end_ns = (now_ns - SETTLE_NS) // MINUTE_NS * MINUTE_NS
        first_ns = max(self._kept.learned_to_ns, last_end_ns - CATCH_UP_MINUTES * MINUTE_NS)
        looked = 0
        for start_ns in range(first_ns, last_end_ns, MINUTE_NS):
            if self._stopping.is_set():
                break
            try:
                self.look_at(start_ns)
            except (CollectorError, OSError):
                raise
            except Exception:
                if self._stopping.is_set():
                    break  # the store was closed under us, after it had not answered in time
                # Something in this minute that we cannot deal with: the next ones are to be looked at all
                # the same, and whoever reads the log is to know.
                self._counts["minutes_failed"] += 1
                logger.exception("the minute at %s could not be looked at", format_timestamp(start_ns))
                with self._lock:
                    self._kept.pass_over(start_ns + MINUTE_NS)
            looked += 1
        return looked

    def look_at(self, start_ns: int) -> list[FindingEvent]:
        """Look at one minute; return what was told.

        Args:
            start_ns: its beginning; minutes are given in the order of time.
        Raises:
            CollectorError, OSError: the store or the log does not answer; the minute was not looked at.
        """
        begun_s = time.monotonic()
        end_ns = start_ns + MINUTE_NS
        try:
            told = self._look(start_ns, end_ns)
        finally:
            self._seconds += time.monotonic() - begun_s
        with self._lock:
            self._kept.pass_over(end_ns)
        self._counts["minutes"] += 1
        return told

    def _look(self, start_ns: int, end_ns: int) -> list[FindingEvent]:
        if self._state is None:
            self._state = _State(episodes=self._remembered(start_ns))
        state = self._state
        taken = sample(self._store, start_ns, end_ns, status_of=self._status_of)
        self._counts["traces_seen"] += taken.listed
        self._counts["entries_left_out"] += taken.entries_left_out
        traces = taken.all_traces
        if not traces:
            return []
        self._counts["traces_read"] += len(traces)
        told: list[FindingEvent] = []
        if self._kept.is_warm:
            changes = recorded_changes(self._store, start_ns, end_ns)
            found = look(taken, self._kept.steady, start_ns=start_ns, end_ns=end_ns, changes=changes)
            state, told = _followed(state, found.suspicions, start_ns, end_ns)
            for event in told:
                self._write(*event_line(event))
                self._counts[f"findings.{event.state}"] += 1
            self._state = state  # not before: what could not be told is told at the next attempt
            if not found.is_whole or not state.is_as_usual:
                self._counts["minutes_not_learned"] += 1
                return told
        with self._lock:
            self._kept.learn(traces, end_ns=end_ns)
            self._copy = None
        self._unsaved += 1
        if self._unsaved >= SAVE_MINUTES:
            self._save()
        return told

    def _remembered(self, now_ns: int) -> dict[str, _Episode]:
        """The episodes that went on when the service ended, from their events."""
        page = self._store.search(
            findings_condition(),
            start_ns=now_ns - EPISODES_BACK_NS,
            end_ns=now_ns,
            limit=EPISODES_MAX,
        )
        latest: dict[str, FindingEvent] = {}
        for record in page.records:  # newest first
            event = event_of(record)
            if event is not None:
                latest.setdefault(event.service, event)
        return {
            service: _Episode(
                began=event,
                minutes=max(1, (now_ns - event.began_ns) // MINUTE_NS),
                is_usual=event.state == "usual",
            )
            for service, event in latest.items()
            if event.state != "ended"
        }

    def _save(self) -> None:
        with self._lock:
            if not self._kept.learned_to_ns:
                return
            try:
                self._kept.save()
                self._unsaved = 0
            except OSError as error:
                self._counts["failures"] += 1
                logger.warning("the baseline could not be written: %s", error)

    def _run(self) -> None:
        while not self._stopping.wait(self._pause_s()):
            try:
                self.look_at_due()
            except (CollectorError, OSError) as error:
                self._counts["failures"] += 1
                logger.warning("the watch has to wait: %s", error)

    def _pause_s(self) -> float:
        """How long until the minute that goes on now is over and has settled."""
        due_ns = (self._clock_ns() // MINUTE_NS + 1) * MINUTE_NS + SETTLE_NS
        return (due_ns - self._clock_ns()) / 1e9


_COUNTERS: Final = (
    "minutes",
    "minutes_not_learned",
    "minutes_failed",
    "traces_seen",
    "traces_read",
    "entries_left_out",
    "findings.began",
    "findings.ended",
    "findings.usual",
    "failures",
)


def _followed(
    before: _State, suspicions: list[Suspicion], start_ns: int, end_ns: int
) -> tuple[_State, list[FindingEvent]]:
    """The state after a minute, and what is to be told of it; `before` stays as it is."""
    state = _State()
    told: list[FindingEvent] = []
    for suspicion in suspicions:
        service = suspicion.cause.service
        known = before.episodes.get(service)
        if known is not None:
            episode = msgspec.structs.replace(known, minutes=known.minutes + 1, quiet=0)
            if episode.minutes >= USUAL_MINUTES and not episode.is_usual:
                episode.is_usual = True
                told.append(_later(episode, "usual", start_ns, end_ns))
            state.episodes[service] = episode
        elif suspicion.is_sure or service in before.doubted:
            event = _began(suspicion, before.doubted.get(service, start_ns), start_ns, end_ns)
            state.episodes[service] = _Episode(began=event)
            told.append(event)
        else:
            state.doubted[service] = start_ns
    for service, known in before.episodes.items():
        if service in state.episodes:
            continue
        episode = msgspec.structs.replace(known, quiet=known.quiet + 1)
        if episode.quiet < QUIET_MINUTES:
            state.episodes[service] = episode
        elif not episode.is_usual:
            told.append(_later(episode, "ended", start_ns, end_ns))
    return state, told


def _began(suspicion: Suspicion, began_ns: int, start_ns: int, end_ns: int) -> FindingEvent:
    cause = suspicion.cause
    return FindingEvent(
        id=episode_id(cause.service, began_ns),
        state="began",
        service=cause.service,
        fault=cause.fault,
        summary=cause.summary,
        confidence=cause.confidence,
        decades=round(suspicion.decades, 1),
        start_ns=start_ns,
        end_ns=end_ns,
        began_ns=began_ns,
        entries=[str(entry) for entry in suspicion.entries],
        signals=cause.signals,
        evidence=[item.uid for item in cause.evidence[:EVIDENCE_MAX]],
        traces=list(dict.fromkeys(i.trace_id for i in cause.evidence if i.trace_id))[:TRACES_MAX],
        operation=cause.operation,
        instance=cause.instance,
        location=cause.location,
        template=cause.template,
    )


def _later(episode: _Episode, state: str, start_ns: int, end_ns: int) -> FindingEvent:
    """The event that ends an episode."""
    began = episode.began
    minutes = (start_ns - began.began_ns) // MINUTE_NS
    said = {
        "ended": f"{began.service} is as usual again, {minutes} minutes after: {began.summary}",
        "usual": f"for {minutes} minutes now, so from here on it counts as usual: {began.summary}",
    }[state]
    return msgspec.structs.replace(began, state=state, summary=said, start_ns=start_ns, end_ns=end_ns)
