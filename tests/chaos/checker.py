"""What was sent against what is stored and what the ledger says: sets compared for equality. Pure.

A record whose call returned must be stored once, or its loss must be told: by a count of its own spool in the
ledger, or because a fault destroyed its very bytes. Whatever is told and did not happen is a fault, too.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from tests.chaos.truth import Mark, Sent

# A line that is no JSON is refused by the collector; a hole of NULs is found by whoever ships.
_OF_DESTROYED: Final = ("refused as ", "damaged")
_MERGED: Final = "several"  # the ledger's reason where a spool has so many holes that they became one


class Stored(NamedTuple):
    """A record as the collector's API gives it."""

    uid: str
    mark: Mark


class Destroyed(NamedTuple):
    """Bytes that a fault has overwritten, and whose they were."""

    where: str  # "spool" or "wal"
    spool_id: str
    begin: int  # logical offsets, the end not included
    end: int
    mark: Mark | None  # None: no record, or not one of a writer


@dataclass(kw_only=True)
class Verdict:
    """What came of a run. `ok` is the only good one."""

    sent: int = 0
    stored: int = 0
    in_doubt: int = 0  # calls that did not return; stored or not
    lost_counted: Counter[str] = field(default_factory=Counter)  # lost, and told: by reason
    lost_beyond: list[Mark] = field(default_factory=list)  # lost, and nobody says so
    twice: list[Mark] = field(default_factory=list)
    never_sent: list[Mark] = field(default_factory=list)
    gaps_unexplained: list[str] = field(default_factory=list)
    ledger_differs: list[str] = field(default_factory=list)  # what it says against what happened
    complaints: list[str] = field(default_factory=list)  # what faults saw go wrong meanwhile

    @property
    def ok(self) -> bool:
        """Whether every promise was kept."""
        return not (
            self.lost_beyond
            or self.twice
            or self.never_sent
            or self.gaps_unexplained
            or self.ledger_differs
            or self.complaints
        )

    def lines(self) -> list[str]:
        """For a person to read; of each kind of trouble the first few."""
        lost = ", ".join(f"{reason} {count}" for reason, count in sorted(self.lost_counted.items()))
        counts = [
            f"sent {self.sent}, stored {self.stored}, in doubt {self.in_doubt}",
            f"lost and counted: {lost or 'none'}",
            f"lost beyond that {len(self.lost_beyond)}, twice {len(self.twice)},"
            f" never sent {len(self.never_sent)}, unexplained gaps {len(self.gaps_unexplained)},"
            f" ledger differs {len(self.ledger_differs)}, complaints {len(self.complaints)}",
        ]
        for what, found in (
            ("lost", self.lost_beyond),
            ("twice", self.twice),
            ("never sent", self.never_sent),
            ("gap", self.gaps_unexplained),
            ("ledger", self.ledger_differs),
            ("complaint", self.complaints),
        ):
            counts += [f"  {what}: {one}" for one in found[:10]]
        return counts


def check(
    sent: Mapping[str, Sent],
    stored: Iterable[Stored],
    spools: Sequence[Mapping[str, Any]],
    destroyed: Sequence[Destroyed] = (),
) -> Verdict:
    """Judge a run.

    Args:
        sent: by writer.
        stored: every record that the collector finds.
        spools: of the ledger, as `SpoolState` has them.
        destroyed: what faults overwrote.
    """
    verdict = Verdict(sent=sum(len(writer.returned) for writer in sent.values()))
    times_by_uid: Counter[str] = Counter()
    times: Counter[Mark] = Counter()
    for record in stored:
        times_by_uid[record.uid] += 1
        times[record.mark] += 1
    verdict.stored = len(times)
    twice_by_uid = [uid for uid, count in times_by_uid.items() if count > 1]
    verdict.twice = sorted(mark for mark, count in times.items() if count > 1)
    if twice_by_uid and not verdict.twice:
        raise AssertionError(f"{twice_by_uid[0]} is stored twice with different marks")

    lost_by_process: dict[tuple[str, int], list[Mark]] = defaultdict(list)
    known: set[Mark] = set()
    for name, writer in sent.items():
        returned = writer.returned
        verdict.in_doubt += writer.begun - len(returned)
        known.update(Mark(name, number) for number in range(writer.begun))
        lost_by_process[writer.service, writer.pid] += [
            mark for number in sorted(returned) if (mark := Mark(name, number)) not in times
        ]
    verdict.never_sent = sorted(set(times) - known)

    ruined = {one.mark: one for one in destroyed if one.mark is not None}
    spools_of: dict[tuple[str, int], list[Mapping[str, Any]]] = defaultdict(list)
    for spool in spools:
        spools_of[spool.get("service", ""), spool.get("pid") or 0].append(spool)
    for process, lost in sorted(lost_by_process.items()):
        spans_begun = sum(
            writer.begun
            for name, writer in sent.items()
            if (writer.service, writer.pid) == process and "-spans" in name
        )
        _account(verdict, process, lost, spools_of[process], ruined, spans_begun)
    for spool in spools:
        _look_for_gaps(verdict, spool, destroyed)
    return verdict


def _account(
    verdict: Verdict,
    process: tuple[str, int],
    lost: Sequence[Mark],
    spools: Sequence[Mapping[str, Any]],
    ruined: Mapping[Mark, Destroyed],
    spans_begun: int,
) -> None:
    """Set what a process lost against what its spools say in the ledger.

    A line is counted by its sender as `loss`, by the collector as refused. The start of a span is a line too,
    and counts where it is shed, though it is no record: only there may the ledger have more than was lost.
    """
    in_log = [mark for mark in lost if mark in ruined and ruined[mark].where == "wal"]
    in_spool = [mark for mark in lost if mark in ruined and ruined[mark].where == "spool"]
    to_tell = [mark for mark in lost if mark not in ruined] + in_spool
    told: Counter[str] = Counter()
    for spool in spools:
        for hole in spool.get("losses", ()):
            told[hole.get("reason") or "unsaid"] += hole.get("count") or 0
        for reason, count in spool.get("refused", {}).items():
            told[f"refused as {reason}"] += count
    who = f"{process[0]}, process {process[1]}"
    verdict.lost_counted["destroyed in the log"] += len(in_log)
    verdict.lost_counted.update(told)
    destroyed = sum(count for reason, count in told.items() if reason.startswith(_OF_DESTROYED))
    # A line may be destroyed after it was stored and before its sender heard of that; it may then be told.
    at_most = sum(one.where == "spool" and _process_of(mark) == process for mark, one in ruined.items())
    is_short = destroyed < len(in_spool) and not told[_MERGED]
    if destroyed > at_most or is_short:
        verdict.ledger_differs.append(
            f"{who}: {len(in_spool)} of {at_most} destroyed lines are lost, {destroyed} are counted"
        )
    untold = len(to_tell) - told.total()
    if untold > 0:
        verdict.lost_beyond += to_tell[:untold]
    elif untold < -spans_begun - (at_most - len(in_spool)):
        verdict.ledger_differs.append(f"{who}: lost {len(to_tell)}, the ledger says {dict(told)}")


def _process_of(mark: Mark) -> tuple[str, int]:
    service, pid, _ = mark.writer.split(".", 2)
    return service, int(pid)


def _look_for_gaps(verdict: Verdict, spool: Mapping[str, Any], destroyed: Sequence[Destroyed]) -> None:
    """A hole in what arrived is explained where a fault destroyed what lay there."""
    spool_id = spool["spool_id"]
    ours = [one for one in destroyed if one.spool_id == spool_id]
    for hole in spool.get("missing", ()):
        begin, end = hole["start"], hole["end"]
        if not any(one.begin < end and one.end > begin for one in ours):
            verdict.gaps_unexplained.append(f"{spool.get('service')} {spool_id}: {begin} to {end}")
    if spool.get("ended") is None:
        verdict.gaps_unexplained.append(f"{spool.get('service')} {spool_id}: nobody said how it ended")
