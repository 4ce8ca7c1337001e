"""Imports a program as it is and looks at what that has left: `python -m tracing.doctor.app OUT MODULE…`.

In a process of its own, because importing a program is running its top level. Writes one JSON object to OUT:
the settings, what is on, and findings.
"""

from __future__ import annotations

import ast
import importlib
import json
import logging
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import tracing
from tracing.doctor.bindings import bound_too_early, own_modules
from tracing.doctor.findings import Finding
from tracing.doctor.sources import Source
from tracing.instrumentation import instrumented
from tracing.instrumentation.libraries import libraries
from tracing.runtime import Handle, current_handle

_CONFIGURING = ("dictConfig", "fileConfig")


def main() -> None:
    """Import, look, write."""
    out, *names = sys.argv[1:]
    sys.path.insert(0, str(Path.cwd()))
    try:
        found = examined(names)
    except BaseException as error:  # whatever a program's top level raises, SystemExit too
        found = {"failed": _told(error, names)}
    Path(out).write_text(json.dumps(found, default=str))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # the program's threads and exit functions need not be waited for


def examined(names: Sequence[str]) -> dict[str, Any]:
    """Import modules and look at what they did.

    Raises:
        BaseException: what the modules raised.
    """
    for name in names:
        importlib.import_module(name)
    modules = own_modules(names)
    sources = [Source(module) for module in modules]
    findings = list(_turned_on(names, sources))
    handle = current_handle() or tracing.configure()
    if not instrumented():
        tracing.instrument()
    findings += bound_too_early(modules, libraries.replaced())
    findings += _disabled_loggers(names, sources)
    findings += _levels(handle)
    findings += _handlers()
    return {
        "settings": _settings(handle),
        "instrumented": instrumented(),
        "instrument_at": [source.at(call.lineno) for source in sources for call in _narrowing(source)],
        "configure_at": [source.at(call.lineno) for source in sources for call in _configuring(source)],
        "findings": [finding.shape() for finding in findings],
    }


def _turned_on(names: Sequence[str], sources: Iterable[Source]) -> Iterator[Finding]:
    first = min((source.at(call.lineno) for source in sources for call in _configuring(source)), default=None)
    modules = ", ".join(names)
    if current_handle() is None:
        yield Finding(
            state="note",
            what=f"importing {modules} configures no tracing; what follows is as if it did so at its end",
            where=first,
            advice="call tracing.configure() and tracing.instrument() above the other imports, "
            "or start the program by `backtrail run` and this with --run",
        )
    elif not instrumented():
        yield Finding(
            state="bad",
            what="tracing.configure() is called and tracing.instrument() is not: "
            "no client, server, thread or queue carries a context",
            where=first,
            advice="call tracing.instrument() right after it",
        )


def _configuring(source: Source) -> Iterator[Any]:
    for call in source.calls("configure"):
        if any(word.arg == "service" for word in call.keywords) or "tracing" in ast.unparse(call.func):
            yield call


def _narrowing(source: Source) -> Iterator[Any]:
    """Calls of `instrument()` that leave something out."""
    return (call for call in source.calls("instrument") if call.args or call.keywords)


def _disabled_loggers(names: Sequence[str], sources: Sequence[Source]) -> Iterator[Finding]:
    tops = {name.partition(".")[0] for name in names}
    disabled = sorted(
        (
            name
            for name, logger in logging.root.manager.loggerDict.items()
            if isinstance(logger, logging.Logger) and logger.disabled
        ),
        key=lambda name: (name.partition(".")[0] not in tops, name),  # the program's own first
    )
    if not disabled:
        return
    where = next((source.at(call.lineno) for source in sources for call in source.calls(*_CONFIGURING)), None)
    shown = ", ".join(disabled[:5]) + (f" and {len(disabled) - 5} more" if len(disabled) > 5 else "")
    yield Finding(
        state="bad",
        what=f"loggers are disabled, and nothing that they are told is recorded: {shown}",
        where=where,
        advice='"disable_existing_loggers": False in what logging is configured with (True is its default)',
    )


def _levels(handle: Handle) -> Iterator[Finding]:
    root = logging.getLogger()
    if root.getEffectiveLevel() > logging.INFO and handle.settings.level is None:
        yield Finding(
            state="note",
            what=f"the root logger's level is {logging.getLevelName(root.level)}: "
            "calls below it are no records, here or anywhere",
            advice="TRACING_LEVEL=INFO records them without a change to what the program prints",
        )


def _handlers() -> Iterator[Finding]:
    """The program's own output, which a person may want to follow by trace id."""
    kept = [handler for handler in logging.getLogger().handlers if not _is_ours(handler)]
    silent = sorted({type(handler).__name__ for handler in kept if not _shows_ids(handler)})
    if silent:
        yield Finding(
            state="note",
            what=f"what the root's handlers print themselves has no trace ids: {', '.join(silent)}",
            advice="tracing.JsonFormatter() as their formatter; the collector has the ids in any case",
        )


def _is_ours(handler: logging.Handler) -> bool:
    return type(handler).__module__.partition(".")[0] == "tracing"


def _shows_ids(handler: logging.Handler) -> bool:
    formatter = handler.formatter
    if formatter is None:
        return False
    return type(formatter).__module__.startswith("tracing.") or "trace_id" in (formatter._fmt or "")


def _settings(handle: Handle) -> dict[str, Any]:
    return {one.name: getattr(handle.settings, one.name) for one in fields(handle.settings)}


def _told(error: BaseException, names: Sequence[str]) -> str:
    text = str(error)
    return f"importing {', '.join(names)}: {type(error).__name__}{': ' if text else ''}{text}"


if __name__ == "__main__":
    main()
