"""Where the dependencies of a site come from: a requirements file, a lock file, or the project itself."""

import tomllib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from schema.base import SettingsError
from settings.locks import READERS, Dependencies, UnreadableLockError, requirements
from settings.site import SiteSettings
from settings.stack import StackSettings

# In place of requirements.txt, in this order. A project without a lock file is installed as pip does it.
_PROJECT = ("pyproject.toml", "setup.py")
FOUND = (*READERS, *_PROJECT)


def resolve(stack: StackSettings, folder: Path, file: str) -> tuple[StackSettings, list[str]]:
    """Find what the sites without a requirements file have. folder: the project's. file: the stack's.

    Returns the settings, in which app.requirements is the file that was found, and a note for each.
    Raises SettingsError.
    """
    sites, found, notes = [], {}, []
    for site in stack.sites:
        name = _name(site, folder / site.app.source)
        if name is None:
            sites.append(site)
            continue
        key = f"{stack.key_of(site)}app.requirements"
        own = read(folder / site.app.source / name, f"{file}: {key}")
        found[site.site.name] = own
        sites.append(site.model_copy(update={"app": site.app.model_copy(update={"requirements": name})}))
        count = sum(not line.startswith(" ") for line in own.text.splitlines())
        what = "installed as a project" if name in _PROJECT else f"{count} packages"
        notes.append(f"{key}: the dependencies of {site.app.source} come from {name} ({what})")
    return replace(stack, sites=tuple(sites), dependencies=found), notes


def _name(site: SiteSettings, source: Path) -> str | None:
    """The file in place of a requirements file, None where there is one or nothing at all."""
    name = site.app.requirements
    if Path(name).name in FOUND:
        return name if (source / name).is_file() else None
    if "requirements" in site.app.model_fields_set or (source / name).is_file():
        return None
    return next((name for name in FOUND if (source / name).is_file()), None)


def read(path: Path, shown: str) -> Dependencies:
    """What a lock file or a project needs. Raises SettingsError. shown: the key, as a message begins."""
    project = _pyproject(path.parent, shown)
    if path.name in _PROJECT:
        table = project.get("project")
        lines = table.get("dependencies") if isinstance(table, dict) else None
        if path.name == "pyproject.toml" and "build-system" not in project and isinstance(lines, list):
            # uv calls it a virtual project: it has dependencies, and is no package.
            return Dependencies(path.name, "".join(f"{line}\n" for line in lines), False)
        return Dependencies(path.name, ".\n", False)
    try:
        return Dependencies(path.name, requirements(path), _is_package(project))
    except UnreadableLockError as error:
        allowed = f"requirements.txt, or {', '.join(FOUND)}"
        raise SettingsError(f"{shown}: {path.name}: {error}; allowed: {allowed}") from None


def _is_package(project: Mapping[str, object]) -> bool:
    tools = project.get("tool")
    tools = tools if isinstance(tools, dict) else {}
    return (
        "build-system" in project
        and tools.get("poetry", {}).get("package-mode", True) is not False
        and tools.get("uv", {}).get("package", True) is not False
        and tools.get("pdm", {}).get("distribution", True) is not False
    )


def _pyproject(folder: Path, shown: str) -> dict[str, object]:
    path = folder / "pyproject.toml"
    try:
        return tomllib.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except ValueError as error:
        raise SettingsError(f"{shown}: pyproject.toml: {' '.join(str(error).split())}; allowed: TOML") from None
