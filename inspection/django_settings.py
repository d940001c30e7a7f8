"""Find what Django's settings, as startproject writes them, lack for a server."""

import ast
from collections.abc import Iterator

from inspection.project import Project, assigned, constant

_LOCAL = {"localhost", ".localhost", "127.0.0.1", "[::1]", "::1", "0.0.0.0", "[::]", "testserver"}  # noqa: S104


def left(project: Project) -> Iterator[tuple[str, str]]:
    """Yield (setting, what to do about it). A setting that any file of the project computes is left alone."""
    root, place = _values(project, "STATIC_ROOT"), _settings_file(project)
    if not root and place and "django.contrib.staticfiles" in project.text(place):
        yield (
            "STATIC_ROOT",
            f"{place} has none, so pages such as Django's admin have no styles: "
            'add STATIC_ROOT = BASE_DIR / "staticfiles" and ask doctor again',
        )
    hosts = _values(project, "ALLOWED_HOSTS")
    if hosts and all(_is_local(value) for value, _ in hosts):
        yield (
            "ALLOWED_HOSTS",
            f"{hosts[0][1]} allows no domain: add the one of site.server_name, or the address that up prints",
        )
    debug = _values(project, "DEBUG")
    if debug and all(isinstance(value, ast.Constant) and value.value is True for value, _ in debug):
        yield (
            "DEBUG",
            f"{debug[0][1]} is always True, so errors show code and settings to everybody: "
            'DEBUG = os.environ.get("DEBUG") == "1"',
        )
    keys = _values(project, "SECRET_KEY")
    if keys and all(constant(value).startswith("django-insecure-") for value, _ in keys):
        yield (
            "SECRET_KEY",
            f'{keys[0][1]} is the one of a laptop: SECRET_KEY = os.environ["SECRET_KEY"], and ask doctor again',
        )


def _settings_file(project: Project) -> str:
    return next(
        (path for path, tree in project.trees() if "ROOT_URLCONF" in {name for name, _, _ in assigned(tree.body)}), ""
    )


def _values(project: Project, setting: str) -> list[tuple[ast.expr, str]]:
    """(value, place) of each assignment of a Django setting in the project; one below an `if` counts as computed."""
    return [
        (value if any(line == node.lineno for node in tree.body) else ast.Name("computed"), f"{path}:{line}")
        for path, tree in project.trees()
        for name, value, line in assigned(tree.body)
        if name == setting
    ]


def _is_local(value: ast.expr) -> bool:
    return isinstance(value, ast.List | ast.Tuple) and all(constant(item) in _LOCAL for item in value.elts)
