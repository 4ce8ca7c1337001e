"""What never leaves the process: values under telling keys, and values that give themselves away.

Redaction happens before a line reaches the spool, so a secret is neither on disk nor on the wire. It is
in two steps, because nearly every line is innocent: `looks_innocent` asks for a handful of words of which
every secret that we know contains one, in a fraction of a microsecond; only a line that fails that test
is taken apart and searched value by value.

Sources: RFC 6750 (bearer), RFC 7519 (JWT), RFC 7468 (PEM), ISO/IEC 7812 (card numbers, Luhn).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any, Final

import orjson

from tracing.health import count
from tracing.line import dumps, plain

REDACTED: Final = "[redacted]"
DEPTH_MAX: Final = 12  # deeper values are written as their repr, which is searched as one text

# Keys whose value is a secret, in lower case. `tokens_used`, `keyboard` and `secretary` are none.
_TELLING_KEY: Final = re.compile(
    r"passw(?:or)?d|passphrase|pwd|secret(?!ar)|authorization|cookie|credential"
    r"|(?:api|access|private|signing)[^a-z0-9]?key|token(?![a-z])|card[^a-z0-9]?n(?:o|um|umber)(?![a-z])|cvv|cvc"
)
# ... but these only speak about one: `token_count`, `cookie.size`, `password_length`.
_ABOUT_A_SECRET: Final = re.compile(r"[^a-z0-9](?:count|type|limit|length|size|total|usage|age|expires_in)$")

_CARD_HINT: Final = re.compile(r"[0-9]{4}[ -]?[0-9][0-9]")  # what a text with a card number contains

# Log calls: templates and short texts that were found innocent, so that they are searched once.
_KNOWN_MAX: Final = 8192
_KNOWN_CHARS_MAX: Final = 256
_CARDLESS_MAX: Final = 10**12 - 1  # a card number has thirteen digits or more
_HARMLESS: Final = frozenset((float, bool, type(None)))
# Arguments that stand so close together may make a card number of two harmless ones.
_ADJACENT: Final = re.compile(r"%[^%a-zA-Z]*[a-zA-Z][ -]?%")

_BEARER: Final = re.compile(r"\b(bearer)\s+[\w.~+/=-]{6,}", re.IGNORECASE)
_JWT: Final = re.compile(r"eyJ[\w-]{4,}\.[\w-]{4,}(?:\.[\w-]*)?")
_PEM: Final = re.compile(r"-----BEGIN [^-\n]+-----.*?(?:-----END [^-\n]+-----|\Z)", re.DOTALL)
_USERINFO: Final = re.compile(r"(://[^/\s:@?#]*):[^/\s@]+@")
_CARD: Final = re.compile(r"(?<![0-9.])[0-9]{4}(?:[ -]?[0-9]){9,15}(?![0-9]|\.[0-9])")
_EMAIL: Final = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+")
# `password=…`, `"api_key": "…"`, `token='…'` in the middle of a text. An unquoted value ends where a query
# parameter or a word ends, so that a secret with a comma in it goes as a whole.
_ASSIGNED: Final = re.compile(
    r"""(?ix)
    ( [\w.-]* (?: passw(?:or)?d | passphrase | pwd | secret(?!ar) | token | credentials?
               | (?: api | access | private | signing )[_\s-]?key ) [\w.-]*
      (?:\\*["'])? \s* [=:] \s* )
    (?! ["'\\]* \[redacted\] )
    (?: \\"(?:[^"\\]|\\[^"])*\\" | "(?:[^"\\]|\\.)*" | '(?:[^'\\]|\\.)*' | [^\s"'&]+ )
    """
)
# `Authorization: Basic …`, `Cookie: a=1; b=2`: the value is the rest of the line, or of the quotation.
_HEADER: Final = re.compile(
    r"""(?ix)
    ( (?: proxy-)? authorization | (?: set-)? cookie )
    ( (?:\\*["'])? \s* [=:] \s* (?:\\*["'])? )
    (?! \[redacted\] ) [^\s"'\\] [^"'\r\n\\]*
    """
)


class Redactor:
    """Knows what must not leave, and takes it out of values.

    Args:
        keys: more telling keys; compared like the built-in ones, case and separators aside.
        patterns: regular expressions whose every match is taken out of every text.
        emails: whether addresses of people are taken out as well.
    Raises:
        re.error: a pattern is not a regular expression.
    """

    def __init__(
        self, *, keys: Iterable[str] = (), patterns: Iterable[str] = (), emails: bool = False
    ) -> None:
        words = [key.lower() for key in keys if key.strip()]
        self._keys = re.compile("|".join(map(re.escape, words))) if words else None
        self._patterns = tuple(re.compile(pattern) for pattern in patterns)
        self._emails = emails
        # What a text must contain for one of the additions to match, patterns aside.
        self._hints = (*words, "@") if emails else tuple(words)
        # Whether a pattern of the operator's is in a text; `None`: there are none. Unlike the built-in rules
        # it is asked of every formatted message, since it may match what only all the parts together make.
        self.has_own: Callable[[str], object] | None = _search(self._patterns)
        self.is_telling: Callable[[str], bool] = lru_cache(maxsize=2048)(self._is_telling)
        # Templates of log calls and short texts that are innocent wherever they stand; at most `_KNOWN_MAX`.
        self.known_innocent: set[str] = set()

    def learn_innocent(self, template: str, args: tuple[Any, ...], message: str) -> bool:
        """`looks_innocent` of a formatted log message, whose parts are remembered in `known_innocent`.

        Args:
            template: what `args` were put into.
            args: texts and numbers only.
            message: `template % args`.
        """
        if not self.looks_innocent(message):
            return False
        if len(self.known_innocent) >= _KNOWN_MAX:
            self.known_innocent.clear()
        if not _ADJACENT.search(template):
            self._remember(template)
        for argument in args:
            if argument.__class__ is str and _is_word(argument):
                self._remember(argument)
        return True

    def _remember(self, text: str) -> None:
        # A pattern with an anchor may match a part that it did not match inside of the message.
        if len(text) <= _KNOWN_CHARS_MAX and (self.has_own is None or not self.has_own(text)):
            self.known_innocent.add(text)

    def attributes_look_innocent(self, attributes: Mapping[str, Any], encoded: bytes) -> bool:
        """`looks_innocent` of attributes, from memory where their keys and texts are known.

        Args:
            encoded: the attributes as they will be written. It is searched where a value is of no plain
                kind: printing such a value a second time could give something else.
        """
        known = self.known_innocent
        if not known.issuperset(attributes):
            for key in attributes:
                if key not in known and not (key.__class__ is str and self.learn_innocent(key, (), key)):
                    return False
        for value in attributes.values():
            kind = value.__class__
            if kind is str:
                if value not in known and not self.learn_innocent("", (value,), value):
                    return False
            elif kind not in _HARMLESS and (kind is not int or value > _CARDLESS_MAX):
                # Patterns of the operator's are for texts, not for texts as JSON quotes them.
                return self.has_own is None and self.looks_innocent(encoded.decode())
        return True

    def looks_innocent(self, encoded: str) -> bool:
        """Whether nothing in a text, or in a piece of an encoded line, can be a secret.

        False says nothing yet: `text` and `tree` look closer.
        """
        low = encoded.lower()
        # Spelled out: a loop or one regular expression would cost more than the searches.
        if (
            "pass" in low
            or "secret" in low
            or "token" in low
            or "key" in low
            or "cookie" in low
            or "authoriz" in low
            or "credential" in low
            or "bearer" in low
            or "pwd" in low
            or "card" in low
            or "cvv" in low
            or "cvc" in low
            or "eyj" in low
            or "-----b" in low
            or ("@" in low and "://" in low)
            or (_CARD_HINT.search(low) is not None and _CARD.search(low) is not None)
        ):
            return False
        if self._hints and any(hint in low for hint in self._hints):
            return False
        return self.has_own is None or not self.has_own(encoded)

    def cleaned(self, values: list[Any]) -> list[Any]:
        """Copy values without their secrets, in what JSON has words for; each is printed only once."""
        try:
            shown = dumps(values)
        except Exception:
            return [self.tree(value) for value in values]
        read: list[Any] = orjson.loads(shown)
        is_innocent = self.has_own is None and self.looks_innocent(shown.decode())
        return read if is_innocent else [self.tree(value) for value in read]

    def text(self, value: str) -> str:
        """Take every secret out of a text."""
        clean = value
        for pattern in self._patterns:
            clean = pattern.sub(REDACTED, clean)
        if "-----B" in clean:
            clean = _PEM.sub(REDACTED, clean)
        if "eyJ" in clean:
            clean = _JWT.sub(REDACTED, clean)
        if "://" in clean:
            clean = _USERINFO.sub(rf"\1:{REDACTED}@", clean)
        clean = _HEADER.sub(rf"\1\2{REDACTED}", clean)
        clean = _BEARER.sub(rf"\1 {REDACTED}", clean)
        clean = _ASSIGNED.sub(rf"\1{REDACTED}", clean)
        clean = _CARD.sub(_card, clean)
        if self._emails and "@" in clean:
            clean = _EMAIL.sub(REDACTED, clean)
        if clean != value:
            count("redacted")
        return clean

    def tree(self, value: Any, depth_max: int = DEPTH_MAX) -> Any:
        """Copy a value without its secrets; of a kind that we do not know, its `repr` is searched."""
        if value is None or isinstance(value, bool | float):
            return value
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, int):
            # A card number is as good a secret when it was not quoted.
            return value if -(10**12) < value < 10**12 or not _is_card(str(value)) else self._taken()
        if depth_max > 0 and isinstance(value, Mapping):
            return self.mapping(value, depth_max - 1)
        if depth_max > 0 and isinstance(value, list | tuple | set | frozenset):
            if len(value) == 2 and isinstance(value, list | tuple) and isinstance(value[0], str):
                # Raw headers come as pairs.
                return [value[0], *self.mapping({value[0]: value[1]}, depth_max - 1).values()]
            return [self.tree(item, depth_max - 1) for item in value]
        return self._opaque(value)

    def mapping(self, values: Mapping[Any, Any], depth_max: int = DEPTH_MAX) -> dict[Any, Any]:
        """Copy a mapping without the values of telling keys and without the secrets in the others."""
        return {
            self.text(key) if isinstance(key, str) else key: self._taken()
            if isinstance(key, str) and not _is_harmless(item) and self.is_telling(key)
            else self.tree(item, depth_max)
            for key, item in values.items()
        }

    def _opaque(self, value: Any) -> Any:
        """A value of a kind we do not know, as it would be printed."""
        try:
            return self.tree(orjson.loads(dumps(value)))
        except Exception:
            return self.text(plain(value))

    def _is_telling(self, key: str) -> bool:
        low = key.lower()
        if self._keys is not None and self._keys.search(low):
            return True
        return _TELLING_KEY.search(low) is not None and _ABOUT_A_SECRET.search(low) is None

    def _taken(self) -> str:
        count("redacted")
        return REDACTED


def _search(patterns: tuple[re.Pattern[str], ...]) -> Callable[[str], object] | None:
    """Whether one of several patterns is in a text.

    One after the other: joined by `|` they lose their literal beginnings, by which `re` finds most of them
    quickest, and the numbers of their groups.
    """
    if len(patterns) < 2:
        return patterns[0].search if patterns else None
    searches = [pattern.search for pattern in patterns]

    def search(text: str) -> bool:
        for has in searches:  # noqa: SIM110  # `any` would make a generator for every text
            if has(text) is not None:
                return True
        return False

    return search


def _is_word(text: str) -> bool:
    """Whether a text is no part of a secret that its neighbours could complete: digits of a card are one."""
    return bool(text.strip("0123456789 -"))


def _is_harmless(value: Any) -> bool:
    """Whether a value says nothing, whatever its key: `password=None`, `secure_cookie=True`."""
    return value is None or isinstance(value, bool)


def _card(match: re.Match[str]) -> str:
    return REDACTED if _is_card(re.sub(r"[ -]", "", match[0])) else match[0]


def _is_card(digits: str) -> bool:
    """Whether digits are a payment card's: an issuer that exists, a length it uses, a right check digit.

    Without the issuers one number in ten of that length would pass, nanosecond times among them.
    """
    if not 13 <= len(digits) <= 19 or not digits.isdigit():
        return False
    two, four = int(digits[:2]), int(digits[:4])
    issued = (
        digits[0] == "4"
        or 51 <= two <= 55
        or 2221 <= four <= 2720
        or two in (30, 34, 35, 36, 37, 38, 39, 60, 62, 64, 65)
    )
    return issued and luhn(digits)


def luhn(digits: str) -> bool:
    """Whether the last digit is the check digit of those before it (ISO/IEC 7812-1, annex B)."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (2 if place % 2 else 1)
        total += value - 9 if value > 9 else value
    return total % 10 == 0
