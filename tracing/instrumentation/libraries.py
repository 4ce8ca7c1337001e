"""Libraries, each instrumented when it is imported.

Turning an instrumentation on imports its library, and a program that uses one of ten that are installed
should not pay for the other nine. So those that are imported already are turned on now, and the others
when they are.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final

from tracing.handoff.patch import Handoff, Patches, Replaced
from tracing.health import Fuse
from tracing.instrumentation.imports import after_import, forget
from tracing.instrumentation.table import Entry
from tracing.sink import slot

# The names that the diagnosis and this project's documents use; without it the instrumentations write
# those of 2021 (http.method, http.status_code).
_SEMCONV_VARIABLE: Final = "OTEL_SEMCONV_STABILITY_OPT_IN"
_SEMCONV_WANTED: Final = "http,database"

# Packages that many distributions put their own parts into.
_EMPTY_PARENTS: Final = frozenset({"opentelemetry", "google"})

fuse: Final = Fuse("instrumentation of libraries")


def available(entry: Entry) -> bool:
    """Whether a library, and OpenTelemetry's instrumentation where that is used, are there and wanted."""
    if entry.setting and not getattr(slot, entry.setting):
        return False
    return installed(entry.library) and (entry.patches is not None or installed(entry.module))


class Libraries:
    """What is on, with the way to take it off, and what waits for its library."""

    def __init__(self) -> None:
        self._wanted: set[Entry] = set()
        self._off: dict[Entry, list[Callable[[], Any]]] = {}
        self._patches: dict[Entry, Sequence[Handoff]] = {}

    @property
    def wanted(self) -> list[str]:
        """Names of what is on, or will be with the import of its library."""
        return list(dict.fromkeys(entry.name for entry in self._wanted))

    def turn_on(self, entry: Entry) -> None:
        """Instrument a library, now or when it is imported."""
        if entry not in self._wanted:
            self._wanted.add(entry)
            after_import(entry.library, lambda: self._begin(entry))

    def replaced(self) -> list[tuple[str, Replaced]]:
        """Names in modules that mean something else now, each with the name that `instrument()` knows."""
        found = [
            (entry.name, name)
            for entry, patches in self._patches.items()
            for name in Patches(*patches).replaced()
        ]
        for entry in self._off:
            if entry.patches is None:  # OpenTelemetry's, which wraps by wrapt
                names = vars(sys.modules[entry.library]).items()
                found += [
                    (entry.name, Replaced(entry.library, name, value.__wrapped__, value))
                    for name, value in names
                    if type(value).__name__ == "FunctionWrapper"
                ]
        return list(dict.fromkeys(found))

    def turn_off(self) -> None:
        """Take everything off again."""
        forget()
        self._wanted.clear()
        self._patches.clear()
        off, self._off = self._off, {}
        for steps in off.values():
            for step in steps:
                try:
                    step()
                except Exception as error:
                    fuse.failed(error)

    def _begin(self, entry: Entry) -> None:
        if fuse.blown or _is_on_elsewhere(entry):
            return
        steps = self._off[entry] = []
        try:
            patches = self._patches[entry] = entry.patches() if entry.patches is not None else ()
            for patch in patches:
                patch.install()
                steps.append(patch.remove)
            for name in entry.classes if entry.patches is None else ():
                with _new_names():
                    instrumentor = _instrumentor(entry, name)
                    instrumentor.instrument(skip_dep_check=True)
                    steps.append(instrumentor.uninstrument)
        except Exception as error:
            fuse.failed(error)


def _instrumentor(entry: Entry, name: str) -> Any:
    return getattr(import_module(entry.module), name)()


def _is_on_elsewhere(entry: Entry) -> bool:
    """Whether the program, or `opentelemetry-instrument`, has turned the same instrumentation on."""
    if entry.module not in sys.modules:
        return False
    return any(_instrumentor(entry, name).is_instrumented_by_opentelemetry for name in entry.classes)


def installed(module: str) -> bool:
    """Whether a module could be imported, without importing a library of the user's."""
    top = module.partition(".")[0]
    if module in sys.modules or (top in sys.modules and top != "opentelemetry"):
        return True  # `find_spec` refuses packages that put an object of their own there, as kombu does
    try:
        # Below a name, `find_spec` imports the parents: fine for those that are empty.
        return find_spec(module if top in _EMPTY_PARENTS else top) is not None
    except (ImportError, ValueError):
        return False


@contextmanager
def _new_names() -> Iterator[None]:
    """Have the instrumentations read that the new names are wanted, without leaving it in the environment."""
    if _SEMCONV_VARIABLE in os.environ:
        yield
        return
    os.environ[_SEMCONV_VARIABLE] = _SEMCONV_WANTED
    try:
        yield
    finally:
        os.environ.pop(_SEMCONV_VARIABLE, None)


libraries: Final = Libraries()
