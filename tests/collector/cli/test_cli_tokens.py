"""`backtrail tokens`: made, listed and revoked at a prompt."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from collector.access.tokens import SECRET_PREFIX, TokenFile
from collector.cli import NOTHING, OK, USAGE, main


def test_a_token_from_its_making_to_its_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The secret alone on standard output, once; then its name, scopes and end; then it is gone."""
    where = ["--data-dir", str(tmp_path / "data")]
    assert main(["tokens", "list", *where]) == NOTHING
    assert main(["tokens", "create", "orders", "--scope", "ingest", "--expires", "90d", *where]) == OK
    out, err = capsys.readouterr()
    secret = out.splitlines()[-1]
    assert secret.startswith(SECRET_PREFIX)
    assert "from now on every call needs a token" in err
    assert main(["tokens", "create", "me", "--scope", "read", "--scope", "admin", "--json", *where]) == OK
    out, err = capsys.readouterr()
    made = json.loads(out)
    assert (made["scopes"], made["expires"], err) == (["read", "admin"], None, "")
    assert main(["tokens", "list", *where]) == OK
    listed = capsys.readouterr().out
    assert [line.split()[0] for line in listed.splitlines()] == ["token", "orders", "me"]
    assert "read, admin" in listed
    assert "never" in listed
    assert secret not in listed
    kept = TokenFile(tmp_path / "data" / "tokens.json").read()[0]
    assert kept.expires_ns is not None
    assert kept.expires_ns - kept.created_ns == 90 * 86_400 * 10**9
    assert main(["tokens", "revoke", "orders", *where]) == OK
    assert main(["tokens", "revoke", "orders", *where]) == NOTHING
    assert "no token 'orders'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["orders", "--scope", "write"], "'write' is none"),
        (["two words", "--scope", "read"], "a token's name"),
        (["orders", "--scope", "read", "--expires", "soon"], "soon"),
        (["orders"], "--scope"),
    ],
)
def test_what_is_wrong_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    """With exit status 2, and nothing made."""
    assert main(["tokens", "create", *arguments, "--data-dir", str(tmp_path)]) == USAGE
    assert said in capsys.readouterr().err
    assert not (tmp_path / "tokens.json").exists()
