"""The structure that ARCHITECTURE.md states, held against the code."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
PACKAGES = ("tracing", "collector")
VOCABULARY = {"semconv", "errors", "line", "redact"}  # all that the collector's rooms use of the library
LINES_MAX = 500


def rooms(page: str, package: str) -> list[str]:
    """The rooms of a package in their order, `.py` and `/` cut off."""
    block = re.search(rf"```rooms {package}\n(.*?)```", page, re.DOTALL)
    assert block, f"ARCHITECTURE.md lists no rooms of {package}"
    names = [line.split()[0] for line in block.group(1).splitlines() if line.strip()]
    return [name.removesuffix(".py").rstrip("/") for name in names]


def is_exempt(package: str, room: str) -> bool:
    """Rooms that may import from everywhere."""
    if room in ("__init__", "__main__", "testing"):
        return True
    return package == "collector" and (room == "demo" or room.split("_")[0] == "cli")


def imported(path: Path) -> Iterator[str]:
    """Every module that a file imports of our two packages, by its dotted name."""
    package = path.relative_to(REPOSITORY).with_suffix("").parts
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level]) + "." if node.level else ""
            module = f"{base}{node.module or ''}".rstrip(".")
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def violations(root: Path, package: str, order: list[str]) -> list[str]:
    """Imports that point the wrong way, one line each."""
    found = []
    for path in sorted((root / package).rglob("*.py")):
        room = path.relative_to(root / package).parts[0].removesuffix(".py")
        if is_exempt(package, room):
            continue
        where = path.relative_to(root)
        for name in sorted(set(imported(path))):
            parts = name.split(".")
            if parts[0] not in PACKAGES:
                continue
            if parts[0] != package:
                if package == "tracing":
                    found.append(f"{where}: the library imports the collector ({name})")
                elif len(parts) > 1 and parts[1] not in VOCABULARY and room not in ("service",):
                    found.append(f"{where}: only the library's vocabulary may be used here, not {name}")
                continue
            if len(parts) < 2 or parts[1] not in order or room not in order:
                continue
            if order.index(parts[1]) > order.index(room):
                found.append(f"{where}: imports {name} from a room below")
    return found


@pytest.mark.parametrize("package", PACKAGES)
def test_every_room_is_listed_and_every_listed_room_is_there(package: str) -> None:
    """ARCHITECTURE.md names exactly the modules that exist."""
    listed = rooms((REPOSITORY / "ARCHITECTURE.md").read_text(), package)
    there = {
        entry.name.removesuffix(".py")
        for entry in (REPOSITORY / package).iterdir()
        if entry.suffix == ".py" or (entry.is_dir() and any(entry.glob("*.py")))
    }
    there = {room for room in there if not is_exempt(package, room)}
    assert sorted(there) == sorted(listed)


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_point_one_way(package: str) -> None:
    """A module imports only from rooms above its own."""
    order = rooms((REPOSITORY / "ARCHITECTURE.md").read_text(), package)
    assert violations(REPOSITORY, package, order) == []


def test_the_check_sees_an_import_that_points_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rule above bites: one planted import of each forbidden sort is found."""
    monkeypatch.setattr(f"{__name__}.REPOSITORY", tmp_path)
    for name, text in {
        "tracing/line.py": "from tracing import runtime\nimport collector.model\n",
        "tracing/runtime.py": "from tracing.line import encode\n",
        "collector/model.py": "def f():\n    from collector.api import answers\n",
        "collector/wal/log.py": "from tracing.spool import Spool\nfrom tracing.line import encode\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    library = violations(tmp_path, "tracing", ["line", "runtime"])
    service = violations(tmp_path, "collector", ["model", "wal", "api"])
    assert len([line for line in library if "room below" in line]) == 1
    assert len([line for line in library if "imports the collector" in line]) == 1
    assert any("collector/model.py" in line and "room below" in line for line in service)
    assert any("collector/wal/log.py" in line and "vocabulary" in line for line in service)


def product_files() -> list[Path]:
    """Every Python file of the product."""
    return [path for package in PACKAGES for path in sorted((REPOSITORY / package).rglob("*.py"))]


def test_no_file_is_longer_than_one_reads_at_a_sitting() -> None:
    """A file that grows past the bound hides a second idea."""
    long = {
        str(p.relative_to(REPOSITORY)): n
        for p in product_files()
        if (n := len(p.read_text().splitlines())) > LINES_MAX
    }
    assert long == {}


def test_nothing_unfinished_is_left() -> None:
    """Marks of unfinished work do not stay in the product."""
    marks = re.compile(r"\b(TODO|FIXME|XXX|NotImplementedError)\b")
    found = [
        f"{path.relative_to(REPOSITORY)}:{number}"
        for path in product_files()
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if marks.search(line)
    ]
    assert found == []


def test_every_public_name_says_what_it_is() -> None:
    """Modules, and the public classes and functions in them, have docstrings."""
    silent = []
    for path in product_files():
        tree = ast.parse(path.read_text())
        where = path.relative_to(REPOSITORY)
        if tree.body and ast.get_docstring(tree) is None:
            silent.append(str(where))
        for node in tree.body:
            if (
                isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
                and node.name[0] != "_"
            ):
                if ast.get_docstring(node) is None:
                    silent.append(f"{where}:{node.lineno} {node.name}")
                if isinstance(node, ast.ClassDef):
                    silent += [
                        f"{where}:{part.lineno} {node.name}.{part.name}"
                        for part in node.body
                        if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef)
                        and part.name[0] != "_"
                        and ast.get_docstring(part) is None
                    ]
    assert silent == []


def test_committed_files_name_no_machine_and_no_registry() -> None:
    """What is committed works anywhere: no absolute paths of one machine, no registry's address."""
    banned = re.compile(
        r"(?<![\w.])/(?:work|root|farm|home)/[a-z]|pypi\.org|pythonhosted|registry\.npmjs|repo1?\.maven"
    )
    found = []
    for path in sorted(REPOSITORY.rglob("*")):
        parts = path.relative_to(REPOSITORY).parts
        if any(part.startswith(".") and part not in (".ci", ".pre-commit-config.yaml") for part in parts):
            continue
        if (
            not path.is_file()
            or path.suffix in (".zst", ".gz", ".png", ".pyc")
            or path == Path(__file__).resolve()
        ):
            continue
        if "egg-info" in str(path) or parts[0] in ("build", "dist", "bench-results"):
            continue
        text = path.read_text(errors="replace")
        found += [f"{path.relative_to(REPOSITORY)}: {m.group(0)}" for m in banned.finditer(text)]
    assert found == []
