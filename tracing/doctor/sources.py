"""Where in a program's files something is said: by its syntax, without running it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType


class Source:
    """One module's file, parsed.

    Args:
        module: its file is read; one that cannot be has no lines.
    """

    def __init__(self, module: ModuleType) -> None:
        self.path = Path(module.__file__ or "?")
        try:
            self._tree = ast.parse(self.path.read_bytes())
        except (OSError, SyntaxError, ValueError):
            self._tree = ast.Module(body=[], type_ignores=[])

    def binding(self, name: str) -> tuple[int, str] | None:
        """The line on which a global is bound, and how it reads: an import, an assignment or a class."""
        for node in ast.walk(self._tree):
            if name in _bound(node) and isinstance(node, ast.stmt):
                return node.lineno, ast.unparse(node).splitlines()[0]
        return None

    def calls(self, *names: str) -> Iterator[ast.Call]:
        """Calls of functions, by the last part of their names."""
        for node in ast.walk(self._tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in names:
                yield node

    def at(self, line: int) -> str:
        """`file:line`, short where the file is below the working directory."""
        path = self.path.resolve()
        here = Path.cwd()
        return f"{path.relative_to(here) if path.is_relative_to(here) else path}:{line}"


def _bound(node: ast.AST) -> list[str]:
    if isinstance(node, ast.ImportFrom | ast.Import):
        return [alias.asname or alias.name for alias in node.names]
    if isinstance(node, ast.Assign):
        return [target.id for target in node.targets if isinstance(target, ast.Name)]
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        return [node.target.id]
    if isinstance(node, ast.ClassDef):
        return [node.name]
    return []
