"""Lock files of projects → pinned requirements with hashes, without the groups for development.

The formats: uv.lock, poetry.lock, pdm.lock, Pipfile.lock and pylock.toml (PEP 751).
"""

import heapq
import itertools
import json
import shutil
import subprocess
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Seconds for a tool that exports its own lock file.
_SECONDS = 60
# Combinations of markers under which one package is needed; they can grow as the power of the packages above it.
_MOST_MARKERS = 64


@dataclass(frozen=True)
class Dependencies:
    """What pip installs in place of a requirements file. file: which says so. text: requirements.

    has_project: whether the application is a project that is installed after them.
    """

    file: str
    text: str
    has_project: bool


class UnreadableLockError(Exception):
    """A lock file that this module does not read, and why."""


Table = Mapping[str, Any]


def requirements(path: Path) -> str:
    """Requirements of a lock file, a line each. Raises UnreadableLockError."""
    read, command = READERS[path.name]
    try:
        return _text(read(path))
    except UnreadableLockError as error:
        if not command or shutil.which(command[0]) is None:
            then = f"; run {' '.join(command)} > requirements.txt in its folder" if command else ""
            raise UnreadableLockError(f"{error}{then}") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UnreadableLockError(f"it cannot be read ({type(error).__name__})") from None
    return _exported(command, path.parent)


def _exported(command: tuple[str, ...], folder: Path) -> str:
    """What the lock's own tool prints. Raises UnreadableLockError."""
    shown = " ".join(command)
    then = f"run {shown} > requirements.txt in its folder"
    try:
        done = subprocess.run(
            command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8", timeout=_SECONDS
        )
    except subprocess.TimeoutExpired:
        raise UnreadableLockError(f"{shown} takes longer than {_SECONDS} seconds; {then}") from None
    except OSError as error:
        raise UnreadableLockError(f"{shown} cannot start: {error.strerror}; {then}") from None
    except UnicodeDecodeError:
        raise UnreadableLockError(f"{shown} prints what is not UTF-8; {then}") from None
    if done.returncode:
        raise UnreadableLockError(f"{shown} fails: {' '.join(done.stderr.split())[-200:]}")
    return done.stdout


Line = tuple[str, list[str]]


def _text(lines: Iterator[Line]) -> str:
    found = sorted(lines)
    # pip wants a hash for each requirement or for none, and what comes from git has no hash.
    has_hashes = all(hashes for _, hashes in found)
    rows = [
        " \\\n    ".join([line, *(f"--hash={value}" for value in dict.fromkeys(hashes))]) if has_hashes else line
        for line, hashes in found
    ]
    return "".join(f"{row}\n" for row in rows)


def _toml(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return tomllib.load(file)


def _line(name: str, version: str, marker: str = "", extras: str = "") -> str:
    where = f" ; {marker}" if marker else ""
    return f"{name}{extras}=={version}{where}"


def _uv(path: Path) -> Iterator[Line]:
    """https://docs.astral.sh/uv/concepts/projects/layout/#the-lockfile"""
    packages: list[Table] = _toml(path)["package"]
    roots = [one for one in packages if one["source"].get("virtual", one["source"].get("editable")) == "."]
    if len(roots) != 1:
        raise UnreadableLockError("it is the lock of a workspace")
    # A package and the extras that are wanted of it → the sets of markers under each of which something needs them.
    needs: dict[tuple[int, tuple[str, ...]], list[frozenset[str]]] = {}
    # Few markers come first, because more of them say nothing new where fewer suffice.
    waiting = [(0, number, item, frozenset[str]()) for number, item in enumerate(roots[0].get("dependencies", ()))]
    numbers = itertools.count(len(waiting))
    while waiting:
        _, _, item, before = heapq.heappop(waiting)
        extras, marker = tuple(item.get("extra", ())), before | ({item["marker"]} if "marker" in item else set())
        for index, package in enumerate(packages):
            known = needs.setdefault((index, extras), [])
            is_named = package["name"] == item["name"] and item.get("version") in (None, package.get("version"))
            if not is_named or any(fewer <= marker for fewer in known):
                continue
            known.append(marker)
            if len(known) > _MOST_MARKERS:
                raise UnreadableLockError(f"it needs {package['name']} under too many combinations of markers")
            below = [*package.get("dependencies", ())]
            for extra in extras:
                below += package.get("optional-dependencies", {}).get(extra, ())
            for other in below:
                heapq.heappush(waiting, (len(marker), next(numbers), other, marker))
    for index, package in enumerate(packages):
        sets = {marker for (own, _), found in needs.items() if own == index for marker in found}
        fewest = [marker for marker in sets if not any(fewer < marker for fewer in sets)]
        if fewest:
            whole = " or ".join(sorted(" and ".join(f"({one})" for one in sorted(parts)) for parts in fewest))
            yield _uv_line(package, "" if fewest == [frozenset()] else whole)


def _uv_line(package: Table, marker: str) -> Line:
    source, name, where = package["source"], package["name"], f" ; {marker}" if marker else ""
    if "git" in source:
        url, _, commit = source["git"].partition("#")
        return f"{name} @ git+{url.partition('?')[0]}@{commit}{where}", []
    if "registry" not in source and "url" not in source:
        return f"./{source.get('directory') or source.get('editable') or source.get('path')}{where}", []
    files = [*package.get("wheels", ()), *([package["sdist"]] if "sdist" in package else ())]
    hashes = [file["hash"] for file in files if "hash" in file]
    if "url" in source:
        return f"{name} @ {source['url']}{where}", hashes
    return _line(name, package["version"], marker), hashes


def _poetry(path: Path) -> Iterator[Line]:
    """https://github.com/python-poetry/poetry-core; since version 2.1 of the format each package names its groups."""
    lock = _toml(path)
    packages: list[Table] = lock.get("package", [])
    if packages and not any("groups" in package for package in packages):
        raise UnreadableLockError(
            f"its format {lock['metadata'].get('lock-version')} does not say what is for development"
        )
    for package in packages:
        if "main" not in package["groups"] or package.get("optional"):
            continue
        marker = package.get("markers", "")
        # A table has a marker for each group.
        marker = marker.get("main", "") if isinstance(marker, dict) else marker
        where = f" ; {marker}" if marker else ""
        source = package.get("source", {})
        if source.get("type") == "git":
            commit = source.get("resolved_reference") or source.get("reference")
            yield f"{package['name']} @ git+{source['url']}@{commit}{where}", []
        elif source.get("type") in ("directory", "file"):
            yield f"./{source['url']}{where}", []
        elif source.get("type") == "url":
            yield f"{package['name']} @ {source['url']}{where}", []
        else:
            hashes = [file["hash"] for file in package.get("files", ())]
            yield _line(package["name"], package["version"], marker), hashes


def _pdm(path: Path) -> Iterator[Line]:
    """https://pdm-project.org/latest/usage/lockfile/"""
    lock = _toml(path)
    if "inherit_metadata" not in lock["metadata"].get("strategy", ()):
        raise UnreadableLockError("it was made without the strategy inherit_metadata")
    for package in lock.get("package", ()):
        # A package with extras stands there once more without them.
        if "default" not in package.get("groups", ()) or package.get("extras"):
            continue
        marker = package.get("marker", "")
        where = f" ; {marker}" if marker else ""
        if "git" in package:
            yield f"{package['name']} @ git+{package['git']}@{package['revision']}{where}", []
        elif "path" in package:
            yield f"{package['path']}{where}", []
        else:
            yield (
                _line(package["name"], package["version"], marker),
                [file["hash"] for file in package.get("files", ())],
            )


def _pipenv(path: Path) -> Iterator[Line]:
    """https://pipenv.pypa.io/en/latest/pipfile.html"""
    for name, package in json.loads(path.read_text(encoding="utf-8"))["default"].items():
        extras = f"[{','.join(package['extras'])}]" if package.get("extras") else ""
        where = f" ; {package['markers']}" if package.get("markers") else ""
        if "git" in package:
            yield f"{name}{extras} @ git+{package['git']}@{package['ref']}{where}", []
        elif "path" in package or "file" in package:
            yield f"{package.get('path') or package['file']}{extras}{where}", []
        else:
            yield f"{name}{extras}{package['version']}{where}", list(package.get("hashes", ()))


def _pylock(path: Path) -> Iterator[Line]:
    """https://packaging.python.org/en/latest/specifications/pylock-toml/"""
    for package in _toml(path)["packages"]:
        marker, name = package.get("marker", ""), package["name"]
        if "dependency_groups" in marker or "extras" in marker:
            continue
        where = f" ; {marker}" if marker else ""
        if "vcs" in package:
            vcs = package["vcs"]
            yield f"{name} @ {vcs['type']}+{vcs['url']}@{vcs['commit-id']}{where}", []
        elif "directory" in package:
            if package["directory"]["path"] not in (".", "./"):
                yield f"./{package['directory']['path']}{where}", []
        else:
            files = [*package.get("wheels", ()), *(package[key] for key in ("sdist", "archive") if key in package)]
            hashes = [f"{kind}:{value}" for file in files for kind, value in file["hashes"].items()]
            if "archive" in package:
                yield f"{name} @ {package['archive']['url']}{where}", hashes
            else:
                yield _line(name, package["version"], marker), hashes


# Name of a lock file, the most certain first → what reads it, and the command of its own tool that exports it.
READERS: dict[str, tuple[Callable[[Path], Iterator[Line]], tuple[str, ...]]] = {
    "pylock.toml": (_pylock, ()),
    "uv.lock": (_uv, ("uv", "export", "--frozen", "--no-dev", "--no-emit-project", "--quiet")),
    "poetry.lock": (_poetry, ("poetry", "export", "--only=main")),
    "pdm.lock": (_pdm, ("pdm", "export", "--prod")),
    "Pipfile.lock": (_pipenv, ("pipenv", "requirements", "--hash")),
}
