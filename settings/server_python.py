"""Whether an application fits the Python of its server, as far as its files say.

What is certain is refused: syntax in the files that an import of the entry reaches, requires-python of the project, and
Requires-Python of the pins that the package index knows. What may be right all the same is a warning.
"""

import ast
import configparser
import sys
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from os import walk
from pathlib import Path

from packaging.specifiers import InvalidSpecifier, SpecifierSet

from contract.requirements import decode
from kinds.systems import SYSTEMS
from schema.base import SettingsError, printable
from settings import files, package_index, requirements
from settings.server import INDEX
from settings.site import SiteSettings
from settings.stack import StackSettings

Version = tuple[int, int]

# Futures that came after Python 3.6, which a feature_version does not check.
_FUTURES = {"annotations": (3, 7)}
# Folders below app.source whose files are no part of the application.
_ASIDE = {"node_modules", "__pycache__", "tests", "test", "docs"}
# The highest patch version that a requirement is compared with.
_PATCHES = 40
_WARNINGS = 3
_NEWER = "code for that Python, a server.os with a newer one, or python.install: source"
_FITTING = "a server.os or a python.version that fits"


@dataclass(frozen=True)
class Misfit:
    """What does not fit. where: file and line. what: the reason. then: what the user may do."""

    where: str
    what: str
    then: str


def check(stack: StackSettings, system_name: str, folder: Path, file: str) -> list[str]:
    """Refuse applications that cannot run on the server's Python. Returns warnings.

    system_name: of the operating system that the stack names, whatever a rehearsal boots. folder: the project's. file:
    the stack's, for the message. Raises SettingsError.
    """
    warnings = list[str]()
    mirrors = stack.server.mirrors.index or (INDEX,)
    for site in stack.sites:
        source = folder / site.app.source
        key = f"{file}: {stack.key_of(site)}"
        system = site.python.on(SYSTEMS[system_name])
        owner = "the site" if site.python.is_built else system.name
        shown = f"{owner} has Python {_text(system.python_version)}"
        found = [*_syntax(site, folder, file, system.python_version), *declared(source, system.python_version)]
        found += _pins(stack, site, source, system.python_version)
        for misfit in found[:1]:
            raise SettingsError(f"{key}app.source: {misfit.where}: {misfit.what}, and {shown}; allowed: {misfit.then}")
        others = _other_files(source, set(_reached(site, folder, file)), system.python_version)
        for misfit in islice(others, _WARNINGS):
            warnings.append(f"{stack.key_of(site)}app.source: {misfit.where}: {misfit.what}, and {shown}")
    if host := package_index.unanswered(mirrors):
        seconds = f"within {package_index.FIRST} s"
        warnings.append(
            f"app.requirements: {host} has not answered {seconds}, so no pin was checked for the server's Python"
        )
    return warnings


def syntax_error(data: bytes, version: Version) -> tuple[int, str, str] | None:
    """Line, reason and remedy of syntax that a Python of this version does not read, None for a file that it may read.

    The check is as good as the Python that runs it: syntax that is newer than this Python is an error only if the
    server's Python is not newer, too.
    """
    try:
        tree = ast.parse(data, feature_version=version)
    except SyntaxError as error:
        if version > sys.version_info[:2]:
            return None
        try:
            ast.parse(data)
        except SyntaxError as slip:
            return slip.lineno or 1, f"syntax error ({slip.msg})", "code that this Python reads"
        return error.lineno or 1, f"no Python of that version reads it ({error.msg})", _NEWER
    except (ValueError, RecursionError, MemoryError):
        return None
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module == "__future__":
            for alias in node.names:
                needed = _FUTURES.get(alias.name, (0, 0))
                if needed > version:
                    return node.lineno, f"from __future__ import {alias.name} needs Python {_text(needed)}", _NEWER
    return None


def declared(source: Path, version: Version) -> Iterator[Misfit]:
    """Yield what pyproject.toml and setup.cfg of the application require of Python and do not get."""
    for name, read in (("pyproject.toml", _of_pyproject), ("setup.cfg", _of_setup)):
        path = source / name
        try:
            required = read(decode(path.read_bytes())) if path.is_file() else {}
        except (OSError, ValueError, configparser.Error):
            continue
        for key, specifier in required.items():
            if admits(specifier, version) is False:
                then = f"another {key}, or {_FITTING}"
                yield Misfit(name, f"{key} is {printable(specifier)}", then)


def admits(specifier: str, version: Version) -> bool | None:
    """Whether some patch version of this Python fits; None for what is no specifier of versions."""
    try:
        wanted = SpecifierSet(specifier)
    except InvalidSpecifier:
        return None
    return any(wanted.contains(f"{_text(version)}.{patch}") for patch in range(_PATCHES))


def _of_pyproject(text: str) -> Mapping[str, str]:
    found = tomllib.loads(text).get("project", {})
    value = found.get("requires-python") if isinstance(found, dict) else None
    return {"requires-python": value} if isinstance(value, str) else {}


def _of_setup(text: str) -> Mapping[str, str]:
    parser = configparser.RawConfigParser()
    parser.read_string(text)
    value = parser.get("options", "python_requires", fallback=None)
    return {"python_requires": value} if value else {}


def _syntax(site: SiteSettings, folder: Path, file: str, version: Version) -> Iterator[Misfit]:
    source = folder / site.app.source
    for path in _reached(site, folder, file):
        yield from _misfit(path, source, version)


def _misfit(path: Path, source: Path, version: Version) -> Iterator[Misfit]:
    error = syntax_error(path.read_bytes(), version)
    if error:
        line, reason, then = error
        where = f"{printable(path.relative_to(source).as_posix())}:{line}"
        yield Misfit(where, reason, then)


def _other_files(source: Path, reached: set[Path], version: Version) -> Iterator[Misfit]:
    """Yield files that nothing imports for certain, and that this Python would not read."""
    for here, folders, names in walk(source):
        folders[:] = sorted(
            name
            for name in folders
            if name not in _ASIDE and not name.startswith(".") and not (Path(here) / name / "pyvenv.cfg").exists()
        )
        for path in (Path(here) / name for name in sorted(names) if name.endswith(".py")):
            if path not in reached and path.is_file():
                yield from _misfit(path, source, version)


def _reached(site: SiteSettings, folder: Path, file: str) -> list[Path]:
    """The files that an import of the site's entry reads for certain: imports at the top level of a module."""
    source = folder / site.app.source
    named = files.loaded(site, folder, file)
    first = (named.get("app.wsgi_file") or named.get("app.module") or ())[:1]
    roots = [source, *(source / path for path in site.app_server.import_folders)]
    found: dict[Path, None] = {}
    waiting = [source / name for name in first]
    while waiting:
        path = waiting.pop()
        if path not in found:
            found[path] = None
            waiting += _imported(path, roots)
    return list(found)


def _imported(path: Path, roots: list[Path]) -> Iterator[Path]:
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return
    for node in tree.body:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _files_of(alias.name, roots)
        elif isinstance(node, ast.ImportFrom):
            bases, module = roots, node.module or ""
            if node.level:
                bases = [path.parents[node.level - 1]]
            yield from _files_of(module, bases)
            for alias in node.names:
                yield from _files_of(f"{module}.{alias.name}".lstrip("."), bases)


def _files_of(module: str, roots: list[Path]) -> Iterator[Path]:
    """Yield the files of a module and of the packages that it is in, where the application has them."""
    parts = module.split(".") if module else []
    for root in roots:
        ends = [root.joinpath(*parts[:length]) for length in range(1, len(parts) + 1)]
        modules = [path for end in ends for path in (end / "__init__.py", end.with_suffix(".py")) if path.is_file()]
        if modules:
            yield from modules
            return


def _pins(stack: StackSettings, site: SiteSettings, source: Path, version: Version) -> Iterator[Misfit]:
    """Yield the pins of which no file is for this Python, as the package index says."""
    name = site.app.requirements
    if not (source / name).is_file():
        return
    # What a private index says is known to the server only, and its packages' names are nobody else's to know.
    if site.app.pip.has_indexes:
        return
    # A lock file was made for the Python that the project asks for.
    if site.site.name in stack.dependencies:
        return
    pins = requirements.installed(source / name, source, name).pins
    here = {"python_version": _text(version), "python_full_version": f"{_text(version)}.0", "sys_platform": "linux"}
    pins = tuple(pin for pin in pins if pin.marker is None or pin.marker.evaluate(here))
    mirrors = stack.server.mirrors.index or (INDEX,)
    known = package_index.required_pythons([(pin.name, pin.version) for pin in pins], mirrors)
    for pin in pins:
        specifiers = known.get((pin.name, pin.version), [])
        if specifiers and all(specifier and admits(specifier, version) is False for specifier in specifiers):
            reason = f"{pin.name}=={pin.version} needs Python {printable(specifiers[0])}"
            yield Misfit(pin.where, reason, f"another version of {pin.name}, or {_FITTING}")


def _text(version: Version) -> str:
    return ".".join(map(str, version))
