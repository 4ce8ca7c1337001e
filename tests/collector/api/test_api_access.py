"""Who may call what."""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path

import pytest

from collector.api.access import Access, Right
from collector.api.problems import Problem
from collector.settings import Settings

TOKENS = Access.of(Settings(read_token="reader", ingest_token="sender"))  # type: ignore[arg-type]
NO_TOKENS = Access.of(Settings(allowed_hosts=("Trail.example",)))


def refused(
    access: Access, needed: Right, host: str = "127.0.0.1:4318", token: str | None = None
) -> str | None:
    """The kind of the refusal."""
    headers = [(b"host", host.encode())]
    if token is not None:
        headers.append((b"authorization", token.encode()))
    found = access.admit(needed, headers)
    return found.kind if isinstance(found, Problem) else None


@pytest.mark.parametrize(
    ("needed", "token", "kind"),
    [
        ("read", None, "unauthorized"),
        ("read", "Bearer reader", None),
        ("read", "bearer  reader ", None),
        ("read", "Bearer sender", "forbidden"),
        ("read", "Bearer readers", "unauthorized"),
        ("read", "Bearer ", "unauthorized"),
        ("read", "Basic reader", "unauthorized"),
        ("read", f"Basic {b64encode(b'anybody:reader').decode()}", None),
        ("read", f"basic {b64encode(b'reader:anything').decode()}", "unauthorized"),
        ("ingest", f"ApiKey {b64encode(b'id:sender').decode()}", None),
        ("ingest", f"ApiKey {b64encode(b'id:reader').decode()}", "forbidden"),
        ("ingest", f"Basic {b64encode(b'nobody').decode()}", "unauthorized"),
        ("ingest", "Digest sender", "unauthorized"),
        ("ingest", "Bearer sender", None),
        ("ingest", "Bearer reader", "forbidden"),
        ("open", None, None),
        ("admin", "Bearer reader", "forbidden"),
    ],
)
def test_a_token_gives_its_right_and_no_other(needed: Right, token: str | None, kind: str | None) -> None:
    """Senders cannot read, readers cannot send, health is for everybody."""
    assert refused(TOKENS, needed, token=token) == kind


@pytest.mark.parametrize(
    ("host", "kind"),
    [
        ("127.0.0.1:4318", None),
        ("localhost", None),
        ("[::1]:4318", None),
        ("trail.example:80", None),
        ("", None),
        ("evil.example", "misdirected"),
        ("127.0.0.1.evil.example:4318", "misdirected"),
    ],
)
def test_without_a_token_only_this_machines_names_are_answered(host: str, kind: str | None) -> None:
    """A web page whose name was re-bound to 127.0.0.1 reads nothing."""
    assert refused(NO_TOKENS, "read", host=host) == kind


def test_with_a_token_the_name_does_not_matter() -> None:
    """Behind a proxy the host is the proxy's."""
    assert refused(TOKENS, "read", host="trail.example", token="Bearer reader") is None


def test_admin_is_off_until_it_has_a_token() -> None:
    """Whoever can reach us cannot delete what we know."""
    assert refused(NO_TOKENS, "admin") == "forbidden"


@pytest.mark.parametrize(
    ("origin", "kind"),
    [
        ("http://localhost:3000", None),
        ("http://127.0.0.1:4318", None),
        ("https://trail.example", None),
        ("https://evil.example", "misdirected"),
        ("https://localhost.evil.example", "misdirected"),
        ("null", "misdirected"),
    ],
)
def test_without_a_token_no_foreign_page_writes(origin: str, kind: str | None) -> None:
    """What needs no preflight would get through: only the origin says where it comes from."""
    headers = [(b"host", b"127.0.0.1:4318"), (b"origin", origin.encode())]
    found = NO_TOKENS.admit("ingest", headers)
    assert (found.kind if isinstance(found, Problem) else None) == kind


def test_everybody_is_let_in_only_when_that_was_said(tmp_path: Path) -> None:
    """In so many words; but to delete still takes a token."""
    told = Access.of(Settings(data_dir=tmp_path, host="0.0.0.0", serve_anybody_without_token=True))
    assert refused(told, "read", host="collector.example") is None
    assert refused(told, "admin", host="collector.example") == "forbidden"
