"""Writes a verdict for somebody who was woken up by it: the cause first, then the proof. Pure."""

from __future__ import annotations

from typing import Any, Final

from rich.text import Text

from collector.cli_explain import explanation_lines
from collector.cli_text import (
    Palette,
    clean,
    count,
    day_and_time,
    duration,
    epoch_ms,
    short_paths,
    time_of_day,
    wrapped,
)
from collector.model import MEASURES
from tracing.line import format_timestamp

JsonObject = dict[str, Any]

LABEL_WIDTH: Final = 13
EVIDENCE_SHOWN_MAX: Final = 6
OTHERS_SHOWN_MAX: Final = 3
OTHERS_CONFIDENCE_MIN: Final = 0.05  # what is less likely is counted, not told


def verdict_lines(
    verdict: JsonObject,
    *,
    width: int | None = None,
    explain: bool = False,
    where: str = "",
    commands: bool = True,
    baseline: str | None = None,
) -> list[Text]:
    """Write a verdict as the API gives it (`collector.api.shapes.VerdictObject`).

    Args:
        width: columns to break at; `None`: never.
        explain: every cause and all of its evidence, and what each signal saw, if the verdict says so.
        where: options that the next commands need to reach the same data, such as `--data-dir D`.
        commands: end with the commands worth typing next.
        baseline: the file that was the measure, where one was given.
    """
    writer = _Writer(width)
    if verdict["causes"]:
        _write_causes(writer, verdict, explain=explain)
    elif verdict["insufficient"]:
        writer.paragraph("Not enough data to name a cause.", style="bold yellow")
        writer.field("lacking", verdict["insufficient"])
    else:
        writer.paragraph("Nothing abnormal found.", style="bold green")
    writer.blank()
    if explain and verdict.get("explanation"):
        writer.lines += explanation_lines(verdict["explanation"], width=width)
        writer.blank()
    if verdict["traces_compared"]:
        measure = f"{count(verdict['traces_compared'], 'trace')} taken for healthy"
        source = f"of {clean(baseline)}" if baseline else MEASURES.get(verdict.get("measured_by"))
        writer.field("measured by", f"{measure}, {source}" if source else measure)
    if verdict["start"]:
        length_ns = round((epoch_ms(verdict["end"]) - epoch_ms(verdict["start"])) * 1e6)
        begin, end = day_and_time(verdict["start"]), day_and_time(verdict["end"])
        writer.field("time range", f"{begin} to {end}  ·  {duration(length_ns)}")
    for number, note in enumerate(verdict["notes"]):
        writer.field("note" if number == 0 else "", note)
    for number, looked_at in enumerate(verdict["normal"]):
        writer.field("normal" if number == 0 else "", looked_at, style="dim")
    for number, (command, purpose) in enumerate(next_commands(verdict, where=where) if commands else []):
        writer.whole("next" if number == 0 else "", command, style="bold")
        writer.field("", purpose, style="dim")
    return writer.lines


def next_commands(verdict: JsonObject, *, where: str = "") -> list[tuple[str, str]]:
    """Commands worth typing after a verdict, each with its purpose."""
    suffix = f" {where}" if where else ""
    cause = verdict["causes"][0] if verdict["causes"] else None
    cited = [item["trace_id"] for item in cause["evidence"] if item["trace_id"]] if cause else []
    trace_id = verdict["trace_id"] or (cited[0] if cited else None)
    commands = _commands_without_measure(verdict, suffix)
    if trace_id:
        commands.append((f"backtrail trace {trace_id}{suffix}", "the whole chain, with the logs in place"))
    if cause:
        query = f"service:{quoted(cause['service'])} level:>=WARN"
        commands.append(
            (f"backtrail search '{query}'{suffix}", f"whatever else {cause['service']} complained of")
        )
    if cause and cause["operation"]:
        query = f"service:{quoted(cause['service'])} name:{quoted(cause['operation'])}"
        commands.append(
            (f"backtrail search --traces '{query}'{suffix}", "other traces that passed this place")
        )
    return commands


def _commands_without_measure(verdict: JsonObject, suffix: str) -> list[tuple[str, str]]:
    """What helps on with a time range that had nothing to be measured by."""
    from collector.diagnose.ask import NOTHING_BEGAN

    if verdict.get("insufficient") in (None, NOTHING_BEGAN) or not verdict["start"]:
        return []
    start, end = verdict["start"], verdict["end"]
    middle = format_timestamp(round((epoch_ms(start) + epoch_ms(end)) / 2) * 1_000_000)
    return [
        (
            f"backtrail search --traces --failed --start {start} --end {end}{suffix}",
            "the failed traces of this time; `backtrail why TRACE_ID` measures one by its healthy neighbours",
        ),
        (
            f"backtrail why --start {middle} --end {end}{suffix}",
            "only the second half, measured by the first",
        ),
    ]


def quoted(value: str) -> str:
    """A value as the search language wants it: bare when it is one word, else in quotes."""
    value = clean(value).replace("'", "")
    if value.replace("_", "").replace("-", "").isalnum() and not value.startswith("-"):
        return value
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def confidence_words(confidence: float) -> str:
    """`high (93 %)`."""
    word = "high" if confidence >= 0.8 else "fair" if confidence >= 0.5 else "low"
    return f"{word} ({confidence:.0%})".replace("%", " %")


def _write_causes(writer: _Writer, verdict: JsonObject, *, explain: bool) -> None:
    first, *others = verdict["causes"] if explain else map(_shortened, verdict["causes"])
    writer.paragraph(first["summary"], style="bold red")
    writer.blank()
    _write_cause(writer, first, explain=explain)
    if not others:
        return
    writer.blank()
    if explain:
        for cause in others:
            writer.paragraph(f"{cause['rank']}. {cause['summary']}", style="bold")
            _write_cause(writer, cause, explain=True)
            writer.blank()
        return
    shown = [cause for cause in others if cause["confidence"] >= OTHERS_CONFIDENCE_MIN][:OTHERS_SHOWN_MAX]
    for number, cause in enumerate(shown):
        text = f"{cause['rank']}. {cause['summary']}  ·  {confidence_words(cause['confidence'])}"
        writer.field("or else" if number == 0 else "", text)
    if hidden := len(others) - len(shown):
        text = f"{count(hidden, 'less likely cause')}: --explain"
        writer.field("" if shown else "or else", f"and {text}" if shown else text, style="dim")


def _shortened(cause: JsonObject) -> JsonObject:
    """The cause with the paths of source files as a person would say them."""
    said = {key: short_paths(cause[key]) for key in ("summary", "location", "template") if cause[key]}
    evidence = [
        item | {"quote": short_paths(item["quote"]), "why": short_paths(item["why"])}
        for item in cause["evidence"]
    ]
    return cause | said | {"evidence": evidence}


def _write_cause(writer: _Writer, cause: JsonObject, *, explain: bool) -> None:
    place = [cause["service"], cause["operation"], cause["location"]]
    writer.field("where", "  ·  ".join(part for part in place if part))
    if cause["instance"]:
        writer.field("instance", cause["instance"])
    if cause["template"]:
        writer.field("log line", cause["template"])
    how = f"{confidence_words(cause['confidence'])}  ·  {cause['fault']}"
    writer.field(
        "confidence", f"{how}  ·  seen by {', '.join(cause['signals'])}" if cause["signals"] else how
    )
    writer.blank()
    shown = cause["evidence"] if explain else cause["evidence"][:EVIDENCE_SHOWN_MAX]
    palette = Palette(item["service"] for item in shown)
    for number, item in enumerate(shown):
        said_by = Text.assemble(
            (f"{time_of_day(item['timestamp'])} ", "dim"),
            (f"{clean(item['service'])} ", palette.style(item["service"])),
        )
        writer.field("evidence" if number == 0 else "", item["quote"], lead=said_by)
        writer.field("", f"→ {item['why']}", style="dim", indent=2)
        if explain:
            writer.field("", f"record {item['uid']}", style="dim", indent=2)
    if hidden := len(cause["evidence"]) - len(shown):
        writer.field("", f"and {count(hidden, 'more record')}: --explain", style="dim")
    if cause["refuted_by"]:
        writer.blank()
        writer.field("refuted by", cause["refuted_by"])


class _Writer:
    """Collects lines of labels and wrapped texts."""

    def __init__(self, width: int | None) -> None:
        self.lines: list[Text] = []
        self._width = width

    def blank(self) -> None:
        if self.lines and self.lines[-1].plain:
            self.lines.append(Text())

    def paragraph(self, text: str, *, style: str = "") -> None:
        self.lines += wrapped(text, width=self._width, indent=0, first=Text(), style=style)

    def field(
        self, label: str, text: str, *, style: str = "", indent: int = 0, lead: Text | None = None
    ) -> None:
        """A text behind its label; `lead` stands before it and is styled already."""
        column = LABEL_WIDTH + indent
        head = Text.assemble((f"{label:<{column}}", "bold"), lead or "")
        self.lines += wrapped(text, width=self._width, indent=column, first=head, style=style)

    def whole(self, label: str, text: str, *, style: str = "") -> None:
        """A text that is never broken, because it is there to be copied."""
        self.lines.append(Text.assemble((f"{label:<{LABEL_WIDTH}}", "bold"), (text, style)))
