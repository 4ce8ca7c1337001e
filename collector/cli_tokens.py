"""`backtrail tokens`: who may call a collector. Works on the collector's file of tokens, running or not."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from collector.cli_app import NOTHING, OK, AsJson, app, complain, give
from tracing.line import format_timestamp

if TYPE_CHECKING:
    from collector.access.tokens import Token, TokenFile

JsonObject = dict[str, Any]

tokens_app = typer.Typer(
    help="Who may call a collector: tokens with scopes, kept hashed.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(tokens_app, name="tokens")

Name = Annotated[str, typer.Argument(metavar="NAME", help="Of whoever holds it.")]
TokenDir = Annotated[
    Path | None, typer.Option("--data-dir", help="The collector's data directory.  [default: as `serve` has]")
]
Config = Annotated[Path | None, typer.Option("--config", help="TOML file, as `serve` takes it.")]


@tokens_app.command("create")
def create_token(
    name: Name,
    scope: Annotated[list[str], typer.Option("--scope", help="ingest, read or admin; may be repeated.")],
    expires: Annotated[
        str | None, typer.Option(help="How long it is valid: `90d`, `12h`.  [default: until revoked]")
    ] = None,
    data_dir: TokenDir = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Make a token and print its secret, this once: only a hash of it is kept.

    A running collector takes it within a second. From the first token on every call needs one. Programs read
    theirs from TRACING_TOKEN, these commands from BACKTRAIL_TOKEN.
    """
    from collector.api.words import read_duration

    file = _file(data_dir, config)
    lifetime_ns = read_duration(expires)
    is_first = file.stamp() is None
    token, secret = file.create(name, scope, lifetime_s=None if lifetime_ns is None else lifetime_ns / 1e9)
    if as_json:
        give({**_shown(token, {}), "secret": secret}, lambda answer, width: [], as_json=True)
        return
    typer.echo(secret)  # alone on standard output, so that it can be put where it belongs
    complain(f"this is shown once; it is for {' and '.join(token.scopes)}, and called {name}")
    if is_first:
        complain(f"from now on every call needs a token ({file.path})")


@tokens_app.command("list")
def list_tokens(data_dir: TokenDir = None, config: Config = None, as_json: AsJson = False) -> None:
    """List the tokens: whose, for what, until when, and when they were last used.

    Exit status: 0 when there is one, 1 when there is none.
    """
    from collector.access.keyring import last_used, use_path_of

    file = _file(data_dir, config)
    tokens = file.read()
    used_ns = last_used(use_path_of(file.path))
    answer = {"file": str(file.path), "tokens": [_shown(token, used_ns) for token in tokens]}
    give(answer, lambda given, width: token_lines(given["tokens"]), as_json=as_json)
    raise typer.Exit(OK if tokens else NOTHING)


@tokens_app.command("revoke")
def revoke_token(
    name: Name, data_dir: TokenDir = None, config: Config = None, as_json: AsJson = False
) -> None:
    """Take a token away: whoever shows it is refused within a second.

    Exit status: 0 when it is gone, 1 when there was none of this name.
    """
    token = _file(data_dir, config).revoke(name)
    give(_shown(token, {}), lambda given, width: [f"{name} is revoked."], as_json=as_json)


def token_lines(tokens: Sequence[JsonObject]) -> list[Text]:
    """The tokens of `backtrail tokens list`, as a table."""
    from collector.cli_tables import table_lines

    rows = [
        [
            Text(token["name"]),
            Text(", ".join(token["scopes"])),
            Text(token["created"][:19]),
            Text((token["expires"] or "never")[:19], style="red" if token["expired"] else ""),
            Text((token["last_used"] or "–")[:19]),
        ]
        for token in tokens
    ]
    return table_lines(["token", "scopes", "created", "expires", "last used"], rows)


def _shown(token: Token, used_ns: dict[str, int]) -> JsonObject:
    used = used_ns.get(token.name)
    return {
        "name": token.name,
        "scopes": list(token.scopes),
        "created": format_timestamp(token.created_ns),
        "expires": None if token.expires_ns is None else format_timestamp(token.expires_ns),
        "expired": not token.is_valid(time.time_ns()),
        "last_used": None if used is None else format_timestamp(used),
    }


def _file(data_dir: Path | None, config: Path | None) -> TokenFile:
    """The file of the collector that flags, environment and file name."""
    from collector.access.tokens import TokenFile
    from collector.settings import load

    settings = load({"data_dir": data_dir}, config=config, to_listen=False).settings
    return TokenFile(settings.tokens_path)
