"""What is normal: the profile of traces that are thought healthy, and the templates it is written in.

More can be learned at any time, and two baselines can be added. How much healthy stretches of time differ
among themselves is kept beside how much single visits do, because only the former says what a shift is
worth.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, Self

import msgspec

from collector.diagnose.losses import doubt_lost_lines
from collector.diagnose.profile import LogProfile, OperationProfile, Profile, add
from collector.diagnose.visits import LOG, Vocabulary, site, visits_of
from collector.model import Record, Trace
from collector.templates import TemplateMiner

FORMAT_VERSION: Final = 1


class Baseline:
    """What is normal, and the templates that its log lines are named by. One thread at a time."""

    def __init__(self) -> None:
        self.profile = Profile()
        self.templates = TemplateMiner()

    def learn(self, traces: Iterable[Trace]) -> None:
        """Take these traces as healthy too."""
        traces = list(traces)
        before = {template.template_id for template, _ in self.templates.templates()}
        self.templates.add_all((log.message or "", log.logger or "") for log in _telling(traces))
        if any(not self.templates.has(identity) for identity in before):
            self._rename()
        visits = visits_of(traces, self.vocabulary())
        doubt_lost_lines(visits, self.profile, learning=True)
        self.profile.count(traces, visits)

    def merge(self, other: Baseline) -> None:
        """Take what the other has learned too."""
        moved = self.templates.take_in(other.templates)
        self._rename()
        self.profile.merge(_renamed(other.profile, lambda identity: moved.get(identity, identity)))

    def vocabulary(self) -> Vocabulary:
        """Names for the log lines of traces that are to be compared with this baseline."""
        return Vocabulary(self.templates)

    def to_bytes(self) -> bytes:
        """The whole of it, for `from_bytes`."""
        state = _State(version=FORMAT_VERSION, profile=self.profile, templates=self.templates.to_bytes())
        return msgspec.msgpack.encode(state)

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read what `to_bytes` wrote.

        Raises:
            ValueError: the bytes are not a baseline, or of another version.
        """
        try:
            state = msgspec.msgpack.decode(data, type=_State)
        except msgspec.ValidationError:  # whose words are about our types
            raise ValueError("not a baseline") from None
        except msgspec.DecodeError as error:
            raise ValueError(f"not a baseline: {error}") from None
        if state.version != FORMAT_VERSION:
            raise ValueError(f"a baseline of version {state.version}, this program reads {FORMAT_VERSION}")
        baseline = cls()
        baseline.profile = state.profile
        baseline.templates = TemplateMiner.from_bytes(state.templates)
        return baseline

    def _rename(self) -> None:
        """Templates that grew more general have new identities: follow them."""
        self.profile = _renamed(self.profile, self.templates.current_id)


class _State(msgspec.Struct, frozen=True, kw_only=True):
    version: int
    profile: Profile
    templates: bytes


def _telling(traces: Iterable[Trace]) -> Iterable[Record]:
    """The lines whose templates matter: errors, lines without a place, and one of each place."""
    seen: set[tuple[str | None, str]] = set()
    for trace in traces:
        for node in trace.walk():
            for log in node.logs:
                where = site(log)
                if where is None or log.is_error:
                    yield log
                elif (log.logger, where) not in seen:
                    seen.add((log.logger, where))
                    yield log


def _renamed(profile: Profile, new_id: Callable[[str], str]) -> Profile:
    """The same counts under other identities of templates; two that became one are added."""

    def token(text: str) -> str:
        return LOG + new_id(text.removeprefix(LOG)) if text.startswith(LOG) else text

    renamed = Profile(
        traces=profile.traces,
        first_ns=profile.first_ns,
        last_ns=profile.last_ns,
        parents_there=profile.parents_there,
        parents_missing=profile.parents_missing,
        service_visits=profile.service_visits,
        service_lines=profile.service_lines,
        versions=profile.versions,
        edges=profile.edges,
        exceptions=profile.exceptions,
        entries=profile.entries,
    )
    for operation, old in profile.operations.items():
        new = OperationProfile(
            visits=old.visits,
            traces=old.traces,
            errors=old.errors,
            unfinished=old.unfinished,
            logging=old.logging,
            self_time=old.self_time,
            shapes=old.shapes,
        )
        for name, most in old.most.items():
            new.most[token(name)] = max(new.most.get(token(name), 0), most)
        new.templates = {token(name): new_id(identity) for name, identity in old.templates.items()}
        for counts, more in zip(new.counts, old.counts, strict=True):
            for name, count in more.items():
                add(counts, token(name), count)
        for name, nexts in old.follows.items():
            known = new.follows.setdefault(token(name), {})
            for following, count in nexts.items():
                add(known, token(following), count)
        renamed.operations[operation] = new
    for (service, identity), logged in profile.errors_logged.items():
        ours = renamed.errors_logged.setdefault((service, new_id(identity)), LogProfile())
        ours.lines += logged.lines
        ours.traces += logged.traces
    return renamed
