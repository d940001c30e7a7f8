"""Where a project's application is: its module, and the callable or the factory in it."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from inspection.project import Project, assigned, dotted, imports

Interface = Literal["wsgi", "asgi"]

# Full name of what makes an application → its framework and its interface.
_MAKERS: dict[str, tuple[str, Interface]] = {
    "flask.Flask": ("Flask", "wsgi"),
    "flask.app.Flask": ("Flask", "wsgi"),
    "bottle.Bottle": ("Bottle", "wsgi"),
    "bottle.default_app": ("Bottle", "wsgi"),
    "falcon.App": ("Falcon", "wsgi"),
    "falcon.API": ("Falcon", "wsgi"),
    "falcon.asgi.App": ("Falcon", "asgi"),
    "django.core.wsgi.get_wsgi_application": ("Django", "wsgi"),
    "django.core.asgi.get_asgi_application": ("Django", "asgi"),
    "apiflask.APIFlask": ("APIFlask", "wsgi"),
    "flask_openapi3.OpenAPI": ("Flask", "wsgi"),
    "fastapi.FastAPI": ("FastAPI", "asgi"),
    "starlette.applications.Starlette": ("Starlette", "asgi"),
    "quart.Quart": ("Quart", "asgi"),
    "litestar.Litestar": ("Litestar", "asgi"),
    "sanic.Sanic": ("Sanic", "asgi"),
    "channels.routing.ProtocolTypeRouter": ("Django Channels", "asgi"),
    "a2wsgi.ASGIMiddleware": ("a2wsgi", "wsgi"),
}
_MAKING_METHODS = {"make_wsgi_app": "Pyramid"}
# Modules that usually hold the application, the likeliest first.
_USUAL = ("wsgi", "app", "application", "main", "run", "server", "web", "__init__", "asgi")
_USUAL_CALLABLES = ("application", "app", "create_app", "make_app", "server", "api")


@dataclass(frozen=True)
class Entry:
    """An application. path, line: where it is made. is_factory: `callable` returns it when it is called."""

    framework: str
    interface: Interface
    module: str
    callable: str
    is_factory: bool
    path: str
    line: int

    @property
    def name(self) -> str:
        return f"{self.module}:{self.callable}{'()' if self.is_factory else ''}"

    @property
    def place(self) -> str:
        return f"{self.path}:{self.line}"


def entries(project: Project) -> list[Entry]:
    """All applications that the project makes, the one to serve first."""
    found = [*_instances(project), *(_of_functions := list(_factories(project)))]
    factories = {f"{entry.module}.{entry.callable}": entry for entry in _of_functions}
    found += _made_by(project, factories)
    named = _named(project)

    def rank(entry: Entry) -> tuple[object, ...]:
        stem = entry.path.rpartition("/")[2].removesuffix(".py")
        return (
            named.get(f"{entry.module}:{entry.callable}", named.get(entry.module, 9)),
            # A Django project has a module for each interface; both serve its pages.
            entry.framework == "Django" and entry.interface == "asgi",
            entry.is_factory,
            _USUAL.index(stem) if stem in _USUAL else len(_USUAL),
            entry.path.count("/"),
            _USUAL_CALLABLES.index(entry.callable) if entry.callable in _USUAL_CALLABLES else len(_USUAL_CALLABLES),
            entry.path,
        )

    return sorted(found, key=rank)


def made_in(project: Project, path: str, name: str) -> tuple[str, Interface] | None:
    """Framework and interface of an application or a factory of a module; None if the module does not show them."""
    tree = project.tree(path)
    if tree is None:
        return None
    names = _names(project, path, tree)
    found = None
    for assigned_name, value, _ in assigned(tree.body):
        # The last assignment counts, such as that of middleware around an application.
        found = _made(value, names) if assigned_name == name else found
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            found = next((made for part in ast.walk(node) if (made := _made(part, names))), None)
    return found


def makes(node: ast.AST, names: dict[str, str]) -> str:
    """Framework of an expression that makes an application, "" for any other."""
    made = _made(node, names)
    return made[0] if made else ""


def _names(project: Project, path: str, tree: ast.Module) -> dict[str, str]:
    return imports(tree, project.module(path), path.endswith("__init__.py"))


def _made(node: ast.AST, names: dict[str, str]) -> tuple[str, Interface] | None:
    """Framework and interface of an expression that makes an application."""
    if not isinstance(node, ast.Call):
        return None
    if found := _MAKERS.get(dotted(node.func, names)):
        return found
    method = node.func.attr if isinstance(node.func, ast.Attribute) else ""
    return (_MAKING_METHODS[method], "wsgi") if method in _MAKING_METHODS else None


def _instances(project: Project) -> Iterator[Entry]:
    for path, tree in project.trees():
        names = _names(project, path, tree)
        for name, value, line in assigned(tree.body):
            made = _made(value, names)
            if made and "." not in name:
                yield Entry(*made, project.module(path), name, False, path, line)
            elif isinstance(value, ast.Attribute) and value.attr == "server" and _uses_dash(names):
                yield Entry("Dash", "wsgi", project.module(path), name, False, path, line)
        for node in tree.body:
            if isinstance(node, ast.FunctionDef) and [a.arg for a in node.args.args] == ["environ", "start_response"]:
                yield Entry("WSGI", "wsgi", project.module(path), node.name, False, path, node.lineno)


def _uses_dash(names: dict[str, str]) -> bool:
    return any(name.partition(".")[0] == "dash" for name in names.values())


def _factories(project: Project) -> Iterator[Entry]:
    """Functions without required arguments that make an application and return something."""
    for path, tree in project.trees():
        names = _names(project, path, tree)
        for node in tree.body:
            if not isinstance(node, ast.FunctionDef):
                continue
            required = len(node.args.args) - len(node.args.defaults)
            returns = any(isinstance(part, ast.Return) and part.value is not None for part in ast.walk(node))
            made = next((made for part in ast.walk(node) if (made := _made(part, names))), None)
            if made and returns and not required:
                yield Entry(*made, project.module(path), node.name, True, path, node.lineno)


def _made_by(project: Project, factories: dict[str, Entry]) -> Iterator[Entry]:
    """Assignments of what one of the project's own factories returns."""
    for path, tree in project.trees():
        module = project.module(path)
        names = _names(project, path, tree)
        for name, value, line in assigned(tree.body):
            called = dotted(value.func, names) if isinstance(value, ast.Call) else ""
            factory = factories.get(called) or factories.get(f"{module}.{called}")
            if factory and "." not in name:
                yield Entry(factory.framework, factory.interface, module, name, False, path, line)


def _named(project: Project) -> dict[str, int]:
    """`module:callable` or `module` → rank, of what the project's own files name for a server."""
    found: dict[str, int] = {}
    web = re.search(r"(?m)^web\s*:(.*)$", project.text("Procfile"))
    for match in re.finditer(r"([A-Za-z_][\w.]*):([A-Za-z_]\w*)", web[1] if web else ""):
        found[match[0]] = 0
    flask = re.search(r"(?m)^(?:export )?FLASK_APP\s*=\s*[\"']?([\w./:]+)", project.text(".flaskenv"))
    if flask:
        found.setdefault(flask[1].removesuffix(".py").replace("/", "."), 1)
    return found
