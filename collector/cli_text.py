"""How the commands write: lengths of time, times of day, colours, and nothing that could harm a terminal.

What is shown comes from other people's programs, so every text passes `clean` on its way to the screen.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from datetime import datetime
from typing import IO, Final

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from tracing.semconv import SEVERITY_ERROR, severity_number

WIDTH_MIN: Final = 40

# Told apart on light and dark backgrounds; red and yellow are left to errors and warnings.
SERVICE_STYLES: Final = ("cyan", "magenta", "green", "blue", "bright_cyan", "bright_magenta", "bright_green")
SEVERITY_WARN: Final = 13

_CONTROL: Final = re.compile(
    r"\x1b\[[0-9;?]*[ -/]*[@-~]|[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
# The last two directories, the file and its line number, behind at least one more directory.
_SOURCE_PATH: Final = re.compile(r"/(?:[^\s/:]+/)+?((?:[^\s/:]+/){1,2}[^\s/:]+\.\w+(?=:\d))")
_ASCII: Final = str.maketrans(
    {
        "━": "=",
        "╌": "-",
        "┄": "-",
        "─": "-",
        "│": "|",
        "├": "|",
        "└": "`",
        "·": ".",
        "•": "*",
        "✗": "x",
        "✓": "+",
        "…": "~",
        "×": "x",
        "–": "-",
        "—": "-",
        "µ": "u",
        "→": ">",
        "⚠": "!",
        "≈": "~",
    }
)


def clean(text: str) -> str:
    """One line without control characters, escape sequences and marks that reverse the direction.

    A log message may hold anything; printed raw it could repaint the terminal that shows it.
    """
    return _CONTROL.sub(lambda found: " " if found[0] in "\n\r\t" else "", text)


def short_paths(text: str) -> str:
    """Leave of each source file's place the last directories: `shop/orders.py:41` instead of all before it.

    Only what is followed by a line number is taken for a file: `/api/v1/orders` is not.
    """
    return _SOURCE_PATH.sub(r"\1", text)


def duration(length_ns: int) -> str:
    """A length of time in the unit that a person would say: `85 µs`, `812 ms`, `1.24 s`, `2 min 03 s`."""
    if length_ns == 0:
        return "0 s"
    if length_ns < 0:
        return f"-{duration(-length_ns)}"
    for unit_ns, unit in ((1_000, "µs"), (1_000_000, "ms"), (1_000_000_000, "s")):
        if length_ns < 999.5 * unit_ns or unit == "s":
            value = length_ns / unit_ns
            break
    if unit == "s" and value >= 60:
        seconds = round(value)
        if seconds < 3600:
            return f"{seconds // 60} min {seconds % 60:02d} s"
        return f"{seconds // 3600} h {seconds % 3600 // 60:02d} min"
    digits = 0 if value >= 99.5 else 1 if value >= 9.95 else 2
    return f"{value:.{digits}f} {unit}"


def day_and_time(timestamp: str) -> str:
    """`2026-11-24 05:47:11.412 UTC` of the API's `2026-11-24T05:47:11.412345678Z`."""
    return f"{timestamp[:10]} {timestamp[11:23]} UTC"


def time_of_day(timestamp: str) -> str:
    """`05:47:11.412` of the API's `2026-11-24T05:47:11.412345678Z`."""
    return timestamp[11:23]


def epoch_ms(timestamp: str) -> float:
    """Milliseconds of the Unix epoch of the API's time, exact to the microsecond."""
    return datetime.fromisoformat(f"{timestamp[:26]}+00:00").timestamp() * 1000


def grouped(number: int) -> str:
    """`186 978`."""
    return f"{number:,}".replace(",", " ")


def count(number: int, noun: str, plural: str | None = None) -> str:
    """`1 span`, `12 spans`, `186 978 records`."""
    return f"{grouped(number)} {noun if number == 1 else plural or noun + 's'}"


def level_style(level: str) -> str:
    """The colour of a log level."""
    number = severity_number(level)
    if number >= SEVERITY_ERROR:
        return "bold red"
    return "yellow" if number >= SEVERITY_WARN else "dim"


class Palette:
    """Gives each service a colour, in order of appearance; the same services get the same colours."""

    def __init__(self, services: Iterable[str] = ()) -> None:
        self._styles: dict[str, str] = {}
        for service in services:
            self.style(service)

    def style(self, service: str) -> str:
        """The style of a service's name."""
        return self._styles.setdefault(service, SERVICE_STYLES[len(self._styles) % len(SERVICE_STYLES)])


def fitted(line: Text, width: int | None) -> Text:
    """Cut a line that is longer than the terminal, with a mark; `None`: never."""
    if width is not None and line.cell_len > width:
        line.truncate(max(width, WIDTH_MIN), overflow="ellipsis")
    return line


def wrapped(
    text: str, *, width: int | None, indent: int, first: Text | None = None, style: str = ""
) -> list[Text]:
    """Break a text at its words so that every line but the first begins `indent` columns in.

    Args:
        text: one paragraph.
        width: of the terminal; `None`: never break.
        indent: columns before each line but the first.
        first: what stands before the first line; by default `indent` spaces.
        style: of the text.
    """
    head = first if first is not None else Text(" " * indent)
    lines = [clean(text)]
    if width is not None:
        lines = _broken(
            lines[0], max(WIDTH_MIN // 2, width - head.cell_len), max(WIDTH_MIN // 2, width - indent)
        )
    return [Text.assemble(head if at == 0 else " " * indent, (line, style)) for at, line in enumerate(lines)]


def _broken(text: str, first_room: int, room: int) -> list[str]:
    lines: list[str] = []
    line = ""
    for word in text.split(" "):
        longer = f"{line} {word}" if line else word
        if line and cell_len(longer) > (room if lines else first_room):
            lines.append(line)
            line = word
        else:
            line = longer
    return [*lines, line]


class Screen:
    """Where a command writes: knows its width, whether it shows colours, and which characters it can say."""

    def __init__(self, file: IO[str] | None = None, *, width: int | None = None) -> None:
        self._console = Console(file=file or sys.stdout, highlight=False, markup=False, emoji=False)
        self._fixed_width = width
        self._encoding = (self._console.encoding or "ascii").lower()

    @property
    def width(self) -> int | None:
        """Columns, or `None` where lines are not to be cut: a pipe's reader wants them whole."""
        if self._fixed_width is not None:
            return self._fixed_width
        return max(WIDTH_MIN, self._console.width) if self._console.is_terminal else None

    @property
    def is_terminal(self) -> bool:
        """Whether a person looks at it."""
        return self._console.is_terminal

    @property
    def console(self) -> Console:
        """Rich's console, for progress bars."""
        return self._console

    def show(self, lines: Iterable[Text | str]) -> None:
        """Write lines as they are, one below the other."""
        for line in lines:
            text = Text(line) if isinstance(line, str) else line
            if not self._encoding.startswith("utf"):
                sayable = text.plain.translate(_ASCII).encode(self._encoding, "replace")
                text.plain = sayable.decode(self._encoding)
            if not self._console.is_terminal:
                self._console.file.write(f"{text.plain}\n")  # a long chain is written in a tenth of the time
                continue
            self._console.print(text, soft_wrap=True, crop=False, overflow="ignore")
