"""Where an exception was born, from the text of its stack trace. Python, Java and JavaScript."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

import msgspec

# Where the runtime and installed libraries live; a frame elsewhere is the program's own.
_LIBRARY: Final = re.compile(
    r"site-packages|dist-packages|/lib/python\d|<frozen |<string>|node_modules|node:|internal/"
    r"|^(?:java|javax|jdk|sun|jakarta|kotlin|scala)\.|^org\.(?:springframework|apache|hibernate|eclipse|jboss)\."
    r"|^com\.(?:sun|google|fasterxml|mysql|zaxxer)\.|^io\.(?:netty|grpc|opentelemetry|micrometer|jaegertracing)\."
    r"|^(?:reactor|feign|okhttp3|rx)\."
)
PATH_PARTS_KEPT: Final = 3  # of an absolute path: two directories and the file
_PYTHON: Final = re.compile(
    r'^\s*File "(?P<file>[^"]+)", line (?P<line>\d+), in (?P<function>\S+)', re.MULTILINE
)
_JAVA: Final = re.compile(
    r"^\s*at (?P<function>[\w.$<>/@-]+)\((?P<file>[\w$.-]+\.(?:java|kt|scala|groovy)):(?P<line>\d+)\)",
    re.MULTILINE,
)
_JAVASCRIPT: Final = re.compile(
    r"^\s*at (?:(?P<function>[^\s(]+) \()?(?P<file>[^\s()]+):(?P<line>\d+):\d+\)?", re.MULTILINE
)
# What stands between an exception and the one that was raised while it was handled.
_PYTHON_CHAIN: Final = re.compile(
    r"\n\s*\n?(?:The above exception was the direct cause of the following exception"
    r"|During handling of the above exception, another exception occurred):\s*\n"
)
_JAVA_CAUSE: Final = re.compile(r"^\s*Caused by: ", re.MULTILINE)
_PYTHON_RAISED: Final = re.compile(r"^(?P<type>[\w.]+)(?:: (?P<message>.*))?$")


class Frame(msgspec.Struct, frozen=True, kw_only=True):
    """One frame of a stack trace."""

    file: str
    line: int
    function: str
    is_library: bool

    def __str__(self) -> str:
        """`file:line in function`, the file as `short_file` names it."""
        return f"{short_file(self.file)}:{self.line} in {self.function}"


@lru_cache(maxsize=20_000)
def short_file(path: str) -> str:
    """A source file by its last directories: where a program is installed is no part of its code.

    So a place has the same name on every machine. What is not absolute is left as it is.
    """
    if not path.startswith("/") and path[1:3] not in (":\\", ":/"):
        return path
    _, *parts = re.split(r"[/\\]+", path)
    return "/".join(parts[-PATH_PARTS_KEPT:]) if len(parts) > PATH_PARTS_KEPT else path


class Birth(msgspec.Struct, frozen=True, kw_only=True):
    """The first exception of a chain, and where it was raised."""

    frame: Frame | None  # in the program's own code where there is such a frame
    raised_in: Frame | None  # where exactly: perhaps in a library that the frame above called
    type: str | None
    message: str | None


def birth(stacktrace: str) -> Birth:
    """Find the exception that began a chain, and the place it was raised at.

    Of chained exceptions that is the innermost cause: Python prints it first, Java last.
    """
    if _PYTHON.search(stacktrace):
        first = _PYTHON_CHAIN.split(stacktrace)[0]
        frames = [_frame(match) for match in _PYTHON.finditer(first)]  # outermost first
        kind, message = _python_raised(first)
        return _born(frames, kind, message)
    cause = _JAVA_CAUSE.split(stacktrace)[-1]
    pattern = _JAVA if _JAVA.search(cause) else _JAVASCRIPT
    frames = [_frame(match) for match in pattern.finditer(cause)][::-1]
    head = cause.strip().partition("\n")[0]
    kind, _, message = head.partition(": ")
    return _born(frames, kind if re.fullmatch(r"[\w.$]+", kind) else None, message or None)


def _born(frames: list[Frame], kind: str | None, message: str | None) -> Birth:
    own = [frame for frame in frames if not frame.is_library]
    raised_in = frames[-1] if frames else None
    return Birth(frame=own[-1] if own else raised_in, raised_in=raised_in, type=kind, message=message)


def _frame(match: re.Match[str]) -> Frame:
    file, function = match["file"], match["function"] or "<anonymous>"
    is_java = match.re is _JAVA
    return Frame(
        file=file,
        line=int(match["line"]),
        function=function,
        is_library=bool(_LIBRARY.search(function if is_java else file)),
    )


def _python_raised(text: str) -> tuple[str | None, str | None]:
    """The type and message in the line after the last frame."""
    last = [match.end() for match in _PYTHON.finditer(text)][-1]
    for line in text[last:].splitlines()[1:]:
        if line and not line[0].isspace():
            match = _PYTHON_RAISED.match(line)
            return (match["type"], match["message"]) if match else (None, None)
    return None, None
