"""Whether a call is allowed: by the token that it shows, or else by the host that it names.

Without a token only programs on this machine reach us (`check_reach` refuses anything else), but a web page
in this machine's browser is such a program: a name that it re-binds to 127.0.0.1 would let it read
everything ("DNS rebinding"), and one of any name may send what needs no preflight. So a call without a token
must name a loopback host, and no foreign page as its origin.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal, Self

from collector.access.keyring import Caller, Keyring, keyring_of
from collector.access.tokens import Scope
from collector.api.problems import Problem
from collector.settings import Settings, is_loopback

Right = Literal["open"] | Scope

_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="backtrail"'}


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """The tokens that there are, and the hosts that we answer to without one."""

    keyring: Keyring
    hosts: frozenset[str]
    serves_anybody: bool = False

    @classmethod
    def of(cls, settings: Settings, keyring: Keyring | None = None) -> Self:
        """Take what the settings say.

        Args:
            keyring: the tokens, if they are known already.
        """
        return cls(
            keyring=keyring or keyring_of(settings),
            hosts=frozenset(name.lower() for name in (settings.host, *settings.allowed_hosts)),
            serves_anybody=settings.serve_anybody_without_token,
        )

    def admit(
        self, needed: Right, headers: Iterable[tuple[bytes, bytes]], *, address: str = ""
    ) -> Caller | Problem:
        """Who calls, if the call is allowed; else why it is not.

        Args:
            needed: what the operation asks for; `open` is allowed to everybody.
            headers: of the request, names in lower case.
            address: where the call comes from.
        """
        if needed == "open":
            return Caller(name=None, address=address)
        given = dict(headers)
        if not self.keyring.needs_token(needed):
            refusal = self._refusal_without_token(needed, given)
            return refusal or Caller(name=None, address=address)
        secret = _shown(given.get(b"authorization", b""))
        if secret is None:
            return Problem(
                kind="unauthorized",
                detail=f"this needs a token for {needed}: send the header `Authorization: Bearer <token>`",
                headers=_CHALLENGE,
            )
        caller = self.keyring.holder_of(secret)
        if caller is None:
            detail = "this token is not known here, or not any more"
            return Problem(kind="unauthorized", detail=detail, headers=_CHALLENGE)
        if needed not in caller.scopes:
            scopes = " and ".join(sorted(caller.scopes))
            return Problem(
                kind="forbidden", detail=f"this needs a token for {needed}; the one shown is for {scopes}"
            )
        return replace(caller, address=address)

    def _refusal_without_token(self, needed: Right, given: Mapping[bytes, bytes]) -> Problem | None:
        if needed == "admin":
            return Problem(
                kind="forbidden",
                detail="deleting is off over HTTP until there is a token for it: make one with `backtrail"
                " tokens create NAME --scope admin`, or set an admin token (BACKTRAIL_ADMIN_TOKEN)",
            )
        if self.serves_anybody:
            return None
        origin = given.get(b"origin")
        if origin is not None and not self._is_ours(origin.partition(b"://")[2] or b"null"):
            return Problem(
                kind="misdirected",
                detail=f"a page of {origin.decode('latin-1')!r:.80} may not call us without a token",
            )
        host = given.get(b"host", b"")
        if self._is_ours(host):
            return None
        name = _host_name(host.decode("latin-1")).lower()
        return Problem(
            kind="misdirected",
            detail=f"host {name!r:.80} is not this collector; call it as 127.0.0.1, set a token, or list the"
            " name in allowed_hosts (BACKTRAIL_ALLOWED_HOSTS)",
        )

    def _is_ours(self, host: bytes) -> bool:
        name = _host_name(host.decode("latin-1")).lower()
        return not name or is_loopback(name) or name in self.hosts


def _shown(authorization: bytes) -> bytes | None:
    """The token in an Authorization header; `None`: there is none that we could read.

    Senders that know no bearer tokens have passwords (`Basic`, any user) or Elasticsearch's API keys:
    there the token is the password, or the key's secret half.
    """
    scheme, _, value = authorization.partition(b" ")
    value = value.strip()
    match scheme.lower():
        case b"bearer":
            return value or None
        case b"basic" | b"apikey":
            try:
                pair = base64.b64decode(value, validate=True)
            except ValueError:
                return None
            return pair.partition(b":")[2] or None
    return None


def _host_name(host: str) -> str:
    """The name or address in a Host header, without its port."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]
