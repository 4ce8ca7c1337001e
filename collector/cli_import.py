"""`backtrail import`: files into a collector or a data directory, with progress, and what was not read."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import orjson
from rich.progress import BarColumn, DownloadColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn
from rich.text import Text

from collector.cli_source import Place, UsageError
from collector.cli_text import Screen, clean, count, grouped
from collector.receive.files import FILE_REASONS, ImportLine, ImportReport, read_files

REFUSALS_SHOWN_MAX: Final = 5
PROGRESS_EVERY_RECORDS: Final = 500


def import_and_report(place: Place, files: Sequence[str], *, as_json: bool = False) -> int:
    """Import files and say what became of them.

    Returns:
        0: every line was taken in or known already; 1: some could not be.
    Raises:
        UsageError: one of them is a folder; nothing was read or made then.
    """
    if folder := next(filter(Path.is_dir, map(Path, files)), None):
        raise UsageError(f"{folder}: a folder; name its files, for instance {folder}/*.ndjson*")
    report = ImportReport()
    progress_screen = Screen(sys.stderr)
    with place.writer() as target:
        lines: Iterable[ImportLine] = read_files(files, report=report)
        if progress_screen.is_terminal:
            lines = _with_progress(lines, report, progress_screen)
        answer = target.import_records(lines)
    if as_json:
        result = {**import_object(report), **answer}
        sys.stdout.write(orjson.dumps(result, option=orjson.OPT_INDENT_2).decode() + "\n")
    else:
        screen = Screen()
        screen.show(import_lines(report, answer, where=str(place.data_dir or place.url)))
    return 1 if report.unreadable or answer["refused"] else 0


def import_object(report: ImportReport) -> dict[str, Any]:
    """The reader's report as JSON."""
    return {
        "files": report.files,
        "lines": report.lines,
        "records": report.records,
        "passed_over": report.passed_over,
        "unreadable": dict(report.unreadable),
        "first_unreadable": [
            {
                "file": trouble.file,
                "line_number": trouble.line_number,
                "reason": trouble.reason,
                "field": trouble.field,
                "message": trouble.message,
            }
            for trouble in report.first_unreadable
        ],
    }


def import_lines(report: ImportReport, answer: dict[str, Any], *, where: str) -> list[Text]:
    """What became of the files, for a person."""
    lines = [Text(f"Read {count(report.records, 'record')} from {count(report.files, 'file')} into {where}.")]
    already = answer.get("already_stored")
    if already is not None:
        known = f"; {grouped(already)} were there already" if already else ""
        lines.append(Text(f"{count(answer['stored'], 'record')} added{known}."))
    if unreadable := report.unreadable.total():
        of_files = sum(report.unreadable[reason] for reason in FILE_REASONS)
        parts = [("line", unreadable - of_files), ("file", of_files)]
        what = " and ".join(count(number, noun) for noun, number in parts if number)
        lines.append(Text(f"{what} could not be read:", style="bold yellow"))
        lines += [Text(f"  {number:>7} × {reason}") for reason, number in report.unreadable.most_common()]
        for trouble in report.first_unreadable[:REFUSALS_SHOWN_MAX]:
            at = f"{trouble.file}:{trouble.line_number}" if trouble.line_number else trouble.file
            lines.append(Text(f"  {at}: {clean(trouble.message)}", style="dim"))
    if refused := answer["refused"]:
        lines.append(Text(f"{count(len(refused), 'record')} refused:", style="bold yellow"))
        for refusal in refused[:REFUSALS_SHOWN_MAX]:
            lines.append(Text(f"  {refusal['reason']}: {clean(refusal['message'])}", style="dim"))
    return lines


def _with_progress(lines: Iterable[ImportLine], report: ImportReport, screen: Screen) -> Iterator[ImportLine]:
    """Hand the lines on and show how far the files have been read."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.fields[records]} records"),
        BarColumn(),
        DownloadColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=screen.console, transient=True) as progress:
        task = progress.add_task("import", total=None, records="0")
        for number, line in enumerate(lines):
            if number % PROGRESS_EVERY_RECORDS == 0:
                progress.update(
                    task, total=report.bytes_total, completed=report.bytes_read, records=grouped(number)
                )
            yield line
