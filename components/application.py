"""Which files of an application's folder go into a release, and which stay behind."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from typing import NoReturn

from schema.base import READABLE, printable
from settings import SiteSettings, StackSettings, refused

# Secrets, histories, caches and editors' files, wherever they lie. `.rehearsal` holds the SSH keys of rehearsals.
EVERYWHERE = (
    ".git", ".hg", ".svn", ".env*", ".venv", "__pycache__", "*.pyc", ".pytest_cache", ".mypy_cache", ".ruff_cache",
    ".hypothesis", ".tox", ".idea", ".vscode", ".DS_Store", "*~", ".*.swp", ".#*", ".rehearsal",
)  # fmt: skip
# Virtual environments by their usual names; elsewhere such a name may be a package.
AT_THE_TOP = ("venv", "virtualenv")
# A virtual environment has one of these files, whatever its name is.
_MARKS = ("pyvenv.cfg", "bin/activate_this.py", "conda-meta/history")
# This program's own files, in the project's folder alone.
_OWN = (".build", "stacks", "Pulumi.*.yaml")
# Everybody knows that bytecode stays behind, so nobody needs to be told.
_BYTECODE = ("__pycache__", "*.pyc")
# Bytes of an application. They are packed in memory, travel over SSH, and are kept on every server, release by release.
LIMIT = 512 * 2**20


@dataclass(frozen=True)
class Application:
    """files: relative path → file. left_out: relative path of what a rule of this module leaves out → its kind."""

    files: dict[str, Path]
    left_out: dict[str, Path]


@dataclass(frozen=True)
class Rules:
    """What stays behind, and what a message begins with.

    exclude: the user's patterns. secret: files of secrets. served: folders that nginx serves. where: what the site's
    keys begin with, such as sites.shop.
    """

    exclude: tuple[str, ...] = ()
    secret: frozenset[Path] = frozenset()
    served: tuple[str, ...] = ()
    where: str = ""

    def why(self, source: Path, relative: Path) -> str | None:
        """Why a path stays behind: `app.exclude's <pattern>` or the name of a rule; None for a path that goes along."""
        path, name = source / relative, relative.name
        for pattern in self.exclude:
            if _matches(relative, pattern):
                return f"app.exclude's {pattern}"
        for pattern in EVERYWHERE + AT_THE_TOP if len(relative.parts) == 1 else EVERYWHERE:
            if fnmatch(name, pattern):
                return pattern
        if path.is_symlink():
            return None
        if path.resolve() in self.secret:
            return "files of secrets"
        if path.resolve().parent == Path.cwd() and any(fnmatch(name, pattern) for pattern in _OWN):
            return "files of this program"
        if name == "node_modules" and (path.parent / "package.json").is_file() and not self._is_served(relative):
            return "node_modules beside a package.json"
        return "virtual environments" if any((path / mark).is_file() for mark in _MARKS) else None

    def _is_served(self, relative: Path) -> bool:
        return any(relative.is_relative_to(folder) for folder in self.served)


NOTHING_ELSE = Rules()


def rules_of(stack: StackSettings, site: SiteSettings) -> Rules:
    """The rules of a site's application."""
    return Rules(site.app.exclude, secret_files(stack), tuple(site.nginx.static.values()), stack.key_of(site))


def secret_files(stack: StackSettings) -> frozenset[Path]:
    """Files of secrets that the settings and Pulumi's environment name: they may lie in an application's folder."""
    named = [
        stack.access.private_key_file,
        os.environ.get("PULUMI_CONFIG_PASSPHRASE_FILE"),
        *(site.tls.private_key.get_secret_value() for site in stack.sites if site.tls.private_key),
    ]
    # The text of a key is no path.
    return frozenset(Path(name).expanduser().resolve() for name in named if name and "\n" not in name)


def left_behind(stack: StackSettings) -> Iterator[str]:
    """A line for each site whose application has files that stay behind without the user's wish."""
    for site in stack.sites:
        source, of = Path(site.app.source), f"site {site.site.name}: " if stack.is_named else ""
        named = collect(source, rules_of(stack, site)).left_out
        if named:
            yield f"{of}left out: {', '.join(_shown(source, named))}"


def _shown(source: Path, named: Iterable[str]) -> Iterator[str]:
    """Each path once, a folder with the number of its files; a name that is in several folders only once."""
    by_name: dict[str, list[str]] = {}
    for path in named:
        by_name.setdefault(Path(path).name, []).append(path)
    for name, paths in by_name.items():
        ends = "/" if (source / paths[0]).is_dir() else ""
        count = sum(len(names) for path in paths for _, _, names in os.walk(source / path))
        notes = [f"in {len(paths)} folders"] if len(paths) > 1 else []
        notes += [f"{count} file{'' if count == 1 else 's'}"] if ends else []
        yield printable(paths[0] if len(paths) == 1 else name) + ends + (f" ({', '.join(notes)})" if notes else "")


def collect(source: Path, rules: Rules) -> Application:
    """The application's files. Raises pulumi.RunError for links, special files and what cannot be read or is too big.

    A link could name anything on this machine.
    """
    found: dict[str, Path] = {}
    left_out: dict[str, Path] = {}

    def stays(relative: Path) -> bool:
        why = rules.why(source, relative)
        if why and not why.startswith("app.exclude") and why not in _BYTECODE:
            left_out[relative.as_posix()] = source / relative
        return why is not None

    for here, folders, names in os.walk(source, onerror=partial(_unreadable, rules.where)):
        relative = Path(here).relative_to(source)
        links = [folder for folder in folders if (Path(here) / folder).is_symlink()]
        folders[:] = sorted(name for name in folders if name not in links and not stays(relative / name))
        for name in sorted([*names, *links]):
            path = Path(here) / name
            if stays(relative / name):
                continue
            if path.is_symlink() or not path.is_file():
                raise refused(
                    f"{rules.where}app.source: {printable(path.as_posix())} is a link or no plain file; "
                    "allowed: plain files (or leave it out with app.exclude)"
                )
            found[(relative / name).as_posix()] = path
    sizes = {name: path.stat().st_size for name, path in found.items()}
    if sum(sizes.values()) > LIMIT:
        largest = printable(max(sizes, key=lambda name: sizes[name]))
        raise refused(
            f"{rules.where}app.source: {source.as_posix()} has {sum(sizes.values()) // 2**20} MiB, and its largest "
            f"file is {largest}; allowed: {LIMIT // 2**20} MiB (or leave files out with app.exclude)"
        )
    return Application(found, left_out)


def contents(application: Application, where: str = "") -> dict[str, tuple[int, bytes]]:
    """Relative path → mode and bytes. Raises pulumi.RunError, with `where` before its key, for an unreadable file."""
    try:
        return {
            name: (0o755 if path.stat().st_mode & 0o100 else 0o644, path.read_bytes())
            for name, path in application.files.items()
        }
    except OSError as error:
        _unreadable(where, error)


def why(source: Path, name: str, rules: Rules) -> str:
    """Why a file stays behind: its own reason, or that of a folder above it."""
    parts = [*reversed(Path(name).parents), Path(name)]
    reason = next((found for part in parts if part.name and (found := rules.why(source, part))), "files of secrets")
    return f"for {reason}" if reason.startswith("app.exclude") else f"as all {reason} do"


def _unreadable(where: str, error: OSError) -> NoReturn:
    """Refuse a file that cannot be read: without a word, the file would be missing on the server."""
    raise refused(f"{where}app.source: {printable(error.filename)}: {error.strerror}; allowed: {READABLE}") from None


def _matches(relative: Path, pattern: str) -> bool:
    return fnmatch(relative.name, pattern) or fnmatch(relative.as_posix(), pattern)
