"""The files of a project, and its modules as syntax trees."""

import ast
import os
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path, PurePosixPath

# Folders that hold no code of the project.
_SKIPPED = {"node_modules", "site-packages", "venv", "env", "dist", "build", "__pycache__", "htmlcov"}
# A folder with one of these is a virtual environment, or a project of its own.
_OWN = ("pyvenv.cfg", "manage.py", "requirements.txt", "pyproject.toml")
# Parts of a path that belong to a project's tests or documents, whose modules are no entry.
_BESIDE = {"tests", "test", "testing", "docs", "doc", "examples", "example", "conftest.py", "setup.py", "noxfile.py"}
_MAX_FILES = 20_000
_MAX_BYTES = 2**20


class Project:
    """A folder with a web project. Paths are relative to the folder, with slashes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._trees: dict[str, ast.Module | None] = {}

    @cached_property
    def files(self) -> tuple[str, ...]:
        """All files, the shallowest first, without virtual environments, caches, hidden folders, other projects."""
        found: list[str] = []
        for path, folders, names in os.walk(self.folder):
            here = Path(path)
            folders[:] = sorted(
                name
                for name in folders
                if name not in _SKIPPED
                and not name.startswith(".")
                and not any((here / name / file).exists() for file in _OWN)
            )
            found += [(here / name).relative_to(self.folder).as_posix() for name in names]
            if len(found) > _MAX_FILES:
                break
        return tuple(sorted(found, key=lambda name: (name.count("/"), name)))

    def has(self, path: str) -> bool:
        return (self.folder / path).exists()

    def text(self, path: str) -> str:
        """The text of a file; empty for a missing, a large or an unreadable file."""
        file = self.folder / path
        try:
            content = file.read_bytes() if file.is_file() and file.stat().st_size <= _MAX_BYTES else b""
        except OSError:
            return ""
        # PowerShell writes UTF-16 with a byte order mark.
        encoding = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
        return content.decode(encoding, errors="replace")

    @cached_property
    def python(self) -> tuple[str, ...]:
        """The modules of the project itself."""
        return tuple(
            name
            for name in self.files
            if name.endswith(".py")
            and not _BESIDE & set(name.split("/"))
            and not name.rpartition("/")[2].startswith("test_")
        )

    def tree(self, path: str) -> ast.Module | None:
        """The syntax tree of a module; None if this Python cannot read it."""
        if path not in self._trees:
            try:
                self._trees[path] = ast.parse(self.text(path))
            except (SyntaxError, ValueError, RecursionError, MemoryError):
                self._trees[path] = None
        return self._trees[path]

    def trees(self) -> Iterator[tuple[str, ast.Module]]:
        """Each module of the project that can be read, and its tree."""
        for path in self.python:
            tree = self.tree(path)
            if tree is not None:
                yield path, tree

    @cached_property
    def import_folder(self) -> str:
        """Folder that modules are imported from: "src" for that layout, else "" for the project's folder."""
        at_top = any("/" not in name for name in self.python) or any(
            name.count("/") == 1 and not name.startswith("src/") and name.endswith("/__init__.py")
            for name in self.python
        )
        return "src" if not at_top and any(name.startswith("src/") for name in self.python) else ""

    def module(self, path: str) -> str:
        """Name by which a module is imported."""
        parts = PurePosixPath(path).with_suffix("").parts
        if self.import_folder and parts[0] == self.import_folder:
            parts = parts[1:]
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    def path_of(self, module: str) -> str | None:
        """Path of a module of the project; None for any other module."""
        name = "/".join(filter(None, [self.import_folder, *module.split(".")]))
        return next((path for path in (f"{name}/__init__.py", f"{name}.py") if (self.folder / path).is_file()), None)


def imports(tree: ast.Module, module: str, is_package: bool) -> dict[str, str]:
    """Name in a module → full name of what it was imported from."""
    found: dict[str, str] = {}
    package = module.split(".") if is_package else module.split(".")[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                found[alias.asname or alias.name.split(".")[0]] = (
                    alias.name if alias.asname else alias.name.split(".")[0]
                )
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                found[alias.asname or alias.name] = f"{origin}.{alias.name}" if origin else alias.name
    return found


def dotted(node: ast.AST | None, names: dict[str, str] | None = None) -> str:
    """`flask.Flask` for such an expression, "" for any other. names: what imports() found, to have the full name."""
    if isinstance(node, ast.Name):
        return (names or {}).get(node.id, node.id)
    if isinstance(node, ast.Attribute):
        before = dotted(node.value, names)
        return f"{before}.{node.attr}" if before else ""
    return ""


def assigned(body: list[ast.stmt]) -> Iterator[tuple[str, ast.expr, int]]:
    """(name, value, line) of each plain assignment of a body, also inside its if and try."""
    for node in body:
        if isinstance(node, ast.Assign):
            for target in node.targets:
                if name := dotted(target):
                    yield name, node.value, node.lineno
        elif isinstance(node, ast.AnnAssign) and node.value is not None and dotted(node.target):
            yield dotted(node.target), node.value, node.lineno
        elif isinstance(node, ast.If) and "__main__" not in ast.dump(node.test):
            yield from assigned(node.body)
            yield from assigned(node.orelse)
        elif isinstance(node, ast.Try | ast.With):
            yield from assigned(node.body)


def constant(node: ast.AST | None) -> str:
    """The text of a constant, "" for anything else."""
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def keyword(call: ast.Call, name: str) -> ast.expr | None:
    """The value of a keyword of a call."""
    return next((item.value for item in call.keywords if item.arg == name), None)
