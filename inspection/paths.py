"""Paths that a module computes, such as BASE_DIR / "media", as far as they can be read without running it."""

import ast
import posixpath

from inspection.project import Project, assigned, constant, dotted, imports

# Functions and methods that give the path that they are given.
_SAME = {"abspath", "realpath", "normpath", "fspath", "str", "Path", "PurePath", "resolve", "absolute", "expanduser"}


class Paths:
    """The paths of one module, relative to the project's folder; None for what cannot be read or lies outside."""

    def __init__(self, project: Project, path: str, tree: ast.Module) -> None:
        self.project, self.path = project, path
        self.names = imports(tree, project.module(path), path.endswith("__init__.py"))
        self.values = {name: value for name, value, _ in assigned(tree.body)}

    def read(self, node: ast.AST | None, depth: int = 0) -> str | None:
        """The path of an expression, such as `media` or `shop/uploads`; "" is the project's folder."""
        if node is None or depth > 20:
            return None
        found = self._read(node, depth + 1)
        return None if found is None or found.startswith("..") else found

    def _read(self, node: ast.AST, depth: int) -> str | None:
        if text := constant(node):
            # A relative path is one from the folder where the application starts.
            return None if text.startswith(("/", "~")) or ":" in text else _clean(text)
        if isinstance(node, ast.Name):
            if node.id == "__file__":
                return self.path
            return self.read(self.values.get(node.id), depth)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div | ast.Add):
            return self._joined([node.left, node.right], depth)
        if isinstance(node, ast.Attribute):
            return self._attribute(node, depth)
        if isinstance(node, ast.Call):
            return self._called(node, depth)
        if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Attribute) and node.value.attr == "parents":
            below = self.read(node.value.value, depth)
            count = node.slice.value if isinstance(node.slice, ast.Constant) else None
            if below is None or not isinstance(count, int):
                return None
            return _clean("/".join([below, *[".."] * (count + 1)]))
        return None

    def _attribute(self, node: ast.Attribute, depth: int) -> str | None:
        if node.attr == "instance_path":
            return _clean(f"{self.project.import_folder}/instance") if self.project.import_folder else "instance"
        if node.attr == "root_path":
            return posixpath.dirname(self.path)
        if node.attr == "parent":
            below = self.read(node.value, depth)
            return None if below is None else _clean(f"{below}/..")
        return self.read(self.values.get(dotted(node)), depth)

    def _called(self, node: ast.Call, depth: int) -> str | None:
        name = node.func.attr if isinstance(node.func, ast.Attribute) else dotted(node.func)
        owner = node.func.value if isinstance(node.func, ast.Attribute) else None
        if name in ("join", "joinpath"):
            is_method = name == "joinpath" and owner is not None
            return self._joined([*([owner] if is_method and owner else []), *node.args], depth)
        if name in ("dirname", "parent"):
            below = self.read(node.args[0], depth) if node.args else None
            return None if below is None else _clean(f"{below}/..")
        if name in _SAME:
            if len(node.args) > 1:
                return self._joined(list(node.args), depth)
            return self.read(node.args[0] if node.args else owner, depth)
        if dotted(node.func, self.names) in ("os.environ.get", "os.getenv") and len(node.args) == 2:
            if constant(node.args[0]) in ("DATA_DIR", "HOME"):
                # The server sets them to a folder that outlives releases.
                return None
            return self.read(node.args[1], depth)
        return None

    def _joined(self, parts: list[ast.expr], depth: int) -> str | None:
        found = [constant(part) if constant(part) == ".." else self.read(part, depth) for part in parts]
        if any(part is None for part in found):
            return None
        return _clean("/".join(part for part in found if part))


def sqlite_file(node: ast.AST, paths: Paths) -> tuple[str, bool] | None:
    """(the file of a URL such as sqlite:///app.db, whether its path is a relative one); None for anything else."""
    text, below = constant(node), None
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        text, below = constant(node.left), node.right
    elif isinstance(node, ast.JoinedStr) and len(node.values) == 2 and isinstance(node.values[1], ast.FormattedValue):
        text, below = constant(node.values[0]), node.values[1].value
    elif isinstance(node, ast.Call) and dotted(node.func) in ("os.environ.get", "os.getenv") and len(node.args) == 2:
        return sqlite_file(node.args[1], paths)
    elif isinstance(node, ast.BoolOp):
        return next((found for value in node.values if (found := sqlite_file(value, paths))), None)
    if not text.startswith("sqlite:///"):
        return None
    rest = text.removeprefix("sqlite:///")
    if below is not None:
        file = paths.read(below)
        return (file, False) if file and not rest else None
    return (_clean(rest), True) if rest and not rest.startswith(("/", ":")) else None


def _clean(path: str) -> str:
    found = posixpath.normpath(path).removeprefix("./")
    return "" if found == "." else found
