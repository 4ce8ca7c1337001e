"""Flags, environment and file -> `Settings`, with where each value came from."""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError
from pydantic_settings import TomlConfigSettingsSource

from collector.errors import ConfigurationError
from collector.settings.fields import ENV_PREFIX, Settings, check_reach

# Variables with our prefix that are not the service's: the client side reads them.
CLIENT_VARIABLES: Final = frozenset(
    {
        "BACKTRAIL_URL",
        "BACKTRAIL_TOKEN",
        "BACKTRAIL_CONFIG",
        "BACKTRAIL_CA_FILE",
        "BACKTRAIL_CLIENT_CERT_FILE",
        "BACKTRAIL_CLIENT_KEY_FILE",
    }
)


def without_password(url: str) -> str:
    """A URL as it may be shown: who signs in, and any API key among its parameters, are left out.

    It is also asked about what is no proper URL, so it goes by signs: all up to the last `@` is left out.
    """
    scheme, separator, rest = url.partition("://") if "://" in url else ("", "", url)
    place, question, parameters = rest.rpartition("@")[2].partition("?")
    shown = "&".join(part for part in parameters.split("&") if not part.startswith("api_key="))
    return f"{scheme}{separator}{place}{question if shown else ''}{shown}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """Settings, and how they came about."""

    settings: Settings
    sources: dict[str, str]  # by field: "flag", "environment", the file's path or "default"
    warnings: list[str]  # one sentence for each name that is not a setting


def load(
    flags: Mapping[str, Any] | None = None, *, config: Path | None = None, to_listen: bool = True
) -> Loaded:
    """Read flags, environment and file into settings.

    Args:
        flags: by field name; a value of `None` means that the flag was not given.
        config: TOML file; `None`: `BACKTRAIL_CONFIG`, else the first of `config_files()` that exists.
        to_listen: whether somebody will listen as they say, so that `check_reach` is asked.
    Raises:
        ConfigurationError: a value is malformed, or the file is missing or not TOML; the message names
            each setting, its value, where it stands and what would be accepted.
    """
    path = (
        config or _named_by_environment() or next((file for file in config_files() if file.is_file()), None)
    )
    layers: list[tuple[str, dict[str, Any]]] = []  # lowest precedence first
    warnings: list[str] = []
    if path is not None:
        values = _read_toml(path)
        warnings += _unknown(values, Settings.model_fields, where=str(path))
        layers.append((str(path), {key: values[key] for key in values if key in Settings.model_fields}))
    ours = {name for name in os.environ if name.startswith(ENV_PREFIX)} - CLIENT_VARIABLES
    known = [ENV_PREFIX + field.upper() for field in Settings.model_fields]
    warnings += _unknown(ours, [*known, *CLIENT_VARIABLES], where="environment")
    layers.append(("environment", _read_environment()))
    layers.append(("flag", {key: value for key, value in (flags or {}).items() if value is not None}))

    merged: dict[str, Any] = {}
    sources = dict.fromkeys(Settings.model_fields, "default")
    for where, layer in layers:
        merged |= layer
        sources |= dict.fromkeys(layer, where)
    try:
        settings = Settings(**merged)
    except ValidationError as error:
        raise ConfigurationError(_explain(error, sources)) from None
    if to_listen:
        check_reach(settings)
    return Loaded(settings=settings, sources=sources, warnings=warnings)


def config_files() -> list[Path]:
    """Files that are read when none is named, the first that exists wins."""
    home = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return [Path(home) / "backtrail" / "collector.toml", Path("/etc/backtrail/collector.toml")]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A half-sentence that names the nearest known name, empty when none is near."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; did you mean {near[0]!r}?" if near else ""


def _named_by_environment() -> Path | None:
    name = os.environ.get("BACKTRAIL_CONFIG")
    return Path(name).expanduser() if name else None


def _read_toml(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ConfigurationError(f"{path}: no such file; name a TOML file, or leave the option out")
    try:
        return TomlConfigSettingsSource(Settings, toml_file=path).toml_data
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: not TOML: {error}") from None
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from None


def _read_environment() -> dict[str, Any]:
    values: dict[str, Any] = {}
    for field in Settings.model_fields:
        value = os.environ.get(ENV_PREFIX + field.upper())
        if value:  # an empty variable counts as unset, as compose files leave them behind
            is_list = field in ("allowed_hosts", "tail_files")
            values[field] = [part.strip() for part in value.split(",")] if is_list else value
    return values


def _unknown(names: Iterable[str], known: Iterable[str], *, where: str) -> list[str]:
    known = list(known)
    return [
        f"{name} ({where}): no such setting{did_you_mean(name, known)}"
        for name in sorted(set(names) - set(known))
    ]


def _explain(error: ValidationError, sources: Mapping[str, str]) -> str:
    """Each wrong setting on a line of its own: name, value, place, what was expected."""
    lines = []
    for trouble in error.errors(include_url=False):
        field = str(trouble["loc"][0]) if trouble["loc"] else None
        if field is None:
            lines.append(trouble["msg"].removeprefix("Value error, "))
        elif trouble["type"] == "extra_forbidden":
            lines.append(f"{field}: no such setting{did_you_mean(field, Settings.model_fields)}")
        else:
            given = without_password(str(trouble["input"])) if field == "store" else trouble["input"]
            shown = "" if field.endswith(("_token", "_key")) else f" = {given!r:.80}"
            expected = trouble["msg"].removeprefix("Value error, ").replace("Input should", "must", 1)
            lines.append(f"{field}{shown} ({sources.get(field, 'flag')}): {expected}")
    return "\n".join(dict.fromkeys(lines))
