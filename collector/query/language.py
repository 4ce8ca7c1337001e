"""The search language: Lucene's syntax, read by luqum -> a tree of conditions."""

from __future__ import annotations

import re
from copy import copy
from functools import partial
from threading import local
from typing import Final

import luqum.parser as luqum_parser
from luqum import tree
from luqum.exceptions import ParseError

from collector.errors import QueryError
from collector.query.fields import compared, equal, existing, like, quoted
from collector.query.scanning import Scanned, scan
from collector.store.conditions import And, Condition, Everything, Not, Or, Structure

QUERY_CHARS_MAX: Final = 8_192  # far beyond what a person types; a program can send a tree of conditions
DEPTH_MAX: Final = 50  # of parentheses and negations
STEPS_MAX: Final = 16  # of a structure; deeper relations are drawn by the chain itself

_POSITION: Final = re.compile(r"at position (\d+)")
_ESCAPED: Final = re.compile(r"\\(.)", re.DOTALL)
_WILD: Final = re.compile(r"(?<!\\)(?:\\\\)*[*?]")
_LITERAL_WILD: Final = re.compile(r"(?<!\\)(?:\\\\)*\\[*?]")
_per_thread: Final = local()


def parse_query(text: str, *, now_ns: int | None = None) -> Condition:
    """Read a search; an empty one is for everything.

    Args:
        text: see the package's docstring.
        now_ns: the present, for times such as `timestamp:>15m`; without it only absolute times are known.
    Raises:
        QueryError: with the position and what would be right.
    """
    parts = _scanned(text)
    if len(parts) > 1:
        raise QueryError(
            f"{parts[1].below} asks how spans stand in a trace, which only a search for traces can answer",
            position=parts[1].start - len(parts[1].below),
        )
    return _condition(parts[0], text, now_ns)


def parse_structure(text: str, *, now_ns: int | None = None) -> Structure:
    """Read a search for traces: what spans must be, and how they must stand below each other.

    Args:
        text, now_ns: as for `parse_query`.
    Raises:
        QueryError: with the position and what would be right.
    """
    parts = _scanned(text)
    if len(parts) > STEPS_MAX:
        raise QueryError(f"{len(parts)} steps; at most {STEPS_MAX} are read", position=parts[STEPS_MAX].start)
    return Structure(
        steps=tuple(_condition(part, text, now_ns) for part in parts),
        direct=tuple(part.below == ">" for part in parts),
    )


def _scanned(text: str) -> list[Scanned]:
    if len(text) > QUERY_CHARS_MAX:
        raise QueryError(f"a search of {len(text)} characters; at most {QUERY_CHARS_MAX} are read")
    return scan(text)


def _condition(scanned: Scanned, text: str, now_ns: int | None) -> Condition:
    if scanned.is_blank:
        return Everything()
    try:
        node = _parse("".join(scanned.text))
    except ParseError as error:
        raise _syntax_error(str(error), text, scanned) from None
    return _Reader(scanned.origins, now_ns).read(node, None, 0)


def _parse(text: str) -> tree.Item:
    """Parse with a parser of this thread's own: PLY keeps its state in the parser and in the lexer.

    `luqum.thread.parse` gives each thread a lexer only. Source: luqum issue 72, PLY issue 268.
    """
    parse = getattr(_per_thread, "parse", None)
    if parse is None:
        parser = copy(luqum_parser.parser)
        # The instance carries luqum's own `parse`, which is bound to the parser that all share.
        parse = _per_thread.parse = partial(type(parser).parse, parser)
    node: tree.Item = parse(text, lexer=luqum_parser.lexer.clone())
    return node


def _syntax_error(message: str, text: str, scanned: Scanned) -> QueryError:
    found = _POSITION.search(message)
    origins = scanned.origins
    if found is None:
        end = origins[-1] + 1
        if scanned.text.count("(") > scanned.text.count(")"):
            return QueryError("a parenthesis is not closed", position=end)
        return QueryError("the search ends where a word was expected", position=end)
    position = origins[min(int(found[1]), len(origins) - 1)]
    if text[position] == ")":
        if text[:position].rstrip().endswith("("):
            return QueryError("there is nothing between these parentheses", position=position)
        return QueryError("this parenthesis was not opened", position=position)
    word = text[position:].split(maxsplit=1)[0][:40]
    return QueryError(
        f"{word!r} is not expected here; put text that holds AND, OR, NOT or signs in quotes",
        position=position,
    )


class _Reader:
    """Walks luqum's tree; `field` is the name in front of a colon, `None` in the open."""

    def __init__(self, origins: list[int], now_ns: int | None) -> None:
        self._origins = origins
        self._now_ns = now_ns

    def read(self, node: tree.Item, field: str | None, depth: int) -> Condition:
        if depth > DEPTH_MAX:
            raise QueryError(f"nested more than {DEPTH_MAX} deep", position=self._position(node))
        deeper = depth + 1
        match node:
            case tree.SearchField():
                if field is not None:
                    raise QueryError(
                        f"{node.name}: stands inside {field}:; a field has values, not fields",
                        position=self._position(node),
                    )
                return self.read(node.expr, _unescaped(node.name), deeper)
            case tree.Group() | tree.FieldGroup():
                return self.read(node.expr, field, deeper)
            case tree.OrOperation():
                return Or(tuple(self.read(child, field, deeper) for child in node.children))
            case tree.AndOperation() | tree.UnknownOperation():
                return And(tuple(self.read(child, field, deeper) for child in node.children))
            case tree.Plus():
                return self.read(node.a, field, deeper)
            case tree.Not() | tree.Prohibit():
                return Not(self.read(node.a, field, deeper))
            case _:
                return self._leaf(node, field)

    def _leaf(self, node: tree.Item, field: str | None) -> Condition:
        try:
            match node:
                case tree.Word():
                    return self._word(node.value, field)
                case tree.Phrase():
                    return quoted(field, _unescaped(node.value[1:-1]))
                case tree.Range():
                    low, high = self._end(node.low), self._end(node.high)
                    return compared(
                        field, low, high, node.include_low, node.include_high, now_ns=self._now_ns
                    )
                case tree.From():
                    return compared(field, self._end(node.a), None, node.include, True, now_ns=self._now_ns)
                case tree.To():
                    return compared(field, None, self._end(node.a), True, node.include, now_ns=self._now_ns)
        except QueryError as error:
            position = self._position(node) if error.position is None else error.position
            raise QueryError(str(error), position=position) from None
        raise QueryError(f"{node} is not known here", position=self._position(node))

    def _word(self, value: str, field: str | None) -> Condition:
        wild = _WILD.search(value) is not None
        if wild and _LITERAL_WILD.search(value):
            raise QueryError(f"{value}: a pattern cannot hold * or ? as themselves; write ? for each of them")
        text = _unescaped(value)
        if not wild:
            return equal(field, text, now_ns=self._now_ns)
        return existing(field) if field is not None and text == "*" else like(field, text)

    def _end(self, node: tree.Item) -> str | None:
        """One end of a range or comparison; `None`: open."""
        match node:
            case tree.Word() if node.value == "*":
                return None
            case tree.Word():
                return _unescaped(node.value)
            case tree.Phrase():
                return _unescaped(node.value[1:-1])
        raise QueryError(f"{node} is no number and no time", position=self._position(node))

    def _position(self, node: tree.Item) -> int | None:
        position: int | None = node.pos
        return None if position is None else self._origins[min(position, len(self._origins) - 1)]


def _unescaped(text: str) -> str:
    return _ESCAPED.sub(r"\1", text)
