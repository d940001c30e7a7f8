"""Application folder + rendered texts → one release archive, the same bytes for the same content.

The id is a hash of the content manifest (paths, modes, bytes), not of the compressed file.
"""

import gzip
import hashlib
import io
import json
import os
import tarfile
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from types import MappingProxyType
from typing import NoReturn

from contract.codec import plain
from contract.documents import APP_FOLDER, MANIFEST_FILE, Manifest
from schema.base import READABLE, printable
from serving import ServingPlan, host_files, release_files
from settings import SiteSettings, StackSettings, refused
from settings.files import loaded

# These are never part of a release: secrets, histories, environments, caches, editors' files, files of the stacks.
EXCLUDED = (
    ".git", ".hg", ".svn", ".env*", ".venv", "venv", "virtualenv", "__pycache__", "*.pyc", ".pytest_cache",
    ".mypy_cache", ".ruff_cache", ".hypothesis", ".tox", ".idea", ".vscode", ".DS_Store", "node_modules",
    "*~", ".*.swp", ".#*",
    ".build", ".rehearsal", "stacks", "Pulumi.*.yaml",
)  # fmt: skip
# Bytes of an application. They are packed in memory, travel over SSH, and are kept on every server, release by release.
LIMIT = 512 * 2**20
# Archives kept in the project's folder, and seconds for which any is: a run has one for each site and machine.
_KEEP, _FRESH = 20, 3600


@dataclass(frozen=True)
class Archive:
    """A release archive. `path` is relative to the project's folder, so that no state names this machine."""

    id: str
    path: str


@dataclass(frozen=True)
class Archives:
    """What a server gets: its own part, and one for each site by its name."""

    host: Archive
    sites: Mapping[str, Archive]


def build_all(plan: ServingPlan, stack: StackSettings, folder: Path) -> Archives:
    """The archives of a plan, written into `folder`. Raises like build."""
    secret = secret_files(stack)
    return Archives(
        build(host_files(plan), plan.sources, folder),
        {
            site.place.name: build(
                release_files(site),
                site.sources,
                folder,
                Path(own.app.source),
                own.app.exclude,
                secret,
                _needed(own, stack.key_of(own)),
            )
            for site, own in zip(plan.sites, stack.sites if plan.sites else (), strict=True)
        },
    )


def _needed(own: SiteSettings, where: str) -> dict[str, Sequence[str]]:
    return {f"{where}{key}": paths for key, paths in loaded(own, Path(), "").items()}


def secret_files(stack: StackSettings) -> frozenset[Path]:
    """Files of secrets that the settings and Pulumi's environment name: they may lie in an application's folder."""
    named = [
        stack.access.private_key_file,
        os.environ.get("PULUMI_CONFIG_PASSPHRASE_FILE"),
        *(site.tls.private_key.get_secret_value() for site in stack.sites if site.tls.private_key),
    ]
    # The text of a key is no path.
    return frozenset(Path(name).expanduser().resolve() for name in named if name and "\n" not in name)


def build(
    texts: Mapping[str, str],
    sources: Mapping[str, str],
    folder: Path,
    source: Path | None = None,
    exclude: Iterable[str] = (),
    secret: frozenset[Path] = frozenset(),
    needed: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> Archive:
    """Write `folder`/<id>.tar.gz and return it.

    texts: relative path → text. sources: relative path → file of this machine, as it is. source: the
    application's folder, which becomes app/, if there is one. exclude: patterns of names or of paths
    inside it. secret: files that stay behind wherever they lie. needed: setting → paths inside it, of which one
    must come along. Raises pulumi.RunError for a link or a special file, which could name anything on this machine,
    for what cannot be read, for what is needed and left out, and for more than LIMIT.
    """
    application = _application(source, (*EXCLUDED, *exclude), secret) if source else {}
    for key, paths in needed.items():
        if not application.keys() & set(paths):
            raise refused(f"{key}: {paths[0]} stays behind {_why(paths[0], exclude)}; allowed: a file that comes along")
    files = {f"{APP_FOLDER}{name}": content for name, content in application.items()}
    files |= {name: (0o644, text.encode()) for name, text in texts.items()}
    files |= {name: (0o644, Path(path).read_bytes()) for name, path in sources.items()}
    listed = {name: [f"{mode:o}", hashlib.sha256(data).hexdigest()] for name, (mode, data) in sorted(files.items())}
    identifier = hashlib.sha256(json.dumps(listed).encode()).hexdigest()[:12]
    files[MANIFEST_FILE] = (0o644, json.dumps(plain(Manifest(identifier, listed)), indent=0).encode())
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{identifier}.tar.gz"
    if path.exists():
        # Renew the file's time, because another run may delete old archives. A file of another user keeps its time.
        with suppress(PermissionError):
            path.touch()
    else:
        draft = folder / f"{identifier}.{os.getpid()}.new"
        draft.write_bytes(_packed(files))
        draft.rename(path)
        _forget_old(folder)
    return Archive(identifier, path.as_posix())


def _forget_old(folder: Path) -> None:
    """Keep the newest archives: an earlier release is packed again when it is wanted."""
    ages = {path: time.time() - path.stat().st_mtime for path in folder.glob("*.tar.gz")}
    for path in sorted(ages, key=lambda path: ages[path])[_KEEP:]:
        if ages[path] > _FRESH:
            path.unlink()


def _application(source: Path, exclude: tuple[str, ...], secret: frozenset[Path]) -> dict[str, tuple[int, bytes]]:
    found: dict[str, Path] = {}
    for here, folders, names in os.walk(source, onerror=_unreadable):
        relative = Path(here).relative_to(source)
        folders[:] = sorted(name for name in folders if not _excluded(relative / name, exclude))
        for name in sorted([*names, *(folder for folder in folders if (Path(here) / folder).is_symlink())]):
            path = Path(here) / name
            if _excluded(relative / name, exclude) or (not path.is_symlink() and path.resolve() in secret):
                continue
            if path.is_symlink() or not path.is_file():
                raise refused(
                    f"app.source: {printable(path.as_posix())} is a link or no plain file; "
                    "allowed: plain files (or leave it out with app.exclude)"
                )
            found[(relative / name).as_posix()] = path
    sizes = {name: path.stat().st_size for name, path in found.items()}
    if sum(sizes.values()) > LIMIT:
        largest = printable(max(sizes, key=lambda name: sizes[name]))
        raise refused(
            f"app.source: {source.as_posix()} has {sum(sizes.values()) // 2**20} MiB, and its largest file is "
            f"{largest}; allowed: {LIMIT // 2**20} MiB (or leave files out with app.exclude)"
        )
    try:
        return {
            name: (0o755 if path.stat().st_mode & 0o100 else 0o644, path.read_bytes()) for name, path in found.items()
        }
    except OSError as error:
        _unreadable(error)


def _unreadable(error: OSError) -> NoReturn:
    """Refuse a file that cannot be read: without a word, the file would be missing on the server."""
    raise refused(f"app.source: {printable(error.filename)}: {error.strerror}; allowed: {READABLE}") from None


def _why(name: str, exclude: Iterable[str]) -> str:
    parts = [Path(name), *Path(name).parents]

    def first(patterns: Iterable[str]) -> str | None:
        return next((pattern for pattern in patterns if any(_excluded(part, (pattern,)) for part in parts)), None)

    if own := first(exclude):
        return f"for app.exclude's {own}"
    return f"as all {first(EXCLUDED) or 'files of secrets'} do"


def _excluded(relative: Path, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch(relative.name, pattern) or fnmatch(relative.as_posix(), pattern) for pattern in patterns)


def _packed(files: Mapping[str, tuple[int, bytes]]) -> bytes:
    packed = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=packed, mode="wb", mtime=0, filename="", compresslevel=6) as stream,
        tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for name, (mode, data) in sorted(files.items()):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), mode
            tar.addfile(entry, io.BytesIO(data))
    return packed.getvalue()
