"""Files and folders that a project writes beside its code, and that must outlive a release."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass

from inspection.paths import Paths, sqlite_file
from inspection.project import Project, constant, dotted, keyword

# Settings of Flask's extensions and of Django that name a folder of uploads or other files.
_FOLDERS = ("UPLOAD_FOLDER", "UPLOADS_DEFAULT_DEST", "UPLOADED_FILES_DEST", "MEDIA_FOLDER", "FILE_UPLOAD_PATH")
_LOG_HANDLERS = ("FileHandler", "RotatingFileHandler", "TimedRotatingFileHandler", "WatchedFileHandler")


@dataclass(frozen=True)
class Written:
    """A path that is written, and where the code says so. what: for a message."""

    path: str
    what: str
    place: str


def written(project: Project) -> list[Written]:
    """What the project writes, each path once."""
    found: dict[str, Written] = {}
    for path, tree in project.trees():
        if "migrations" in path.split("/"):
            continue
        for item, what, line in _of_module(project, path, tree):
            if item and not item.endswith(".py"):
                found.setdefault(item, Written(item, what, f"{path}:{line}"))
    # A folder that persists has its files with it.
    return [item for item in found.values() if not any(item.path.startswith(f"{other}/") for other in found)]


def _of_module(project: Project, path: str, tree: ast.Module) -> Iterator[tuple[str | None, str, int]]:
    paths = Paths(project, path, tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr == "instance_path":
            yield paths.read(node), "Flask's instance folder", node.lineno
        elif isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                key = constant(target.slice) if isinstance(target, ast.Subscript) else dotted(target)
                yield from _setting(paths, key.rpartition(".")[2], node.value, node.lineno)
        elif isinstance(node, ast.Dict):
            for name, value in zip(node.keys, node.values, strict=True):
                yield from _setting(paths, constant(name), value, value.lineno)
            yield from _django_database(paths, node)
        elif isinstance(node, ast.Call):
            for item in node.keywords:
                yield from _setting(paths, item.arg or "", item.value, node.lineno)
            yield from _call(paths, node)


def _setting(paths: Paths, key: str, value: ast.expr, line: int) -> Iterator[tuple[str | None, str, int]]:
    if key in _FOLDERS:
        yield paths.read(value), f"the folder of uploads, {key}", line
    elif key == "MEDIA_ROOT":
        yield paths.read(value), "Django's uploads, MEDIA_ROOT", line
    elif key == "SQLALCHEMY_DATABASE_URI" and (file := sqlite_file(value, paths)):
        # Flask-SQLAlchemy puts a relative file into the instance folder.
        yield "instance" if file[1] else file[0], f"the SQLite database {file[0]}", line
    elif "SQLALCHEMY" not in key and (file := sqlite_file(value, paths)):
        yield file[0], "an SQLite database", line


def _django_database(paths: Paths, node: ast.Dict) -> Iterator[tuple[str | None, str, int]]:
    values = {constant(name): value for name, value in zip(node.keys, node.values, strict=True)}
    if constant(values.get("ENGINE")).endswith("sqlite3") and "NAME" in values:
        yield paths.read(values["NAME"]), "Django's SQLite database", node.lineno


def _call(paths: Paths, node: ast.Call) -> Iterator[tuple[str | None, str, int]]:
    name = dotted(node.func, paths.names)
    first = node.args[0] if node.args else None
    if name in ("sqlite3.connect", "aiosqlite.connect") and constant(first) != ":memory:":
        yield paths.read(first), "an SQLite database", node.lineno
    elif name.rpartition(".")[2] in ("create_engine", "create_async_engine") and first is not None:
        file = sqlite_file(first, paths)
        yield file and file[0], "an SQLite database", node.lineno
    elif name.rpartition(".")[2] in _LOG_HANDLERS:
        file_name = paths.read(first or keyword(node, "filename"))
        yield file_name and (file_name.rpartition("/")[0] or file_name), "log files", node.lineno


def media(project: Project) -> dict[str, str]:
    """URL path → folder of Django's uploads, which nginx has to serve, since Django does not without DEBUG."""
    for path, tree in project.trees():
        paths = Paths(project, path, tree)
        url, root = constant(paths.values.get("MEDIA_URL")), paths.read(paths.values.get("MEDIA_ROOT"))
        if url and root and "://" not in url:
            return {f"/{url.strip('/')}/": root}
    return {}


def static_root(project: Project) -> dict[str, str]:
    """URL path → folder where Django's collectstatic puts static files; empty without one."""
    for path, tree in project.trees():
        paths = Paths(project, path, tree)
        url, root = constant(paths.values.get("STATIC_URL")), paths.read(paths.values.get("STATIC_ROOT"))
        if root:
            return {f"/{(url or 'static').strip('/')}/": root} if "://" not in url else {}
    return {}
