"""Collector settings: one precedence, no silent fallback, no open door."""

from __future__ import annotations

from pathlib import Path

import pytest

from collector.errors import ConfigurationError
from collector.settings import (
    ENV_PREFIX,
    Settings,
    config_files,
    default_data_dir,
    is_loopback,
    load,
    without_password,
)


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No variable of ours, and no file where one would be looked for."""
    import os

    for name in [name for name in os.environ if name.startswith(ENV_PREFIX)]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def test_each_layer_overrides_the_one_below(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Flags before environment before file before defaults, field by field, and each says its source."""
    file = tmp_path / "c.toml"
    file.write_text('port = 1\nlog_level = "debug"\nwal_bytes_max = "64MiB"\n')
    monkeypatch.setenv("BACKTRAIL_PORT", "2")
    monkeypatch.setenv("BACKTRAIL_LOG_LEVEL", "error")
    loaded = load({"port": 3, "host": None}, config=file)
    settings = loaded.settings
    assert (settings.port, settings.log_level, settings.wal_bytes_max, settings.host) == (
        3,
        "ERROR",
        64 * 1024**2,
        "127.0.0.1",
    )
    assert {key: loaded.sources[key] for key in ("port", "log_level", "wal_bytes_max", "host")} == {
        "port": "flag",
        "log_level": "environment",
        "wal_bytes_max": str(file),
        "host": "default",
    }
    assert loaded.warnings == []


def test_building_settings_reads_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test or a program that passes settings gets exactly these."""
    monkeypatch.setenv("BACKTRAIL_PORT", "2")
    assert Settings().port == 4318


def test_the_first_file_that_exists_is_read(tmp_path: Path) -> None:
    """Without a name the user's file is found."""
    file = config_files()[0]
    file.parent.mkdir(parents=True)
    file.write_text("port = 7\n")
    assert load().settings.port == 7


def test_the_environment_can_name_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`BACKTRAIL_CONFIG` is the client's and the service's, and no unknown name."""
    file = tmp_path / "named.toml"
    file.write_text("port = 8\n")
    monkeypatch.setenv("BACKTRAIL_CONFIG", str(file))
    loaded = load()
    assert (loaded.settings.port, loaded.warnings) == (8, [])


def test_unknown_names_are_one_warning_each(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A misspelt name is said, with the one that was probably meant, and does not stop the start."""
    file = tmp_path / "c.toml"
    file.write_text('data_dri = "/x"\n')
    monkeypatch.setenv("BACKTRAIL_PROT", "1")
    assert load(config=file).warnings == [
        f"data_dri ({file}): no such setting; did you mean 'data_dir'?",
        "BACKTRAIL_PROT (environment): no such setting; did you mean 'BACKTRAIL_PORT'?",
    ]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"port": "many"}, "port = 'many' (flag): "),
        ({"port": 70000}, "port = 70000 (flag): "),
        ({"wal_bytes_max": "1 parsec"}, "wal_bytes_max = '1 parsec' (flag): "),
        ({"store": "oracle"}, "store = 'oracle' (flag): "),
        ({"commit_interval_s": 0}, "commit_interval_s = 0 (flag): "),
        ({"prot": 1}, "prot: no such setting; did you mean 'port'?"),
        ({"body_bytes_max": "1GiB"}, "in_flight_bytes_max must be at least body_bytes_max"),
    ],
)
def test_a_malformed_value_stops_the_start(flags: dict[str, object], said: str) -> None:
    """The message names the setting, its value and where it stands."""
    with pytest.raises(ConfigurationError) as caught:
        load(flags)
    assert str(caught.value).startswith(said)


def test_every_malformed_value_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody should have to start five times to hear of five mistakes."""
    monkeypatch.setenv("BACKTRAIL_STORE", "oracle")
    with pytest.raises(ConfigurationError) as caught:
        load({"port": "many"})
    assert [line.partition(" = ")[0] for line in str(caught.value).splitlines()] == ["store", "port"]


def test_a_token_is_never_quoted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither in an error nor in a settings' repr."""
    with pytest.raises(ConfigurationError) as caught:
        load({"read_token": 12345})
    assert "12345" not in str(caught.value)
    assert "hush" not in repr(Settings(read_token="hush"))  # type: ignore[arg-type]


@pytest.mark.parametrize("content", ["port = ", "\x00", "port = 1\nport = 2\n"])
def test_a_broken_file_stops_the_start(tmp_path: Path, content: str) -> None:
    """The message names the file."""
    file = tmp_path / "c.toml"
    file.write_text(content)
    with pytest.raises(ConfigurationError, match=r"c\.toml: not TOML"):
        load(config=file)


def test_a_named_file_must_be_there(tmp_path: Path) -> None:
    """A name that leads nowhere is a mistake, not a default."""
    with pytest.raises(ConfigurationError, match="no such file"):
        load(config=tmp_path / "absent.toml")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "collector.example"])
def test_beyond_loopback_both_tokens_are_needed(host: str, tmp_path: Path) -> None:
    """No open door by accident: neither token alone is enough; a file of tokens is, or to say so."""
    for tokens in ({}, {"read_token": "r"}, {"ingest_token": "i"}):
        with pytest.raises(ConfigurationError, match="both ingest_token and read_token"):
            load({"host": host, **tokens})
    assert load({"host": host, "read_token": "r", "ingest_token": "i"}).settings.host == host
    assert load({"host": host, "serve_anybody_without_token": "true"}).settings.host == host
    (tmp_path / "tokens.json").write_text("")
    assert load({"host": host, "data_dir": tmp_path}).settings.host == host


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("[::1]", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("", False),
        ("localhost.example", False),
    ],
)
def test_loopback(host: str, expected: bool) -> None:
    """Names are not resolved: what they point to may change."""
    assert is_loopback(host) is expected


def test_an_empty_variable_is_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compose files leave empty variables behind."""
    monkeypatch.setenv("BACKTRAIL_READ_TOKEN", "")
    assert load().settings.read_token is None


def test_lists_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the environment; in the file they are arrays."""
    monkeypatch.setenv("BACKTRAIL_ALLOWED_HOSTS", "a.example, b.example")
    assert load().settings.allowed_hosts == ("a.example", "b.example")


def test_the_data_directory_follows_xdg(tmp_path: Path) -> None:
    """And is absolute, so that a later `chdir` does not move it."""
    assert default_data_dir() == tmp_path / "state" / "backtrail" / "collector"
    assert Settings(data_dir=Path("here")).data_dir == Path.cwd() / "here"


@pytest.mark.parametrize(
    "url",
    [
        "https://elastic:hunter2@one:9200",
        "https://elastic:hunter2@one:9200,elastic:hunter2@two:9200",
        "https://elastic:hun/ter2@one:9200",
        "elastic:hunter2@one",
        "https://one:9200?api_key=hunter2&namespace=shop",
    ],
)
def test_a_store_is_shown_without_what_signs_in(url: str) -> None:
    shown = without_password(url)
    assert "ter2" not in shown and shown.endswith(("one:9200", "two:9200", "one", "one:9200?namespace=shop"))


def test_a_store_that_is_no_url_is_refused_without_its_password() -> None:
    with pytest.raises(ConfigurationError) as refused:
        load({"store": "elastic:hunter2@one"})
    assert "one" in str(refused.value) and "hunter2" not in str(refused.value)
