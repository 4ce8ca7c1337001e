"""OpenTelemetry's instrumentations, each turned on when the library that it is for is imported.

Turning one on imports its library, and a program that uses one of ten that are installed should not pay
for the other nine. So those that are imported already are turned on now, and the others by an import hook
(PEP 369, as wrapt has it; every instrumentation of OpenTelemetry's depends on wrapt).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final

from tracing.health import Fuse
from tracing.instrument.table import Entry

# The names that the diagnosis and this project's documents use; without it the instrumentations write
# those of 2021 (http.method, http.status_code).
_SEMCONV_VARIABLE: Final = "OTEL_SEMCONV_STABILITY_OPT_IN"
_SEMCONV_WANTED: Final = "http,database"

fuse: Final = Fuse("instrumentation of libraries")


class Contrib:
    """The instrumentations that are on, and those that wait for their library."""

    def __init__(self) -> None:
        self._wanted: set[str] = set()
        self._hooked: set[str] = set()
        self._on: dict[str, list[Any]] = {}

    @staticmethod
    def available(entry: Entry) -> bool:
        """Whether the library and its instrumentation are both installed; imports neither."""
        return _installed(entry.library) and _installed(entry.module)

    def turn_on(self, entry: Entry) -> None:
        """Instrument a library, now or when it is imported."""
        self._wanted.add(entry.name)
        if entry.name not in self._hooked:
            self._hooked.add(entry.name)
            _after_import(entry.library, lambda _module: self._begin(entry))
        elif entry.library in sys.modules:
            self._begin(entry)

    def turn_off(self) -> bool:
        """Take every instrumentation off again; say whether any was wanted. The import hooks stay, idle."""
        wanted = bool(self._wanted)
        self._wanted.clear()
        for instrumentors in self._on.values():
            for instrumentor in instrumentors:
                try:
                    instrumentor.uninstrument()
                except Exception as error:
                    fuse.failed(error)
        self._on.clear()
        return wanted

    def _begin(self, entry: Entry) -> None:
        if entry.name not in self._wanted or entry.name in self._on or fuse.blown:
            return
        begun = self._on[entry.name] = []
        for name in entry.classes:
            try:
                with _new_names():
                    instrumentor = getattr(import_module(entry.module), name)()
                    if not instrumentor.is_instrumented_by_opentelemetry:  # else it is somebody else's
                        instrumentor.instrument(skip_dep_check=True)
                        begun.append(instrumentor)
            except Exception as error:
                fuse.failed(error)


def _installed(module: str) -> bool:
    if module in sys.modules:
        return True
    try:
        return find_spec(module.partition(".")[0]) is not None and _found_without_import(module)
    except (ImportError, ValueError):
        return False


def _found_without_import(module: str) -> bool:
    """`find_spec` of a submodule imports its parents: fine for namespaces, not for the user's libraries."""
    if not module.startswith("opentelemetry."):
        return True
    return find_spec(module) is not None


def _after_import(module: str, hook: Callable[[Any], None]) -> None:
    from wrapt import register_post_import_hook

    register_post_import_hook(hook, module)


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


contrib: Final = Contrib()
