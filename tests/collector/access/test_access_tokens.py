"""Tokens: made, listed and revoked in a file; what counts while a collector runs."""

from __future__ import annotations

import json
import stat
import threading
from pathlib import Path

import pytest

from collector.access import keyring as keyring_module
from collector.access.keyring import Keyring, last_used, use_path_of
from collector.access.tokens import SECRET_PREFIX, Token, TokenFile
from collector.datadir import DataDirectory
from collector.errors import ConfigurationError, Damaged, NotFound

DAY_S = 86_400.0
NOW_NS = 1_795_498_331_000_000_000


@pytest.fixture
def file(tmp_path: Path) -> TokenFile:
    """Not made yet."""
    return TokenFile(tmp_path / "data" / "tokens.json", clock_ns=lambda: NOW_NS)


@pytest.fixture(autouse=True)
def look_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A keyring looks at its file at every question, not twice a second."""
    monkeypatch.setattr(keyring_module, "LOOK_INTERVAL_S", 0.0)


def test_the_secret_is_nowhere_but_in_the_answer(file: TokenFile) -> None:
    """What is kept is a hash; the file is its owner's; the same name twice is a mistake."""
    token, secret = file.create("orders", ["ingest"], lifetime_s=DAY_S)
    assert secret.startswith(SECRET_PREFIX)
    assert len(secret) > 40
    assert secret[len(SECRET_PREFIX) :] not in file.path.read_text()
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    assert file.read() == [token]
    assert (token.scopes, token.expires_ns) == (("ingest",), NOW_NS + 86_400_000_000_000)
    with pytest.raises(ConfigurationError, match="'orders' already"):
        file.create("orders", ["read"])


@pytest.mark.parametrize(
    ("name", "scopes", "said"),
    [
        ("a b", ["read"], "a token's name"),
        ("", ["read"], "a token's name"),
        ("x" * 65, ["read"], "a token's name"),
        ("a", [], "none is given"),
        ("a", ["read", "write"], "'write' is none"),
    ],
)
def test_what_is_no_token_is_not_made(file: TokenFile, name: str, scopes: list[str], said: str) -> None:
    """And says what one is like."""
    with pytest.raises(ConfigurationError, match=said):
        file.create(name, scopes)
    assert file.stamp() is None


def test_many_at_once_lose_none(file: TokenFile) -> None:
    """Each change is made on what the one before left."""
    makers = [threading.Thread(target=file.create, args=(f"t{n}", ["read"])) for n in range(16)]
    for maker in makers:
        maker.start()
    for maker in makers:
        maker.join()
    assert {token.name for token in file.read()} == {f"t{n}" for n in range(16)}
    file.revoke("t3")
    assert len(file.read()) == 15
    with pytest.raises(NotFound, match="no token 't3'"):
        file.revoke("t3")


def test_tokens_may_be_made_before_anything_else(file: TokenFile) -> None:
    """The directory becomes a data directory all the same."""
    file.create("first", ["admin"])
    with DataDirectory.open(file.path.parent):
        assert [token.name for token in file.read()] == ["first"]


def test_a_file_that_is_not_ours_is_damage(file: TokenFile) -> None:
    """And stops a start: nobody knows whom it would let in."""
    file.path.parent.mkdir()
    for content in ("", "{}", '{"backtrail_tokens":1,"tokens":[{}]}', '{"backtrail_tokens":2,"tokens":[]}'):
        file.path.write_text(content)
        with pytest.raises(Damaged, match=r"tokens\.json"):
            file.read()
        with pytest.raises(ConfigurationError, match="cannot be read"):
            Keyring({}, file)


def test_rotation_needs_no_restart(file: TokenFile) -> None:
    """Two are valid at once; the old one goes when it is revoked, and is a stranger's from then on."""
    _, old = file.create("orders", ["ingest"])
    told: list[tuple[str, str]] = []
    ring = Keyring({}, file, changed=lambda what, token: told.append((what, token.name)))
    assert ring.needs_token("ingest")
    _, new = file.create("orders-2", ["ingest"])
    for secret, name in ((old, "orders"), (new, "orders-2")):
        holder = ring.holder_of(secret.encode())
        assert holder is not None
        assert (holder.name, holder.scopes) == (name, {"ingest"})
    file.revoke("orders")
    assert ring.holder_of(old.encode()) is None
    assert ring.holder_of(new.encode()) is not None
    assert told == [("created", "orders-2"), ("revoked", "orders")]


def test_the_last_token_gone_opens_no_door(file: TokenFile) -> None:
    """Where there were tokens, everything needs one; also when the file is away or damaged."""
    _, secret = file.create("only", ["read"])
    ring = Keyring({}, file)
    file.path.write_text("nonsense")
    assert ring.holder_of(secret.encode()) is not None
    file.path.unlink()
    assert ring.holder_of(secret.encode()) is not None
    assert ring.needs_token("read")
    assert ring.needs_token("ingest")
    file.create("other", ["read"])
    assert ring.holder_of(secret.encode()) is None
    file.revoke("other")
    assert ring.needs_token("read")


def test_a_first_token_closes_every_door(file: TokenFile) -> None:
    """A collector that ran without any asks for one as soon as there is a file."""
    ring = Keyring({}, file)
    assert not ring.needs_token("read")
    file.create("sender", ["ingest"])
    assert ring.needs_token("read")


def test_a_token_ends_with_its_time(file: TokenFile) -> None:
    """To the nanosecond."""
    clock = {"now": NOW_NS}
    _, secret = file.create("short", ["read"], lifetime_s=1)
    ring = Keyring({}, file, clock_ns=lambda: clock["now"])
    clock["now"] = NOW_NS + 999_999_999
    assert ring.holder_of(secret.encode()) is not None
    clock["now"] += 1
    assert ring.holder_of(secret.encode()) is None
    assert ring.needs_token("read")


def test_tokens_of_the_settings_go_on_beside_those_of_the_file(file: TokenFile) -> None:
    """One secret for two scopes has both; new settings count at once."""
    ring = Keyring({"ingest": "same", "read": "same", "admin": "other"})
    both = ring.holder_of(b"same")
    assert both is not None
    assert both.scopes == {"ingest", "read"}
    ring.replace_fixed({"read": "new"})
    assert ring.holder_of(b"same") is None
    assert not ring.needs_token("ingest")


def test_when_a_token_was_used_is_written_down(file: TokenFile, tmp_path: Path) -> None:
    """For `tokens list`; of tokens that are still there, and over a restart."""
    _, secret = file.create("used", ["read"])
    file.create("idle", ["read"])
    use_path = use_path_of(file.path)
    ring = Keyring({"admin": "fixed"}, file, use_path=use_path, clock_ns=lambda: NOW_NS + 5)
    ring.holder_of(secret.encode())
    ring.holder_of(b"fixed")
    ring.save_use()
    assert last_used(use_path) == {}  # not yet due
    ring.save_use(now=True)
    assert last_used(use_path) == {"used": NOW_NS + 5}
    again = Keyring({}, file, use_path=use_path)
    again.save_use(now=True)
    assert last_used(use_path) == {"used": NOW_NS + 5}
    use_path.write_text(json.dumps([1]))
    assert last_used(use_path) == {}


def test_a_token_is_a_value_that_knows_its_end() -> None:
    """Without an end it is valid for ever."""
    token = Token(name="a", scopes=("read",), digest="0" * 64, created_ns=0)
    assert token.is_valid(2**62)
