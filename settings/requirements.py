"""Requirements files, read as pip reads them, as far as they can be judged without an index.

https://pip.pypa.io/en/stable/reference/requirements-file-format/
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from packaging.markers import Marker
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from contract.requirements import decode
from schema.base import SettingsError

_ALLOWED = "allowed: what pip reads, such as Flask==3.1.3"
_ENCODINGS = (
    "allowed: UTF-8, UTF-16 with a byte order mark, or a comment such as # -*- coding: gbk -*- in its first line"
)
# A line that names another requirements or constraints file.
_FILE = re.compile(r"(-r|-c|--requirement\b|--constraint\b)[ \t=]*([^\s:$]+)$")
_EDITABLE = re.compile(r"(?:-e|--editable)(?:\s+|=)\s*")
# A line that is fetched, or a file: its name says nothing certain about what it installs.
_FETCHED = re.compile(r"[^\s\[<>=!~;@]*[/\\$]|.*://|\S+\.(whl|zip|tar\.gz)$")
# A folder as pip recognises it: a path that starts with a dot or contains a slash.
_FOLDER = re.compile(r"(\.[^\s\[;@]*|[^\s\[;@:$]+/[^\s\[;@:$]*)\s*(\[[^\]]*\])?\s*(;.*)?$")
PROJECT_FILES = ("pyproject.toml", "setup.py", "setup.cfg")


@dataclass(frozen=True)
class Pin:
    """A distribution at one version. where: file and line. marker: of the machines that install it, None for all."""

    where: str
    name: str
    version: str
    marker: Marker | None


@dataclass(frozen=True)
class Installed:
    """What requirements install, as far as their text says.

    folders: of the application, whose projects pip installs. names: canonical names of distributions. is_open: whether
    a line is fetched, so that it may install any module. pins: the lines of one exact version.
    """

    folders: tuple[Path, ...] = ()
    names: frozenset[str] = frozenset()
    is_open: bool = False
    pins: tuple[Pin, ...] = ()

    def may_have(self, module: str) -> bool:
        """Whether a module may be part of what is installed: its name is part of a distribution's name."""
        parts = canonicalize_name(module.split(".")[0]).split("-")
        named = any(
            parts == words[start : start + len(parts)]
            for words in (name.split("-") for name in self.names)
            for start in range(len(words))
        )
        return named or self.is_open or bool(self.folders)


def installed(path: Path, source: Path, shown: str) -> Installed:
    """Check a requirements file and the files that it names. source: the application's folder, where pip runs.

    shown: the key and the file, as a message begins. Raises SettingsError for lines that pip would refuse.
    """
    folders: dict[Path, None] = {}
    names: set[str] = set()
    is_open, pins = False, list[Pin]()
    for where, text in _lines(path, source, shown, ()):
        text = _EDITABLE.sub("", text)
        if (folder := _FOLDER.match(text)) and (source / folder[1]).is_dir():
            folders[_project(source / folder[1], source, where)] = None
        elif _FETCHED.match(text):
            is_open = True
        elif not text.startswith("-"):
            try:
                found = Requirement(text)
            except InvalidRequirement:
                raise SettingsError(f"{where} is no requirement; {_ALLOWED}") from None
            names.add(canonicalize_name(found.name))
            pins += [Pin(where, found.name, version, found.marker) for version in _exact(found)]
    return Installed(tuple(folders), frozenset(names), is_open, tuple(pins))


def _exact(requirement: Requirement) -> list[str]:
    """The one version that a requirement allows, if it does."""
    specifiers = list(requirement.specifier)
    is_exact = len(specifiers) == 1 and specifiers[0].operator == "==" and not specifiers[0].version.endswith("*")
    return [specifiers[0].version] if is_exact and not requirement.url else []


def _lines(path: Path, source: Path, shown: str, seen: tuple[Path, ...]) -> Iterator[tuple[str, str]]:
    """Yield the place and the text of each line, those of other requirements files included, without its remark."""
    try:
        lines = decode(path.read_bytes()).splitlines()
    except ValueError:
        raise SettingsError(f"{shown} is not text in an encoding that pip reads; {_ENCODINGS}") from None
    first, whole = 1, ""
    for number, line in enumerate(lines, 1):
        whole += line.removesuffix("\\")
        if line.endswith("\\") and number < len(lines):
            continue
        where = f"{shown} line {first}"
        # A requirement's own options, such as --hash, come after it.
        text = re.split(r"\s-", re.sub(r"(^|\s)#.*", "", whole).strip())[0]
        first, whole = number + 1, ""
        if re.match(r"-(\s|-?$)", text):
            raise SettingsError(f"{where} is no option; {_ALLOWED}")
        if more := _FILE.match(text):
            other = (path.parent / more[2].strip("\"'")).resolve()
            if not other.is_file() or not other.is_relative_to(source.resolve()):
                raise SettingsError(f"{where} names no file in app.source; {_ALLOWED}")
            # A constraint installs nothing, but pip reads it, too.
            if other not in (*seen, path.resolve()):
                name = other.relative_to(source.resolve()).as_posix()
                below = _lines(other, source, f"{shown.rpartition(' ')[0]} {name}", (*seen, path.resolve()))
                yield from (line for line in below if more[1] in ("-r", "--requirement"))
        elif text:
            yield where, text


def _project(folder: Path, source: Path, where: str) -> Path:
    if not folder.resolve().is_relative_to(source.resolve()):
        raise SettingsError(f"{where} names a folder outside app.source; allowed: a folder in it, such as .")
    if not any((folder / name).is_file() for name in PROJECT_FILES):
        raise SettingsError(
            f"{where} names a folder that is no Python project; allowed: a folder with {' or '.join(PROJECT_FILES[:2])}"
        )
    return folder
