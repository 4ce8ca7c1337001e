"""`backtrail elastic`: what is set up in the cluster, planned, made and checked."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer
from rich.text import Text

from collector.cli_app import NOTHING, OK, AsJson, app, give

if TYPE_CHECKING:
    from collector.store.elastic.connection import Connection
    from collector.store.elastic.names import Names
    from collector.store.elastic.options import ElasticOptions
    from collector.store.elastic.server import Server

JsonObject = dict[str, Any]

elastic_app = typer.Typer(
    help="What the collector sets up in Elasticsearch.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(elastic_app, name="elastic")

Store = Annotated[
    str | None,
    typer.Option(help="The cluster, `https://one:9200,two:9200`.  [env: BACKTRAIL_STORE; else the file's]"),
]
ApiKey = Annotated[
    str | None,
    typer.Option(help="As Elasticsearch prints it under `encoded`.  [env: BACKTRAIL_STORE_API_KEY]"),
]
CaFile = Annotated[
    Path | None, typer.Option(help="PEM file of its certificate's authority.  [env: BACKTRAIL_STORE_CA_FILE]")
]
Retention = Annotated[
    float | None, typer.Option(help="Age at which records go.  [env: BACKTRAIL_RETENTION_DAYS]")
]
Config = Annotated[Path | None, typer.Option(help="TOML file, as `serve` takes it.")]

_MARKS = {"create": ("+", "green"), "change": ("~", "yellow"), "keep": ("=", "dim"), "leave": ("!", "yellow")}
_MEANINGS = {"create": "", "change": "", "keep": "is right", "leave": "was made by a newer collector"}


class Cluster(NamedTuple):
    """A cluster that has answered, and what we would have in it."""

    connection: Connection
    names: Names
    options: ElasticOptions
    server: Server

    @property
    def about(self) -> JsonObject:
        """What it is, for the head of an answer."""
        version = ".".join(map(str, self.server.version))
        return {"hosts": list(self.options.hosts), "version": version, "streams": list(self.names.streams)}


@elastic_app.command("plan")
def show_plan(
    store: Store = None,
    store_api_key: ApiKey = None,
    store_ca_file: CaFile = None,
    retention_days: Retention = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Show what `apply`, and every start of `serve`, would make or change; nothing is touched.

    Exit status: 0 when nothing would be, 1 when something would, 3 when the cluster cannot be asked.
    """
    from collector.store.elastic.admin import plan

    with cluster(_given(store, store_api_key, store_ca_file, retention_days), config) as one:
        steps = plan(one.connection, one.names, one.options, one.server)
        answer = {**one.about, "steps": _plain(steps)}
    give(answer, plan_lines, as_json=as_json)
    raise typer.Exit(NOTHING if any(step.action in ("create", "change") for step in steps) else OK)


@elastic_app.command("apply")
def apply_plan(
    store: Store = None,
    store_api_key: ApiKey = None,
    store_ca_file: CaFile = None,
    retention_days: Retention = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Make and change what `plan` shows; again, it changes nothing. A user's `@custom` is never touched.

    This needs an operator's privileges, which a collector does not: see docs/elasticsearch.md.
    """
    from collector.store.elastic.admin import apply, plan

    with cluster(_given(store, store_api_key, store_ca_file, retention_days), config) as one:
        steps = plan(one.connection, one.names, one.options, one.server)
        applied = apply(one.connection, steps)
        answer = {**one.about, "steps": _plain(steps), "applied": applied}
    give(answer, plan_lines, as_json=as_json)


@elastic_app.command("check")
def check_streams(
    store: Store = None,
    store_api_key: ApiKey = None,
    store_ca_file: CaFile = None,
    retention_days: Retention = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Hold what runs in the cluster, mapping and lifecycle, against what the collector would make.

    Exit status: 0 when all is well, 1 when something is not, 3 when the cluster cannot be asked.
    """
    from collector.store.elastic.admin import check

    with cluster(_given(store, store_api_key, store_ca_file, retention_days), config) as one:
        findings = check(one.connection, one.names, one.options, one.server)
        answer = {**one.about, "findings": _plain(findings)}
    give(answer, finding_lines, as_json=as_json)
    raise typer.Exit(NOTHING if findings else OK)


@contextlib.contextmanager
def cluster(given: JsonObject, config: Path | None) -> Iterator[Cluster]:
    """Reach the cluster that flags, environment and file name.

    Raises:
        UsageError: they name none.
        ConfigurationError: a setting is wrong, or what answers is too old or no Elasticsearch.
        Unavailable, Forbidden: it cannot be asked.
    """
    from collector.cli_source import UsageError
    from collector.service.pipeline import elastic_options
    from collector.settings import load
    from collector.store.elastic.connection import Connection
    from collector.store.elastic.names import Names
    from collector.store.elastic.server import ask_server

    settings = load(given, config=config).settings
    if settings.store in ("embedded", "memory"):
        raise UsageError(f"the store is `{settings.store}`; name a cluster with --store https://host:9200")
    options = elastic_options(settings)
    connection = Connection(options)
    try:
        server = ask_server(connection)
        yield Cluster(connection, Names(options.dataset, options.namespace), options, server)
    finally:
        connection.close()


def plan_lines(answer: JsonObject, *, width: int | None = None) -> list[Text]:
    """The steps for a person, a mark before each."""
    from collector.cli_text import count, wrapped

    lines = [_head(answer)]
    for step in answer["steps"]:
        mark, style = _MARKS[step["action"]]
        meaning = _MEANINGS[step["action"]]
        lines.append(
            Text.assemble((f"{mark} ", style), step["what"], (f"  {meaning}" if meaning else "", "dim"))
        )
        for difference in step["differences"]:
            lines += wrapped(difference, width=width, indent=6, first=Text("    "), style="dim")
    changes = sum(step["action"] in ("create", "change") for step in answer["steps"])
    if "applied" in answer:
        lines.append(Text(f"{count(answer['applied'], 'thing')} made or changed."))
    elif changes:
        lines.append(Text(f"{count(changes, 'thing')} to make or change: backtrail elastic apply"))
    else:
        lines.append(Text("Nothing to do."))
    return lines


def finding_lines(answer: JsonObject, *, width: int | None = None) -> list[Text]:
    """The findings for a person, what is harmful in red."""
    from collector.cli_text import wrapped

    lines = [_head(answer)]
    for finding in answer["findings"]:
        mark = Text("✗ ", style="bold red") if finding["harmful"] else Text("⚠ ", style="yellow")
        lines += wrapped(finding["message"], width=width, indent=2, first=mark)
    return [*lines, *([] if answer["findings"] else [Text("✓ all is as it should be", style="green")])]


def _head(answer: JsonObject) -> Text:
    hosts = ", ".join(answer["hosts"])
    return Text(f"Elasticsearch {answer['version']} at {hosts}", style="dim")


def _given(
    store: str | None, api_key: str | None, ca_file: Path | None, retention_days: float | None
) -> JsonObject:
    return {
        "store": store,
        "store_api_key": api_key,
        "store_ca_file": ca_file,
        "retention_days": retention_days,
    }


def _plain(values: list[Any]) -> Any:
    import msgspec

    return msgspec.to_builtins(values)
