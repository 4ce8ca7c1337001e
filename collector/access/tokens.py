"""Tokens as they are kept: a name, scopes, an end, and the SHA-256 of the secret, never the secret.

A plain hash is enough because every secret is drawn here with 256 random bits: there is no dictionary to
try, and nobody can search so many. A slow hash such as scrypt protects secrets that people think up; at each
request it would only let anybody who sends wrong tokens keep our processor busy.
Source: NIST SP 800-63B, 5.1.2.2, which asks for slow hashes below 112 bits only.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import secrets
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Final, Literal, NamedTuple

import msgspec

from collector.datadir import write_atomically
from collector.errors import ConfigurationError, Damaged, NotFound

Scope = Literal["ingest", "read", "admin"]

SCOPES: Final[tuple[Scope, ...]] = ("ingest", "read", "admin")
# What every secret begins with, so that scanners of repositories and our own redaction know one.
SECRET_PREFIX: Final = "bt_"
SECRET_BYTES: Final = 32
TOKENS_MAX: Final = 10_000  # a token a program, in a large house; the file is read as a whole
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class Token(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of a token."""

    name: str  # of whoever holds it; in the audit trail
    scopes: tuple[Scope, ...]
    digest: str  # SHA-256 of the secret, 64 hex
    created_ns: int
    expires_ns: int | None = None  # None: never

    def is_valid(self, now_ns: int) -> bool:
        """Whether it may still be shown."""
        return self.expires_ns is None or now_ns < self.expires_ns


class Stamp(NamedTuple):
    """What tells one content of a file from the next; `os.replace` gives each a file number of its own."""

    inode: int
    modified_ns: int
    size_bytes: int


class _File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    backtrail_tokens: int  # version of the format
    tokens: list[Token]


class TokenFile:
    """The tokens of a data directory, in a file that any number of processes read and change.

    A change replaces the file as a whole, under a lock; it is readable by its owner only.

    Args:
        path: need not exist; the first token makes it.
        clock_ns: now, epoch nanoseconds.
    """

    FORMAT: Final = 1

    def __init__(self, path: Path, *, clock_ns: Callable[[], int] = time.time_ns) -> None:
        self.path = path
        self._clock_ns = clock_ns

    def stamp(self) -> Stamp | None:
        """What the file is like now, without reading it; `None`: there is none.

        Raises:
            OSError: it cannot be looked at.
        """
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return None
        return Stamp(found.st_ino, found.st_mtime_ns, found.st_size)

    def read(self) -> list[Token]:
        """Every token, those that have expired too; an absent file has none.

        Raises:
            Damaged: the file is not ours.
            OSError: it cannot be read.
        """
        try:
            found = msgspec.json.decode(self.path.read_bytes(), type=_File)
        except FileNotFoundError:
            return []
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Damaged(f"{self.path}: not a file of tokens: {error}") from None
        if found.backtrail_tokens != self.FORMAT:
            raise Damaged(f"{self.path}: written in format {found.backtrail_tokens}, by a newer version")
        return found.tokens

    def create(
        self, name: str, scopes: Collection[str], *, lifetime_s: float | None = None
    ) -> tuple[Token, str]:
        """Make a token.

        Args:
            name: of whoever will hold it; letters, digits, dots, dashes and underscores, 64 at most.
            scopes: what it may be used for; at least one.
            lifetime_s: how long; `None`: until it is revoked.
        Returns:
            The token, and its secret, which cannot be had again.
        Raises:
            ConfigurationError: the name is taken or no name, a scope is none, or there are too many.
            Damaged, OSError: the file cannot be read or written.
        """
        if not _NAME.fullmatch(name):
            raise ConfigurationError(
                f"{name!r:.80}: a token's name has 1 to 64 letters, digits, dots, dashes or underscores"
            )
        if not scopes or (unknown := [scope for scope in scopes if scope not in SCOPES]):
            given = f"{unknown[0]!r} is none" if scopes else "none is given"
            raise ConfigurationError(f"a token's scopes are of {', '.join(SCOPES)}; {given}")
        secret = SECRET_PREFIX + secrets.token_urlsafe(SECRET_BYTES)
        now_ns = self._clock_ns()
        token = Token(
            name=name,
            scopes=tuple(scope for scope in SCOPES if scope in scopes),
            digest=digest_of(secret.encode()),
            created_ns=now_ns,
            expires_ns=None if lifetime_s is None else now_ns + int(lifetime_s * 1e9),
        )
        with self._locked():
            tokens = self.read()
            if any(one.name == name for one in tokens):
                raise ConfigurationError(
                    f"there is a token {name!r} already; revoke it first, or choose another name: two tokens"
                    " may be valid at once, so that a new one can be handed out before the old one goes"
                )
            if len(tokens) >= TOKENS_MAX:
                raise ConfigurationError(f"there are {TOKENS_MAX} tokens already; revoke some")
            self._write([*tokens, token])
        return token, secret

    def revoke(self, name: str) -> Token:
        """Take a token out; whoever shows it is a stranger from then on.

        Raises:
            NotFound: there is none of this name.
            Damaged, OSError: the file cannot be read or written.
        """
        with self._locked():
            tokens = self.read()
            gone = next((one for one in tokens if one.name == name), None)
            if gone is None:
                raise NotFound(
                    f"there is no token {name!r:.80}; `backtrail tokens list` shows which there are"
                )
            self._write([one for one in tokens if one is not gone])
        return gone

    def _write(self, tokens: list[Token]) -> None:
        content = msgspec.json.encode(_File(backtrail_tokens=self.FORMAT, tokens=tokens))
        write_atomically(self.path, msgspec.json.format(content) + b"\n", mode=0o600)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(self.path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)


def digest_of(secret: bytes) -> str:
    """SHA-256 of a secret, 64 hex."""
    return hashlib.sha256(secret).hexdigest()
