"""What a project installs: the file that says so, and the names in it."""

import re
import tomllib
from collections.abc import Iterator
from typing import Any

from inspection.project import Project

# Files that name what a project needs, the one that is taken first.
_FILES = ("requirements.txt", "uv.lock", "poetry.lock", "pdm.lock", "Pipfile.lock", "pyproject.toml", "Pipfile")
_OTHERS = re.compile(r"requirements[/_.-](prod|production|base|main|app|deploy)\.txt|requirements/requirements\.txt")
_NAME = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)")


def file(project: Project) -> str | None:
    """The file that names the requirements; None if there is none."""
    plain = [name for name in _FILES if project.has(name)]
    others = [name for name in project.files if _OTHERS.fullmatch(name)]
    # An own file of pip's is meant for a server more than what a tool for development writes.
    return next(iter([*plain[:1], *others] if plain[:1] == ["requirements.txt"] else [*others, *plain]), None)


def names(project: Project) -> set[str]:
    """Normalised names of what is required, from every file that the project has."""
    found = set()
    for path in project.files:
        if re.fullmatch(r"(requirements([/_.-][\w.-]+)?\.(txt|in))", path):
            found |= {name for line in project.text(path).splitlines() if (name := _of_line(line))}
    for path in ("uv.lock", "poetry.lock", "pdm.lock"):
        found |= {str(package.get("name", "")) for package in _toml(project, path).get("package", [])}
    found |= set(_of_pyproject(_toml(project, "pyproject.toml")))
    found |= set(_toml(project, "Pipfile").get("packages", {}))
    return {re.sub(r"[-_.]+", "-", name).lower() for name in found if name}


def python(project: Project) -> str | None:
    """The versions of Python that the project asks for, such as >=3.12; None if it does not say."""
    content = _toml(project, "pyproject.toml")
    asked = content.get("project", {}).get("requires-python")
    poetry = content.get("tool", {}).get("poetry", {}).get("dependencies", {}).get("python")
    exact = re.search(r"(\d+\.\d+)", project.text("runtime.txt") or project.text(".python-version"))
    found = asked or (re.sub(r"\^(\d+\.\d+).*", r">=\1", str(poetry)) if poetry else None)
    return str(found) if found else (f">={exact[1]}" if exact else None)


def _of_line(line: str) -> str:
    plain = line.partition("#")[0].strip()
    if plain.startswith("-") or "://" in plain.partition("@")[0]:
        return ""
    match = _NAME.match(plain)
    return match[1] if match else ""


def _of_pyproject(content: dict[str, Any]) -> Iterator[str]:
    project = content.get("project", {})
    groups = project.get("optional-dependencies", {})
    for line in [*project.get("dependencies", []), *(line for group in groups.values() for line in group)]:
        yield _of_line(str(line))
    yield from content.get("tool", {}).get("poetry", {}).get("dependencies", {})


def _toml(project: Project, path: str) -> dict[str, Any]:
    try:
        return tomllib.loads(project.text(path))
    except (tomllib.TOMLDecodeError, RecursionError):
        return {}
