"""What a program took before `instrument()` replaced it: names of modules, and what was made of them.

A method is looked up with each call, so it does not matter when its class was imported. A function, or a
class that is written in C, can only be replaced where it is found: `from grpc import insecure_channel` before
`instrument()` keeps the original for ever.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from tracing.doctor.findings import Finding
from tracing.doctor.sources import Source
from tracing.handoff.patch import Replaced

MODULES_MAX: Final = 5_000  # of the program; a larger one is looked at as far as that

# What is lost only in a special case that a program may well never have.
_ONLY_WHEN: Final = {("asyncio", "wait_for"): "a queue's get() that is waited for with it"}


def own_modules(names: Sequence[str]) -> list[ModuleType]:
    """The modules of the program: those that were named, and what lies in the same directory trees.

    Args:
        names: of modules that are imported.
    """
    roots = set()
    for name in names:
        top = sys.modules[name.partition(".")[0]]
        path = getattr(top, "__file__", None) or next(iter(getattr(top, "__path__", ())), None)
        if path is not None:
            roots.add(Path(path).resolve().parent)
    found = [module for module in list(sys.modules.values()) if _is_below(module, roots)]
    return list(dict.fromkeys([*(sys.modules[name] for name in names), *found]))[:MODULES_MAX]


def _is_below(module: ModuleType, roots: Iterable[Path]) -> bool:
    file = getattr(module, "__file__", None)
    if file is None:
        return False
    path = Path(file).resolve()
    is_installed = any(part in ("site-packages", "dist-packages") for part in path.parts)
    return not is_installed and any(path.is_relative_to(root) for root in roots)


def bound_too_early(modules: Iterable[ModuleType], replaced: Sequence[tuple[str, Replaced]]) -> list[Finding]:
    """What of the program does not go through our replacements, each with its line.

    Args:
        replaced: with the name by which `instrument()` knows each.
    """
    originals: dict[int, tuple[str, Replaced]] = {}
    for name, one in replaced:
        originals.setdefault(id(one.original), (name, one))  # by the shortest way to it, which comes first
    kinds = [(name, one) for name, one in replaced if isinstance(one.original, type)]
    found = []
    for module in modules:
        source = Source(module)
        for name, value in list(vars(module).items()):
            if id(value) in originals:
                found.append(_taken(source, name, *originals[id(value)]))
            elif (made := _made_before(value, kinds)) is not None:
                found.append(_made(source, name, *made))
            elif type(value).__module__ == "grpc._channel" and type(value).__name__ == "Channel":
                found.append(_made(source, name, "grpc", None))
    return [finding for finding in found if finding is not None]


def _made_before(value: Any, kinds: Iterable[tuple[str, Replaced]]) -> tuple[str, Replaced] | None:
    """What a class is derived from, or an object made of, when it is one of the originals."""
    bases = value.__mro__ if isinstance(value, type) else type(value).__mro__
    for name, one in kinds:
        if one.original in bases and one.ours not in bases:
            return name, one
    return None


def _taken(source: Source, name: str, by: str, one: Replaced) -> Finding | None:
    bound = source.binding(name)
    if bound is None:
        return None  # it came by other ways than a statement of this file
    line, text = bound
    only = _ONLY_WHEN.get((one.module, one.name))
    return Finding(
        state="note" if only else "bad",
        what=f"`{text}` has taken {one.module}.{one.name} before instrument() replaced it: "
        f"{only or 'what goes through it'} carries no context ({by})",
        where=source.at(line),
        advice=f"call tracing.configure() and tracing.instrument() above that line, or use it as "
        f"`{one.module}.{one.name}`, or start the program by `backtrail run`",
    )


def _made(source: Source, name: str, by: str, one: Replaced | None) -> Finding | None:
    bound = source.binding(name)
    if bound is None:
        return None
    line, text = bound
    what = (
        f"the original {one.module}.{one.name}" if one is not None else "a gRPC channel without interceptors"
    )
    verb = "is derived from" if text.startswith("class ") else "is"
    return Finding(
        state="bad",
        what=f"`{_shortened(text)}` {verb} {what}, made before instrument(): "
        f"what goes through it carries no context ({by})",
        where=source.at(line),
        advice="call tracing.configure() and tracing.instrument() above that line, or make it later",
    )


def _shortened(text: str, chars_max: int = 70) -> str:
    return text if len(text) <= chars_max else f"{text[:chars_max]}…"
