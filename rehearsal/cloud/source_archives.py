"""Archives of programs that are built from source, from package registries that hold the same file.

    cache ─▶ Debian's source package (nginx, Python), the package index (uWSGI) ─▶ file in the cache
               └ no file with this checksum: the machine downloads the archive from its URL

So a rehearsal reaches no other hosts than those that it installs packages from.
"""

import hashlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from rehearsal.cloud import trust
from rehearsal.cloud.images.debian12 import DEBIAN12
from rehearsal.cloud.lock import host_lock

# Seconds until a registry is asked again for an archive that it did not have.
_ABSENT = 3600
_TIMEOUT = 120


def registry_of(program: str) -> str:
    """The registry that may hold a program's archive, as a message names it. program: a key of _REGISTRIES."""
    return _REGISTRIES[program][0]


def find(cache: Path, program: str, version: str, sha256: str, download: bool) -> str | None:
    """Where the archive was found, as a message names it; then it is `cache`/`sha256`. None when it was not found.

    download: ask the registry for an archive that the cache does not have.
    """
    file = cache / sha256
    if _is(file, sha256):
        return "the rehearsal's cache"
    if not download:
        return None
    with host_lock("archives"):
        if _is(file, sha256):
            return "the rehearsal's cache"
        return registry_of(program) if _downloaded(file, program, version) else None


def _is(file: Path, sha256: str) -> bool:
    return file.is_file() and hashlib.sha256(file.read_bytes()).hexdigest() == sha256


def _downloaded(file: Path, program: str, version: str) -> bool:
    """Put the file into the cache. Returns whether the registry has it."""
    absent = file.with_name(f"{file.name}.absent")
    with suppress(OSError):
        if time.time() - absent.stat().st_mtime < _ABSENT:
            return False
    commands = _REGISTRIES[program][1]
    with tempfile.TemporaryDirectory(prefix="wsgi-ecs-archive-") as scratch:
        for command in commands(Path(scratch), version, file.name):
            # Ignore the exit code: Debian's archive may be complete although the rest of its package is missing.
            with suppress(subprocess.TimeoutExpired, FileNotFoundError):
                subprocess.run(command, cwd=scratch, capture_output=True, stdin=subprocess.DEVNULL, timeout=_TIMEOUT)
        found = next((path for path in Path(scratch).glob("*.tar.*") if _is(path, file.name)), None)
        if found is None:
            absent.touch()
            return False
        draft = file.with_name(f".{file.name}.new")
        draft.write_bytes(found.read_bytes())
        draft.replace(file)
    return True


def _debian(package: str, scratch: Path) -> Iterator[list[str]]:
    """The archive that Debian builds a package from: the authors' own archive under another name."""
    sources = trust.packages(DEBIAN12.suite).sources.splitlines()
    for name in ("parts", "lists/partial", "cache"):
        (scratch / name).mkdir(parents=True)
    # Trust any signature of this host's mirror, because the checksum decides.
    lines = [line.replace("deb ", "deb-src [trusted=yes] ", 1) for line in sources]
    (scratch / "parts/sources.list").write_text("".join(f"{line}\n" for line in lines))
    places = {
        "Etc::sourcelist": "/dev/null",
        "Etc::sourceparts": scratch / "parts",
        "State::lists": scratch / "lists",
        "Cache": scratch / "cache",
    }
    apt = ["apt-get", "-q", "-oAPT::Sandbox::User=root", *(f"-oDir::{key}={path}" for key, path in places.items())]
    yield [*apt, "update"]
    yield [*apt, "source", "--download-only", "--tar-only", package]


def _nginx(scratch: Path, version: str, sha256: str) -> Iterator[list[str]]:
    return _debian("nginx", scratch)


def _python(scratch: Path, version: str, sha256: str) -> Iterator[list[str]]:
    return _debian(f"python{'.'.join(version.split('.')[:2])}", scratch)


def _index(scratch: Path, version: str, sha256: str) -> Iterator[list[str]]:
    """uWSGI's source distribution. pip would run its setup.py, so pip checks the checksum first."""
    (scratch / "requirements.txt").write_text(f"uWSGI=={version} --hash=sha256:{sha256}\n")
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    yield [*pip, "--no-deps", "--no-binary", "uwsgi", "--requirement", "requirements.txt"]


# Folder to work in, version, SHA-256 → commands that download the archive into the folder.
_Commands = Callable[[Path, str, str], Iterator[list[str]]]
_REGISTRIES: Mapping[str, tuple[str, _Commands]] = {
    "nginx": ("Debian's source package", _nginx),
    "python": ("Debian's source package", _python),
    "uwsgi": ("the package index", _index),
}
