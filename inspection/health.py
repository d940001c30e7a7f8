"""A page that answers 2xx without a login, by which a release can be found healthy."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass

from inspection.project import Project, assigned, constant, dotted, imports, keyword

DEFAULT = "/healthz"
_NAMES = ("healthz", "health", "healthcheck", "health_check", "livez", "readyz", "ping", "status", "up", "_health", "")
# What in a view or its decorators may answer something else than 2xx.
_OTHER = ("redirect", "abort", "login", "auth", "permission", "require_post", "httpresponseredirect", "httpexception")


@dataclass(frozen=True)
class Page:
    """A page, and where its view is."""

    url: str
    place: str


def page(project: Project, framework: str) -> Page | None:
    """The likeliest page that answers 2xx to anybody; None if the code shows none."""
    found = list(_django(project) if framework == "Django" else [*_routes(project), *_added(project)])

    def rank(item: Page) -> tuple[int, int, str]:
        last = item.url.strip("/").rpartition("/")[2]
        is_deep = item.url.count("/") > 2
        return _NAMES.index(last) if last in _NAMES else len(_NAMES), is_deep * 1 + item.url.count("/"), item.url

    return min(found, key=rank, default=None)


def _answers(view: ast.AST) -> bool:
    """Whether nothing in a view says that it may redirect, refuse or ask for a login."""
    names = {
        name.lower()
        for part in _parts_of_get(view)
        for name in (getattr(part, "id", ""), getattr(part, "attr", ""))
        if isinstance(part, ast.Name | ast.Attribute)
    }
    return not any(word in name for name in names for word in _OTHER)


def _parts_of_get(view: ast.AST) -> Iterator[ast.AST]:
    """Yield the parts of a view without those that only a request with a form runs."""
    for part in ast.iter_child_nodes(view):
        if isinstance(part, ast.If) and _is_of_form(part.test):
            for other in part.orelse:
                yield other
                yield from _parts_of_get(other)
        else:
            yield part
            yield from _parts_of_get(part)


def _is_of_form(test: ast.expr) -> bool:
    """Tell whether a condition is request.method == "POST", or that a form was sent."""
    if isinstance(test, ast.Compare) and isinstance(test.left, ast.Attribute) and test.left.attr == "method":
        return isinstance(test.ops[0], ast.Eq) and constant(test.comparators[0]) == "POST"
    return (
        isinstance(test, ast.Call) and isinstance(test.func, ast.Attribute) and test.func.attr == "validate_on_submit"
    )


def _routes(project: Project) -> Iterator[Page]:
    """Pages of Flask's, FastAPI's and their relatives' decorators."""
    prefixes = _prefixes(project)
    for path, tree in project.trees():
        names = imports(tree, project.module(path), path.endswith("__init__.py"))
        for view in ast.walk(tree):
            if not isinstance(view, ast.FunctionDef | ast.AsyncFunctionDef) or not _answers(view):
                continue
            for call in view.decorator_list:
                if not isinstance(call, ast.Call) or not _is_route(call.func, names):
                    continue
                url = constant(call.args[0] if call.args else keyword(call, "rule") or keyword(call, "path"))
                if not _is_plain(url) or not _takes_get(call):
                    continue
                owner = dotted(call.func).rpartition(".")[0].rpartition(".")[2]
                yield Page(prefixes.get(owner, "") + url or "/", f"{path}:{view.lineno}")


def _added(project: Project) -> Iterator[Page]:
    """Pages that a call adds: add_route() of Falcon, add_url_rule() of Flask, and the one page of a Dash."""
    for path, tree in project.trees():
        names = imports(tree, project.module(path), path.endswith("__init__.py"))
        views: dict[str, ast.AST] = {}
        for node in tree.body:
            if isinstance(node, ast.ClassDef):
                for part in node.body:
                    if getattr(part, "name", "") == "on_get":
                        views[node.name] = part
            elif isinstance(node, ast.FunctionDef):
                views[node.name] = node
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            if dotted(call.func, names) == "dash.Dash" and not _prefixed(call):
                yield Page("/", f"{path}:{call.lineno}")
            if not dotted(call.func).endswith((".add_route", ".add_url_rule")) or not call.args or not _takes_get(call):
                continue
            url = constant(call.args[0])
            target = keyword(call, "view_func") or call.args[-1]
            view = views.get(dotted(target.func if isinstance(target, ast.Call) else target))
            if _is_plain(url) and view is not None and _answers(view):
                yield Page(url, f"{path}:{call.lineno}")


def _prefixed(call: ast.Call) -> bool:
    return any(keyword(call, name) for name in ("url_base_pathname", "routes_pathname_prefix", "server"))


def _is_route(decorator: ast.expr, names: dict[str, str]) -> bool:
    """Tell whether it is such as @app.route or @bp.get; Bottle has them as plain functions, too."""
    if isinstance(decorator, ast.Attribute):
        return decorator.attr in ("route", "get")
    return dotted(decorator, names) in ("bottle.route", "bottle.get")


def _takes_get(call: ast.Call) -> bool:
    methods = keyword(call, "methods") or keyword(call, "method")
    if constant(methods):
        return constant(methods).upper() == "GET"
    return methods is None or "GET" in {constant(item).upper() for item in getattr(methods, "elts", [])}


def _is_plain(url: str) -> bool:
    return url.startswith("/") and not set("<{*: ") & set(url)


def _prefixes(project: Project) -> dict[str, str]:
    """Variable of a blueprint or a router → the prefix of its pages."""
    found: dict[str, str] = {}
    for _, tree in project.trees():
        for name, value, _ in assigned(tree.body):
            if isinstance(value, ast.Call) and dotted(value.func).rpartition(".")[2] in ("Blueprint", "APIRouter"):
                prefix = constant(keyword(value, "url_prefix") or keyword(value, "prefix"))
                found[name] = found.get(name) or prefix.rstrip("/")
    for _, tree in project.trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and dotted(node.func).endswith((".register_blueprint", ".include_router")):
                prefix = constant(keyword(node, "url_prefix") or keyword(node, "prefix"))
                if prefix and node.args:
                    found[dotted(node.args[0]).rpartition(".")[2]] = prefix.rstrip("/")
    return found


def _django(project: Project) -> Iterator[Page]:
    views = {
        view.name: (f"{path}:{view.lineno}", view)
        for path, tree in project.trees()
        for view in tree.body
        if isinstance(view, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    for _, tree in project.trees():
        for name, value, _ in assigned(tree.body):
            if name == "ROOT_URLCONF" and constant(value):
                yield from _patterns(project, constant(value), "/", views, 0)
                return


def _patterns(
    project: Project,
    module: str,
    prefix: str,
    views: dict[str, tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]],
    depth: int,
) -> Iterator[Page]:
    """Pages of a module's urlpatterns, and of those that it includes."""
    path = project.path_of(module)
    tree = project.tree(path) if path else None
    if path is None or tree is None or depth > 5:
        return
    names = imports(tree, module, path.endswith("__init__.py"))
    for call in ast.walk(tree):
        if not isinstance(call, ast.Call) or dotted(call.func) != "path" or len(call.args) < 2:
            continue
        route, view = call.args[:2]
        url = prefix + constant(route)
        if not isinstance(route, ast.Constant) or set("<{") & set(url):
            continue
        if isinstance(view, ast.Call) and dotted(view.func).rpartition(".")[2] == "include" and view.args:
            included = constant(view.args[0]) or dotted(view.args[0], names)
            yield from _patterns(project, included, url, views, depth + 1)
        elif dotted(view, names) == "django.contrib.admin.site.urls":
            yield Page(f"{url}login/", f"{path}:{call.lineno}")
        elif (found := views.get(dotted(view).rpartition(".")[2])) and _answers(found[1]):
            yield Page(url, found[0])
