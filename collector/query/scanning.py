"""Makes what a person typed safe for luqum: escapes what Lucene would take for syntax and a person meant.

In Lucene `http.route:/orders/{id}` is an unfinished regular expression and `at:12:30` a field in a field.
Here a value goes on to the next blank, and only what is at its beginning is syntax: a quote, a
range, a parenthesis, a comparison.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from collector.errors import QueryError

_FIELD: Final = re.compile(r"([^\W\d][\w.@/-]*|@[\w.@/-]+):(?!//)")  # what follows :// is an address
_RANGE: Final = re.compile(
    r"[\[{]\s*(\"(?:[^\\\"]|\\.)*\"|\S+)\s+TO\s+(\"(?:[^\\\"]|\\.)*\"|[^\s]+?)\s*[\]}]"
)
_COMPARISON: Final = re.compile(r"[<>]=?\s*")
_BELOW: Final = re.compile(r"(?<!\S)>>?(?!\S)")  # between blanks, where no comparison can stand
_FUZZY_OR_BOOST: Final = re.compile(r"[~^][0-9.]*$")
_SPECIAL: Final = frozenset(":^~(){}[]")
_SPECIAL_AT_START: Final = frozenset("/\"'+-<>") | _SPECIAL


@dataclass(slots=True)
class Scanned:
    """Text for luqum, and for each of its characters where it came from."""

    text: list[str] = field(default_factory=list)
    origins: list[int] = field(default_factory=list)
    below: str = ""  # `>` or `>>` between this and what was scanned before
    start: int = 0  # where it begins

    @property
    def is_blank(self) -> bool:
        """Whether there is nothing to be read in it."""
        return not "".join(self.text).strip()

    def put(self, characters: str, origin: int) -> None:
        """Add characters that stand at a place one after the other."""
        for offset, character in enumerate(characters):
            self.text.append(character)
            self.origins.append(origin + offset)

    def put_escaped(self, character: str, origin: int) -> None:
        """Add a character that shall be no syntax."""
        self.text += ("\\", character)
        self.origins += (origin, origin)


def scan(text: str) -> list[Scanned]:
    """Escape a query for luqum; what `>` and `>>` part comes one by one.

    Raises:
        QueryError: a quote is not closed, a field has no value, it asks for likeness or weight, or there is
            nothing before or behind `>>`.
    """
    scanned, position, in_value, depth = Scanned(), 0, False, 0
    parts = [scanned]
    while position < len(text):
        character = text[position]
        if character.isspace():
            if in_value:
                raise QueryError("a field needs a value directly behind its colon", position=position)
            scanned.put(" ", position)
            position += 1
        elif character in "()":
            scanned.put(character, position)
            depth += 1 if character == "(" else -1
            position += 1
            in_value = False
        elif not in_value and (match := _BELOW.match(text, position)) and not _is_comparison(match, scanned):
            _check_below(match, scanned, depth)
            position = match.end()
            scanned = Scanned(below=match[0], start=position)
            parts.append(scanned)
        elif character == '"':
            position = _phrase(text, position, scanned)
            in_value = False
        elif match := _RANGE.match(text, position):
            _range(match, scanned)
            position = match.end()
            in_value = False
        elif character in "<>" and (match := _COMPARISON.match(text, position)):
            scanned.put(match[0], position)
            position = match.end()
            in_value = True
        elif character in "+-" and not in_value and not text[position + 1 : position + 2].isspace():
            scanned.put(character, position)
            position += 1
        elif not in_value and (match := _FIELD.match(text, position)):
            scanned.put(match[0], position)
            position = match.end()
            in_value = True
        else:
            position = _term(text, position, scanned)
            in_value = False
    if in_value:
        raise QueryError("a field or comparison without a value at the end", position=len(text))
    if scanned.below and scanned.is_blank:
        raise QueryError(f"nothing stands behind {scanned.below}", position=len(text))
    return parts


def _is_comparison(match: re.Match[str], before: Scanned) -> bool:
    """`> 5` at the beginning is a comparison that lacks its field."""
    return match[0] == ">" and before.is_blank and not before.below


def _check_below(match: re.Match[str], before: Scanned, depth: int) -> None:
    if depth > 0:
        raise QueryError(
            f"{match[0]} binds least of all and cannot stand in parentheses", position=match.start()
        )
    if before.is_blank:
        raise QueryError(f"nothing stands before {match[0]}", position=match.start())


def _phrase(text: str, start: int, scanned: Scanned) -> int:
    position = start + 1
    while position < len(text):
        if text[position] == "\\":
            position += 2
        elif text[position] == '"':
            scanned.put(text[start : position + 1], start)
            return position + 1
        else:
            position += 1
    raise QueryError('this quote is not closed; to search for the character itself write \\"', position=start)


def _range(match: re.Match[str], scanned: Scanned) -> None:
    scanned.put(match[0][0], match.start())
    _end_of_range(match[1], match.start(1), scanned)
    scanned.put(" TO ", match.end(1))
    _end_of_range(match[2], match.start(2), scanned)
    scanned.put(match[0][-1], match.end() - 1)


def _end_of_range(text: str, start: int, scanned: Scanned) -> None:
    if text.startswith('"'):
        scanned.put(text, start)
    else:
        _escape(text, start, scanned)


def _term(text: str, start: int, scanned: Scanned) -> int:
    """A term goes on to a blank or to a closing parenthesis that it has not opened itself."""
    position, opened = start, 0
    while position < len(text) and not text[position].isspace():
        if text[position] == "\\":
            position += 1
        elif text[position] == "(":
            opened += 1
        elif text[position] == ")":
            if not opened:
                break
            opened -= 1
        position += 1
    position = min(position, len(text))
    term = text[start:position]
    if match := _FUZZY_OR_BOOST.search(term):
        raise QueryError(
            f'likeness (~) and weights (^) are not known here; use * and ?, or quotes: "{term}"',
            position=start + match.start(),
        )
    _escape(term, start, scanned)
    return position


def _escape(term: str, start: int, scanned: Scanned) -> None:
    position = 0
    while position < len(term):
        character = term[position]
        if character == "\\" and position + 1 < len(term):
            scanned.put(term[position : position + 2], start + position)
            position += 2
            continue
        if character == "\\" or character in (_SPECIAL if position else _SPECIAL_AT_START):
            scanned.put_escaped(character, start + position)
        else:
            scanned.put(character, start + position)
        position += 1
