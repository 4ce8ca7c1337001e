"""Whose secret is this? The tokens of the settings and of the file, as they are at the moment of a call."""

from __future__ import annotations

import hmac
import logging
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec

from collector.access.tokens import Scope, Stamp, Token, TokenFile, digest_of
from collector.datadir import write_atomically
from collector.errors import ConfigurationError, Damaged
from collector.settings import Settings

logger = logging.getLogger(__name__)

# How soon a changed file of tokens counts; looking costs a microsecond.
LOOK_INTERVAL_S: Final = 0.5
# How old what is said of a token's last use may be.
SAVE_INTERVAL_S: Final = 60.0
_USE_FILE: Final = "tokens-used.json"
_KEY_CHARS: Final = 16  # of a digest, by which its holder is looked up

Changed = Callable[[str, Token], None]  # what happened, `created` or `revoked`, and to which token


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who makes a call, as far as we know."""

    name: str | None  # of the token; None: none was needed, so none was looked at
    scopes: frozenset[Scope] = frozenset()
    address: str = ""

    @property
    def sender(self) -> str:
        """By what the caller's share is measured: its token, or else its address."""
        return f"token {self.name}" if self.name is not None else self.address


@dataclass(slots=True, kw_only=True)
class _Holder:
    name: str
    digest: str
    scopes: set[Scope] = field(default_factory=set)
    expires_ns: int | None = None


class Keyring:
    """Every token that counts now. Any thread may ask.

    A file that is gone or cannot be read changes nothing while we run: the tokens stay as they were last
    read, since a door must not open because a disk fails. Where the file is there, every scope needs a
    token, also one that no token of it has: taking the last reader's token away must not let everybody read.

    Args:
        fixed: the tokens of the settings, by scope.
        file: the tokens that `backtrail tokens` makes.
        use_path: where the time of each token's last use is kept, for people; `None`: nowhere.
        changed: is told of each token that came into the file or went out of it while we run.
        clock_ns: now, epoch nanoseconds.
    Raises:
        ConfigurationError: the file is there and cannot be read.
    """

    def __init__(
        self,
        fixed: Mapping[Scope, str],
        file: TokenFile | None = None,
        *,
        use_path: Path | None = None,
        changed: Changed | None = None,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._file = file
        self._use_path = use_path
        self._changed = changed
        self._clock_ns = clock_ns
        self._lock = threading.Lock()
        self._looked_s = self._saved_s = time.monotonic()
        self._stamp: Stamp | None = None
        self._tokens: list[Token] = []
        self._fixed = dict(fixed)
        self._used_ns: dict[str, int] = {}
        self._trouble: str | None = None  # with the file; told once
        if file is not None:
            try:
                self._stamp = file.stamp()
                self._tokens = file.read()
            except (Damaged, OSError) as error:
                raise ConfigurationError(f"the tokens cannot be read: {error}") from None
            self._used_ns = last_used(use_path)
        self._holders = self._made_holders()

    def needs_token(self, scope: Scope) -> bool:
        """Whether a call for this needs a token."""
        self.look()
        return scope in self._fixed or self._stamp is not None

    def holder_of(self, secret: bytes) -> Caller | None:
        """Who was given a secret; `None`: nobody, or not any more."""
        self.look()
        digest = digest_of(secret)
        # Nobody can steer a digest, so what finding it takes tells nothing of a secret; what it is compared
        # with is compared in constant time all the same.
        holder = self._holders.get(digest[:_KEY_CHARS])
        if holder is None or not hmac.compare_digest(holder.digest, digest):
            return None
        now_ns = self._clock_ns()
        if holder.expires_ns is not None and now_ns >= holder.expires_ns:
            return None
        self._used_ns[holder.name] = now_ns
        return Caller(name=holder.name, scopes=frozenset(holder.scopes))

    def replace_fixed(self, fixed: Mapping[Scope, str]) -> None:
        """Let the settings' tokens be these from now on."""
        with self._lock:
            self._fixed = dict(fixed)
            self._holders = self._made_holders()

    def save_use(self, *, now: bool = False) -> None:
        """Write down when each token was last used, if that is due. Must not be called on an event loop."""
        now_s = time.monotonic()
        if (
            self._use_path is None
            or not self._used_ns
            or (now_s - self._saved_s < SAVE_INTERVAL_S and not now)
        ):
            return
        self._saved_s = now_s
        known = {token.name for token in self._tokens}
        used = {name: used_ns for name, used_ns in sorted(self._used_ns.copy().items()) if name in known}
        with suppress(OSError):  # a comfort, and the next time is soon
            write_atomically(self._use_path, msgspec.json.encode(used) + b"\n", mode=0o600)

    def look(self) -> None:
        """Read the file again if it is another one. Quick enough for an event loop."""
        now_s = time.monotonic()
        if self._file is None or now_s - self._looked_s < LOOK_INTERVAL_S:
            return
        with self._lock:
            self._looked_s = now_s
            try:
                stamp = self._file.stamp()
                if stamp == self._stamp:
                    return
                if stamp is None:
                    raise FileNotFoundError(f"{self._file.path} is gone")
                tokens = self._file.read()
            except (Damaged, OSError) as error:
                self._complain(str(error))
                return
            self._trouble = None
            before, self._tokens, self._stamp = self._tokens, tokens, stamp
            self._holders = self._made_holders()
        self._tell(before, tokens)

    def _complain(self, trouble: str) -> None:
        if trouble != self._trouble:
            logger.error("the tokens stay as they were: %s", trouble)
        self._trouble = trouble

    def _tell(self, before: list[Token], after: list[Token]) -> None:
        if self._changed is None:
            return
        for token in after:
            if token not in before:
                self._changed("created", token)
        for token in before:
            if token not in after:
                self._changed("revoked", token)

    def _made_holders(self) -> dict[str, _Holder]:
        """Who holds which secret, by the beginning of its digest."""
        holders: dict[str, _Holder] = {}
        for scope, secret in self._fixed.items():
            digest = digest_of(secret.encode())
            holder = _Holder(name=f"{scope}_token", digest=digest)
            holders.setdefault(digest[:_KEY_CHARS], holder).scopes.add(scope)
        for token in self._tokens:
            holders[token.digest[:_KEY_CHARS]] = _Holder(
                name=token.name, digest=token.digest, scopes=set(token.scopes), expires_ns=token.expires_ns
            )
        return holders


def keyring_of(settings: Settings, *, changed: Changed | None = None) -> Keyring:
    """The tokens that the settings name, and those of the file.

    Raises:
        ConfigurationError: the file is there and cannot be read.
    """
    path = settings.tokens_path
    return Keyring(fixed_tokens(settings), TokenFile(path), use_path=use_path_of(path), changed=changed)


def fixed_tokens(settings: Settings) -> dict[Scope, str]:
    """The tokens that stand in the settings themselves, by scope."""
    given: dict[Scope, str] = {}
    if settings.ingest_token is not None:
        given["ingest"] = settings.ingest_token.get_secret_value()
    if settings.read_token is not None:
        given["read"] = settings.read_token.get_secret_value()
    if settings.admin_token is not None:
        given["admin"] = settings.admin_token.get_secret_value()
    return given


def last_used(path: Path | None) -> dict[str, int]:
    """When each token was last used, epoch nanoseconds by name, as far as a collector has written it down."""
    if path is None:
        return {}
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, int])
    except (OSError, msgspec.DecodeError):
        return {}


def use_path_of(tokens_path: Path) -> Path:
    """Where the last uses are, beside a file of tokens."""
    return tokens_path.with_name(_USE_FILE)
