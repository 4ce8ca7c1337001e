"""Log templates: the constant part of a message, with an identity that survives a restart.

Values that look like values (numbers, ids, addresses, paths, anything structured in brackets) are masked
first; what is left is clustered by a fixed-depth tree, so that words which vary become wildcards too.
An identity is a hash of the template's own text: whoever finds the same template gives it the same
identity. When a template grows more general its identity changes, and the old one leads to the new.

Source: He et al. 2017, "Drain: An Online Log Parsing Approach with Fixed Depth Tree".
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import msgspec

WILDCARD: Final = "<*>"
STATE_VERSION: Final = 1


class TemplateLimits(msgspec.Struct, frozen=True, kw_only=True):
    """How far the tree may grow; what does not fit any more falls into `OVERFLOW` of its group."""

    templates_max: int = 20_000  # a big program has a few thousand log calls
    children_max: int = 100  # of one tree node; Drain's own default
    message_chars_max: int = 2_048  # a template shows in the first lines
    tokens_max: int = 96
    prefix_words: int = 1  # tree levels below the frame: names often come second, as in "user alice"
    similarity_min: float = 0.7  # share of equal words; above Drain's 0.5, since values are masked before


class Template(msgspec.Struct, frozen=True, kw_only=True):
    """The constant part of a message."""

    template_id: str  # 16 hex
    text: str  # the varying places masked: `<num>`, `<id>`, ... where their look is known, else `<*>`
    group: str = ""  # templates of different groups are never merged; we use the logger's name


OVERFLOW: Final = "<too many templates>"

# In this order: what is looked for first would otherwise be taken apart by what comes later.
_MASKS: Final = re.compile(
    r"""
      (?P<url>\b[a-z][a-z0-9+.-]*://[^\s'">\])}]+)
    | (?P<email>\b[\w.+-]+@[\w-]+\.[\w.]+\b)
    | (?P<time>\b\d{4}-\d\d-\d\d(?:[T\ ]\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?(?:Z|[+-]\d\d:?\d\d)?)?
             | \b(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)\ \w{3}\ \d\d?\ \d\d:\d\d:\d\d\ \w{1,5}\ \d{4}
             | \b\d\d:\d\d:\d\d(?:[.,]\d+)?\b)
    | (?P<id>\b[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}\b
           | \b(?=[0-9a-f]*\d)(?=\d*[a-f])[0-9a-f]{8,}\b | \b(?=[0-9A-F]*\d)(?=\d*[A-F])[0-9A-F]{8,}\b
           | \b0x[0-9a-fA-F]+\b)
    | (?P<ip>\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?\b)
    | (?P<path>(?<![\w/])(?:/[\w.@%+~-]+){2,}/?)
    | (?P<num>(?<![\w.])[-+]?\d+(?:[.,]\d+)*(?:[eE][-+]?\d+)?
              (?:%|\ ?(?:ns|us|µs|ms|s|min|h|[kKMG]i?B|B)\b)?(?!\w))
    | (?P<word>\b(?=\w*\d)\w+\b)
    """,
    re.VERBOSE,
)
# The innermost brackets that hold data, not words: `(status=1, msg=ok)`, `[a, b]`, `{}`.
_STRUCTURE: Final = re.compile(
    r"\[\]|\{\}|[\[({](?:[^\[\](){}]*(?:[=,:]|<data>)[^\[\](){}]*|\s*[-+]?\d[\d.]*\s*|'[^'\[\](){}]*')[\])}]"
)
_OPEN_STRUCTURE: Final = re.compile(r"[\[({](?=[^\[\](){}]*[=,:])[^\])}]*$")
_NESTING_MAX: Final = 16
_TOKEN: Final = re.compile(r"<[\w*]+>|\w+|\s+|[^\w\s<]+|<")


def mask(message: str) -> str:
    """Replace what looks like a value by what it looks like: `took 12 ms` -> `took <num>`."""
    if any(bracket in message for bracket in "[({"):
        for _ in range(_NESTING_MAX):
            message, count = _STRUCTURE.subn("<data>", message)
            if not count:
                break
        # What a long message's end has left open: `{a=1, b=2, c=`
        message = _OPEN_STRUCTURE.sub("<data>", message)
    return _MASKS.sub(_mask_name, message)


def _mask_name(match: re.Match[str]) -> str:
    # A word with a digit in it is a name of something: `worker3`, `Z1234`.
    return "<id>" if match.lastgroup == "word" else f"<{match.lastgroup}>"


def template_id(group: str, text: str) -> str:
    """The identity of a template: 16 hex of a hash over what it says."""
    return hashlib.sha256(f"{group}\n{text}".encode("utf-8", "replace")).hexdigest()[:16]


Frame = tuple[str, ...]


class _Cluster:
    """A template while it may still grow more general."""

    __slots__ = ("count", "frame", "template", "words")

    def __init__(self, frame: Frame, words: list[str], template: Template) -> None:
        self.frame = frame  # what stands between the words; equal for all messages of a template
        self.words = words
        self.template = template
        self.count = 0


class TemplateMiner:
    """Finds the template of each message, and remembers all it has found. One thread at a time."""

    def __init__(self, limits: TemplateLimits = TemplateLimits()) -> None:  # noqa: B008  # frozen
        self._limits = limits
        self._leaves: dict[tuple[object, ...], list[_Cluster]] = {}
        self._children: dict[tuple[object, ...], set[str]] = {}
        self._clusters: list[_Cluster] = []
        self._known_ids: set[str] = set()
        self._successors: dict[str, str] = {}
        self._overflows: dict[str, _Cluster] = {}
        self._by_masked: dict[tuple[str, str], _Cluster] = {}  # a short cut: most messages come again

    def __len__(self) -> int:
        return len(self._clusters)

    def add(self, message: str, *, group: str = "", count: int = 1) -> Template:
        """Learn a message and return its template as it is now."""
        masked = self._masked(message)
        cluster = self._by_masked.get((group, masked))
        if cluster is None:
            cluster = self._place(masked, group)
            if len(self._by_masked) >= 4 * self._limits.templates_max:
                self._by_masked.clear()
            self._by_masked[group, masked] = cluster
        cluster.count += count
        return cluster.template

    def add_all(self, messages: Iterable[tuple[str, str]]) -> list[Template]:
        """Learn many at once, each a message and its group; return their templates as they end up."""
        before = [self.add(message, group=group) for message, group in messages]
        now = {cluster.template.template_id: cluster.template for cluster in self._clusters}
        return [now.get(self.current_id(template.template_id), template) for template in before]

    def take_in(self, other: TemplateMiner) -> dict[str, str]:
        """Learn what another has learned; return under which identity each of its templates is now known."""
        counted = list(other.templates())
        before = [self.add(theirs.text, group=theirs.group, count=count) for theirs, count in counted]
        return {
            theirs.template_id: self.current_id(mine.template_id)
            for (theirs, _), mine in zip(counted, before, strict=True)
        }

    def find(self, message: str, *, group: str = "") -> Template | None:
        """The template of a message among those that are known; learns nothing."""
        masked = self._masked(message)
        cluster = self._by_masked.get((group, masked))
        if cluster is None:
            frame, words = self._words(masked)
            leaf = self._leaf(group, frame, words, grow=False)
            cluster = self._nearest(self._leaves.get(leaf, ()), words)
        return cluster.template if cluster else None

    def has(self, identity: str) -> bool:
        """Whether a template with this identity is known, as it is now."""
        return identity in self._known_ids

    def current_id(self, identity: str) -> str:
        """Where an identity has gone since: the template that took it in, or itself."""
        seen = set()
        while identity in self._successors and identity not in seen:
            seen.add(identity)
            identity = self._successors[identity]
        return identity

    def templates(self) -> Iterator[tuple[Template, int]]:
        """Every template with how often it was seen, in order of appearance."""
        for cluster in self._clusters:
            yield cluster.template, cluster.count

    def to_bytes(self) -> bytes:
        """The whole state, for `from_bytes`."""
        state = _State(
            version=STATE_VERSION,
            clusters=[(c.template.group, c.template.text, c.count) for c in self._clusters],
            successors=self._successors,
        )
        return msgspec.json.encode(state)

    @classmethod
    def from_bytes(cls, data: bytes, limits: TemplateLimits = TemplateLimits()) -> TemplateMiner:  # noqa: B008
        """Go on where `to_bytes` left off.

        Raises:
            ValueError: the bytes are not a state, or of another version.
        """
        try:
            state = msgspec.json.decode(data, type=_State)
        except msgspec.DecodeError as error:
            raise ValueError(f"not a state of templates: {error}") from None
        if state.version != STATE_VERSION:
            raise ValueError(f"templates of version {state.version}, this program reads {STATE_VERSION}")
        miner = cls(limits)
        for group, text, count in state.clusters:
            frame, words = miner._words(text)
            miner._new(group, frame, words, miner._leaf(group, frame, words, grow=True)).count = count
        miner._successors = dict(state.successors)
        return miner

    def _masked(self, message: str) -> str:
        head = message[: self._limits.message_chars_max].partition("\n")[0]
        return mask(head)

    def _words(self, masked: str) -> tuple[Frame, list[str]]:
        """Take a text apart: what stands before, between and behind the words, and the words."""
        frame, words = [""], []
        for token in _TOKEN.findall(masked)[: self._limits.tokens_max]:
            if token[0].isalnum() or token[0] == "_" or (len(token) > 2 and token[0] == "<"):
                words.append(token)
                frame.append("")
            else:
                frame[-1] += " " if token.isspace() else token
        return tuple(frame), words

    def _leaf(self, group: str, frame: Frame, words: list[str], *, grow: bool) -> tuple[object, ...]:
        """The path through the tree: group, frame, and the first words while there is room for them."""
        path: tuple[object, ...] = (group, frame)
        for word in words[: self._limits.prefix_words]:
            known = self._children.get(path)
            step = WILDCARD if word[0] == "<" else word
            if known is None or step not in known:
                if grow and (known is None or len(known) < self._limits.children_max):
                    self._children.setdefault(path, set()).add(step)
                else:
                    step = WILDCARD
            path = (*path, step)
        return path

    def _place(self, masked: str, group: str) -> _Cluster:
        frame, words = self._words(masked)
        leaf = self._leaf(group, frame, words, grow=True)
        cluster = self._nearest(self._leaves.get(leaf, ()), words)
        if cluster is not None:
            self._generalise(cluster, words)
            return cluster
        if len(self._clusters) >= self._limits.templates_max:
            return self._overflow(group)
        return self._new(group, frame, words, leaf)

    def _nearest(self, clusters: Sequence[_Cluster], words: list[str]) -> _Cluster | None:
        best, best_score = None, (0.0, 0)
        for cluster in clusters:
            wild = equal = 0
            for mine, other in zip(cluster.words, words, strict=True):
                if mine == WILDCARD:
                    wild += 1
                elif mine == other:
                    equal += 1
            score = ((equal + wild) / len(words) if words else 1.0, -wild)
            if score[0] >= self._limits.similarity_min and (best is None or score > best_score):
                best, best_score = cluster, score
        return best

    def _generalise(self, cluster: _Cluster, words: list[str]) -> None:
        merged = [
            mine if mine == other else WILDCARD for mine, other in zip(cluster.words, words, strict=True)
        ]
        if merged == cluster.words:
            return
        before = cluster.template
        text = _text(cluster.frame, merged)
        after = Template(template_id=template_id(before.group, text), text=text, group=before.group)
        self._known_ids.discard(before.template_id)
        self._known_ids.add(after.template_id)
        self._successors[before.template_id] = after.template_id
        self._successors.pop(after.template_id, None)
        cluster.words, cluster.template = merged, after

    def _new(self, group: str, frame: Frame, words: list[str], leaf: tuple[object, ...]) -> _Cluster:
        text = _text(frame, words)
        template = Template(template_id=template_id(group, text), text=text, group=group)
        cluster = _Cluster(frame, words, template)
        self._clusters.append(cluster)
        self._known_ids.add(template.template_id)
        self._leaves.setdefault(leaf, []).append(cluster)
        return cluster

    def _overflow(self, group: str) -> _Cluster:
        cluster = self._overflows.get(group)
        if cluster is None:
            cluster = self._overflows[group] = self._new(group, (OVERFLOW,), [], (group, OVERFLOW))
        return cluster


def _text(frame: Frame, words: list[str]) -> str:
    return "".join(between + word for between, word in zip(frame, [*words, ""], strict=True))


class _State(msgspec.Struct, frozen=True, kw_only=True):
    version: int
    clusters: list[tuple[str, str, int]]
    successors: dict[str, str]
