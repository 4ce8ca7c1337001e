"""Who may call what: static bearer tokens, and the host names that count as this machine.

Without a token only programs on this machine reach us (`Settings` refuses anything else), but a web page
in this machine's browser is such a program: a name that it re-binds to 127.0.0.1 would let it read
everything ("DNS rebinding"). So a call without a token must name a loopback host.
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, Self

from collector.api.problems import Problem
from collector.settings import Settings, is_loopback

Right = Literal["open", "read", "ingest", "admin"]

_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="backtrail"'}


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """The tokens by the right that they give, and the hosts that we answer to without one."""

    tokens: dict[Right, str]
    hosts: frozenset[str]

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Take what the settings say."""
        given = {
            "read": settings.read_token,
            "ingest": settings.ingest_token,
            "admin": settings.admin_token,
        }
        return cls(
            tokens={right: token.get_secret_value() for right, token in given.items() if token},  # type: ignore[misc]
            hosts=frozenset(name.lower() for name in (settings.host, *settings.allowed_hosts)),
        )

    def refusal(self, needed: Right, headers: Iterable[tuple[bytes, bytes]]) -> Problem | None:
        """Why a call is not allowed; `None`: it is.

        Args:
            needed: what the operation asks for; `open` is allowed to everybody.
            headers: of the request, names in lower case.
        """
        if needed == "open":
            return None
        given = dict(headers)
        token = self.tokens.get(needed)
        if token is None:
            return self._refusal_without_token(needed, given.get(b"host", b"").decode("latin-1"))
        shown = _shown(given.get(b"authorization", b""))
        if shown is None:
            return Problem(
                kind="unauthorized",
                detail=f"this needs the {needed} token: send the header `Authorization: Bearer <token>`",
                headers=_CHALLENGE,
            )
        if hmac.compare_digest(shown, token.encode()):
            return None
        rights = [right for right, known in self.tokens.items() if hmac.compare_digest(shown, known.encode())]
        if rights:
            return Problem(
                kind="forbidden", detail=f"this needs the {needed} token, not the {rights[0]} token"
            )
        return Problem(kind="unauthorized", detail="this token is not known here", headers=_CHALLENGE)

    def _refusal_without_token(self, needed: Right, host: str) -> Problem | None:
        if needed == "admin":
            return Problem(
                kind="forbidden",
                detail="deleting is off over HTTP until an admin token is set (BACKTRAIL_ADMIN_TOKEN)",
            )
        name = _host_name(host).lower()
        if not name or is_loopback(name) or name in self.hosts:
            return None
        return Problem(
            kind="misdirected",
            detail=f"host {name!r:.80} is not this collector; call it as 127.0.0.1, set a token, or list the"
            " name in allowed_hosts (BACKTRAIL_ALLOWED_HOSTS)",
        )


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
