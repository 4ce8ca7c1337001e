"""Something to be done when a module is imported (PEP 369, in the form that today's import system allows)."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any, Final

Hook = Callable[[], None]


def after_import(module: str, hook: Hook) -> None:
    """Call `hook` once `module` is imported: now, if it is. `hook` must not raise."""
    if module in sys.modules:
        hook()
        return
    _finder.hooks.setdefault(module, []).append(hook)
    if _finder not in sys.meta_path:
        sys.meta_path.insert(0, _finder)


def forget() -> None:
    """Drop every hook that still waits."""
    _finder.hooks.clear()
    if _finder in sys.meta_path:
        sys.meta_path.remove(_finder)


class _Finder(MetaPathFinder):
    """Lets the others find a module, and puts a loader in front of theirs."""

    def __init__(self) -> None:
        self.hooks: dict[str, list[Hook]] = {}
        self._looking_for: set[str] = set()

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The spec that the others find; nothing for modules that nobody waits for."""
        if fullname not in self.hooks or fullname in self._looking_for:
            return None
        self._looking_for.add(fullname)
        try:
            spec = find_spec(fullname)
        finally:
            self._looking_for.discard(fullname)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader, self)
        return spec


class _Loader(Loader):
    """Runs a module by its own loader, gives it back to that, and calls the hooks."""

    def __init__(self, loader: Any, finder: _Finder) -> None:
        self._loader = loader
        self._finder = finder

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """As the module's own loader does."""
        created: ModuleType | None = self._loader.create_module(spec)
        return created

    def exec_module(self, module: ModuleType) -> None:
        """As the module's own loader does, then the hooks."""
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        module.__loader__ = self._loader
        self._loader.exec_module(module)
        for hook in self._finder.hooks.pop(module.__name__, ()):
            hook()


_finder: Final = _Finder()
