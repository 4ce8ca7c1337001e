"""`backtrail dashboards`: the files that Kibana and Grafana import."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from collector.cli_app import AsJson, app, give

dashboards_app = typer.Typer(
    help="Dashboards for Kibana and Grafana.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(dashboards_app, name="dashboards")

# How each file gets in, by its name.
_IMPORTED_BY = {
    "kibana.ndjson": "Kibana: Stack Management, Saved Objects, Import",
    "grafana-records.json": "Grafana: Dashboards, New, Import; an Elasticsearch source on logs-*,traces-*",
    "grafana-collector.json": "Grafana: Dashboards, New, Import; a Prometheus source that scrapes /metrics",
}


@dashboards_app.command("export")
def export_dashboards(
    directory: Annotated[
        Path, typer.Argument(help="Made if it is missing; files of the same name go.")
    ] = Path("dashboards"),
    as_json: AsJson = False,
) -> None:
    """Write the dashboards into a directory, and say where each is imported."""
    from collector.dashboards import export

    paths = export(directory)
    give({"files": [str(path) for path in paths]}, _lines, as_json=as_json)


def _lines(answer: dict[str, Any], *, width: int | None = None) -> list[Text]:
    return [Text.assemble(path, ("  " + _IMPORTED_BY[Path(path).name], "dim")) for path in answer["files"]]
