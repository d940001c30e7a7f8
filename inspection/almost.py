"""Projects that only almost have an application that a server can load, and what its owner has to add."""

import ast

from inspection.entry import makes
from inspection.project import Project, dotted, imports

# These bring a server of their own and have no WSGI or ASGI application: module → name.
_OWN_SERVERS = {"streamlit": "Streamlit", "tornado": "Tornado", "aiohttp.web": "aiohttp", "gradio": "Gradio"}


def almost(project: Project) -> str:
    """Say in one line what is missing and what to add; "" if nothing in the code is close to an application."""
    for path, tree in project.trees():
        names = imports(tree, project.module(path), path.endswith("__init__.py"))
        for found in (_attribute(tree, names), _implicit(tree, names), _guarded(tree, names), _asking(tree, names)):
            if found:
                line, what = found
                return f"{path}:{line}: {what}"
    for path, tree in project.trees():
        for name in sorted(set(imports(tree, project.module(path), False).values())):
            for module, shown in _OWN_SERVERS.items():
                if f"{name}.".startswith(f"{module}."):
                    return f"{path}: {shown} has a server of its own, and only WSGI and ASGI applications are served"
    return ""


def _attribute(tree: ast.Module, names: dict[str, str]) -> tuple[int, str] | None:
    """A Dash, whose attribute `server` is the WSGI application."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
            name = dotted(node.targets[0])
            if dotted(node.value.func, names) in ("dash.Dash", "dash.dash.Dash") and name.isidentifier():
                return node.lineno, f"a server loads the Flask of a Dash; add the line server = {name}.server below it"
    return None


def _implicit(tree: ast.Module, names: dict[str, str]) -> tuple[int, str] | None:
    """Routes of Bottle's default application, which has no name in the module."""
    for node in tree.body:
        for decorator in getattr(node, "decorator_list", []):
            called = decorator.func if isinstance(decorator, ast.Call) else decorator
            if dotted(called, names) in ("bottle.route", "bottle.get"):
                return (
                    node.lineno,
                    "Bottle's default application has no name here; add the lines import bottle and "
                    "application = bottle.default_app() at the end of the file, not below if __name__",
                )
    return None


def _guarded(tree: ast.Module, names: dict[str, str]) -> tuple[int, str] | None:
    """An application that only `python file.py` makes."""
    for node in tree.body:
        if isinstance(node, ast.If) and "__main__" in ast.dump(node.test):
            for part in ast.walk(node):
                if made := makes(part, names):
                    line = getattr(part, "lineno", node.lineno)
                    return (
                        line,
                        f'{made} is made below if __name__ == "__main__", which a server does not run; move it out',
                    )
    return None


def _asking(tree: ast.Module, names: dict[str, str]) -> tuple[int, str] | None:
    """A factory that cannot be called without arguments."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and any(makes(part, names) for part in ast.walk(node)):
            count = len(node.args.args) - len(node.args.defaults)
            arguments = ", ".join(argument.arg for argument in node.args.args[: max(count, 0)])
            if arguments:
                return (
                    node.lineno,
                    f"{node.name}() needs {arguments}, which a server does not give; add a module wsgi.py that calls "
                    f"it, such as app = {node.name}(…), or give the arguments defaults",
                )
    return None
