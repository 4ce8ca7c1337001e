"""`backtrail baseline`: what is normal, learned into a file, and shown."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.text import Text

from collector.cli_app import AsJson, DataDir, End, Start, app, complain, give

if TYPE_CHECKING:
    from collector.diagnose.baseline import Baseline

JsonObject = dict[str, Any]

OPERATIONS_SHOWN_MAX: Final = 20

baseline_app = typer.Typer(
    help="What is normal: learned into a file, and shown.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(baseline_app, name="baseline")


@baseline_app.command(short_help="Learn what is normal into a file.")
def build(
    file: Annotated[Path, typer.Argument(help="Where it is written.")],
    recordings: Annotated[
        list[str] | None, typer.Argument(help="Fault-free recordings; without: a data directory.")
    ] = None,
    start: Start = None,
    end: End = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Learn what is normal from fault-free recordings, or from a stretch of time in a data directory.

    `backtrail why --baseline FILE` and `backtrail eval --baseline FILE` measure by it. The stretch is the
    last hour, unless --start and --end say another. Exit status: 0 when something was learned, 1 when not.
    """
    from collector.cli_source import Place, UsageError
    from collector.diagnose.baseline import Baseline
    from collector.diagnose.evaluate import read_traces_of
    from collector.watch import write_whole

    if recordings:
        learned = Baseline()
        learned.learn(read_traces_of(recordings))
    else:
        place = Place(url=None, data_dir=data_dir)
        if place.data_dir is None:
            raise UsageError("name recordings, or --data-dir: a running collector learns by itself")
        from collector.service import open_local

        with open_local(place.data_dir, write=False) as local:
            learned = local.learn(start=start, end=end)
    if not learned.profile.traces:
        complain("there is no trace to learn from; nothing was written")
        raise typer.Exit(1)
    write_whole(file, learned.to_bytes())
    give(summary(learned), summary_lines, as_json=as_json)


@baseline_app.command(short_help="Show what is normal.")
def show(
    path: Annotated[Path, typer.Argument(help="A file of `build`, or a collector's data directory.")],
    as_json: AsJson = False,
) -> None:
    """Show what a baseline holds: of a file, or of a data directory in which a collector has learned."""
    from collector.watch import read_baseline

    give(summary(read_baseline(path)), summary_lines, as_json=as_json)


def summary(baseline: Baseline) -> JsonObject:
    """What a baseline holds, in figures; operations by the time that they take in all, most first."""
    from tracing.line import format_timestamp

    profile = baseline.profile
    busiest = sorted(
        profile.operations.items(),
        key=lambda pair: (-pair[1].visits * pair[1].self_time.quantile_ns(0.5), pair[0]),
    )
    operations = [
        {
            "service": operation.service,
            "name": operation.name,
            "kind": operation.kind,
            "runs": item.visits,
            "errors": item.errors,
            "self_time_p50_ns": item.self_time.quantile_ns(0.5),
            "self_time_p99_ns": item.self_time.quantile_ns(0.99),
        }
        for operation, item in busiest
    ]
    return {
        "traces": profile.traces,
        "first": format_timestamp(profile.first_ns) if profile.traces else None,
        "last": format_timestamp(profile.last_ns) if profile.traces else None,
        "services": sorted(profile.service_visits),
        "versions": {f"{name} {version}": runs for (name, version), runs in sorted(profile.versions.items())},
        "entries": {
            f"{entry.service} {entry.name}": item.traces for entry, item in sorted(profile.entries.items())
        },
        "edges": len(profile.edges),
        "templates": sum(1 for _ in baseline.templates.templates()),
        "operations": operations,
        "bytes": len(baseline.to_bytes()),
    }


def summary_lines(answer: JsonObject, *, width: int | None = None) -> list[Text]:
    """The same for a person."""
    from collector.cli_tables import table_lines
    from collector.cli_text import clean, count, duration, grouped

    lines = [
        Text(
            f"{count(answer['traces'], 'trace')} of {count(len(answer['services']), 'service')}, "
            f"{count(len(answer['operations']), 'operation')}, {count(answer['edges'], 'edge')}, "
            f"{count(answer['templates'], 'log template')}; {grouped(answer['bytes'])} bytes"
        )
    ]
    if answer["first"]:
        lines.append(Text(f"{answer['first'][:19]} to {answer['last'][:19]} UTC", style="dim"))
    entries = sorted(answer["entries"].items(), key=lambda item: -item[1])[:OPERATIONS_SHOWN_MAX]
    rows = [[Text(clean(name)), Text(grouped(traces))] for name, traces in entries]
    lines += [Text(), *table_lines(["entry point", "requests"], rows, right={1}, width=width), Text()]
    rows = [
        [
            Text(clean(item["service"])),
            Text(clean(item["name"])),
            Text(grouped(item["runs"])),
            Text(grouped(item["errors"]), style="red" if item["errors"] else "dim"),
            Text(duration(item["self_time_p50_ns"])),
            Text(duration(item["self_time_p99_ns"])),
        ]
        for item in answer["operations"][:OPERATIONS_SHOWN_MAX]
    ]
    head = ["service", "operation", "runs", "errors", "itself, half", "99 %"]
    lines += table_lines(head, rows, right={2, 3, 4, 5}, width=width)
    if (hidden := len(answer["operations"]) - OPERATIONS_SHOWN_MAX) > 0:
        lines.append(Text(f"and {hidden} more: --json", style="dim"))
    return lines
