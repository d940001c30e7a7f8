"""A Django project's settings, read without importing them: literals, and paths built from `__file__`."""

import ast
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

# Settings files that import all of another one, at most so many levels deep.
_DEPTH = 4


def settings_files(name: str, roots: Sequence[Path]) -> list[Path]:
    """The file of a settings module and the files that it imports everything from, the farthest file first.

    name: such as shop.settings. roots: folders that modules are imported from.
    """
    return _with_bases(_file(name, roots), roots, _DEPTH)


def settings_module(tree: ast.AST) -> str | None:
    """The text that a module gives DJANGO_SETTINGS_MODULE, as Django's own wsgi.py does."""
    for node in ast.walk(tree):
        texts = [part.value for part in ast.iter_child_nodes(node) if isinstance(part, ast.Constant)]
        if isinstance(node, ast.Call) and texts[:1] == ["DJANGO_SETTINGS_MODULE"]:
            return next((text for text in texts[1:2] if isinstance(text, str)), None)
    return None


def read(files: Sequence[Path], names: Sequence[str]) -> dict[str, str | Path]:
    """Name → its value, for those of `names` whose value is a text or a path that can be read without an import."""
    known: dict[str, str | Path] = {}
    for file in files:
        tree = parsed(file)
        for node in tree.body if tree else ():
            if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                value = _value(node.value, {**known, "__file__": file})
                for target in targets:
                    if isinstance(target, ast.Name):
                        # A value that cannot be read hides an earlier one.
                        known.pop(target.id, None)
                        known.update({} if value is None else {target.id: value})
    return {name: known[name] for name in names if name in known}


def parsed(path: Path) -> ast.Module | None:
    """A file's syntax tree; None for a file that this Python cannot read."""
    try:
        return ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _file(name: str, roots: Sequence[Path]) -> Path | None:
    path = name.replace(".", "/")
    found = (root / end for root in roots for end in (f"{path}/__init__.py", f"{path}.py"))
    return next((file for file in found if file.is_file()), None)


def _with_bases(file: Path | None, roots: Sequence[Path], depth: int) -> list[Path]:
    tree = parsed(file) if file and depth else None
    if file is None or tree is None:
        return []
    bases = [base for name, base_roots in _starred(file, tree, roots) for base in [_file(name, base_roots)]]
    return [path for base in bases for path in _with_bases(base, roots, depth - 1)] + [file]


def _starred(file: Path, tree: ast.Module, roots: Sequence[Path]) -> Iterator[tuple[str, Sequence[Path]]]:
    """The modules of each `from … import *`, and the folders in which they are looked for."""
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module and any(alias.name == "*" for alias in node.names):
            yield node.module, [file.parents[node.level - 1]] if 0 < node.level <= len(file.parents) else roots


def _value(node: ast.expr, known: Mapping[str, str | Path]) -> str | Path | None:
    """The value of an expression of literals, paths, `/`, os.path's functions and known names; None for any other."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.Name(id=name):
            return known.get(name)
        case ast.BinOp(op=ast.Div(), left=left, right=right):
            folder, end = _value(left, known), _value(right, known)
            return folder / end if isinstance(folder, Path) and end is not None else None
        case ast.Attribute(value=inner, attr="parent"):
            path = _value(inner, known)
            return path.parent if isinstance(path, Path) else None
        case ast.Subscript(value=ast.Attribute(value=inner, attr="parents"), slice=ast.Constant(value=int(index))):
            path = _value(inner, known)
            return path.parents[index] if isinstance(path, Path) and 0 <= index < len(path.parents) else None
        case ast.Call(func=function, args=arguments):
            return _called(function, arguments, known)
    return None


def _called(function: ast.expr, arguments: list[ast.expr], known: Mapping[str, str | Path]) -> str | Path | None:
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    if isinstance(function, ast.Attribute) and name in ("resolve", "absolute") and not arguments:
        return _value(function.value, known)
    values = [_value(argument, known) for argument in arguments]
    first, *others = [value for value in values if value is not None] or [""]
    if not values or None in values:
        return None
    if name == "joinpath" and isinstance(function, ast.Attribute):
        folder = _value(function.value, known)
        return folder.joinpath(first, *others) if isinstance(folder, Path) else None
    if name in ("str", "abspath", "realpath", "fspath", "normpath") and not others:
        # A path stays one, whatever the program writes it as, because it is only compared and joined here.
        return first
    if name == "dirname" and not others:
        return Path(first).parent
    return Path(os.path.normpath(Path(first, *others))) if name in ("Path", "join") else None
