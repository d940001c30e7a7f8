"""What a stack has built from source, taken from package registries that hold the very file.

nginx.archive, uwsgi.archive (URL) ─▶ the cache ─▶ Debian's source package, the package index ─▶ file of the cache
                                       └ nowhere with the stack's checksum: the URL stays, the machine downloads it

So a rehearsal reaches no other hosts than those it installs from, and the program knows nothing of it.
"""

import hashlib
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from rehearsal import trust
from rehearsal.image import SUITE
from rehearsal.lock import exclusive
from rehearsal.stack import Stack, section

# Seconds until an archive that the registries did not have is asked for again.
_ABSENT = 3600
_TIMEOUT = 120


def overlay(stack: Stack, cache: Path, fetch: bool = True) -> tuple[Stack, list[str]]:
    """Archives by URL → files of `cache`, with the stack's checksum → (stack, one line for each of them).

    fetch: look elsewhere for those that are not there yet.
    """
    config, notes = dict(stack.config), []
    for name, (registry, fetched) in _REGISTRIES.items():
        server = section(stack, name)
        if server.get("install") != "source" or "://" not in str(server.get("archive")):
            continue
        if not re.fullmatch("[0-9a-f]{64}", str(server.get("sha256"))):
            # The program says what is allowed.
            continue
        file = cache / str(server["sha256"])
        where = _cached(file)
        if where is None and fetch:
            with exclusive("archives"):
                where = _cached(file) or _fetched(file, server, fetched, registry)
        if where:
            config[f"{stack.project}:{name}"] = json.dumps({**server, "archive": str(file)})
            notes.append(f"{name}.archive: taken from {where}, the same checksum")
        elif not fetch:
            notes.append(f"{name}.archive: not in the rehearsal's cache, so up looks for it in {registry}")
        else:
            notes.append(f"{name}.archive: not in {registry}, so the machine downloads it")
    return replace(stack, config=config), notes


def _cached(file: Path) -> str | None:
    return "the rehearsal's cache" if _is(file, file.name) else None


def _is(file: Path, sha256: str) -> bool:
    return file.is_file() and hashlib.sha256(file.read_bytes()).hexdigest() == sha256


def _fetched(file: Path, server: Mapping[str, Any], fetch: "_Fetch", registry: str) -> str | None:
    """Put the file into the cache. Returns the registry's name, None when it has no such file."""
    absent = file.with_name(f"{file.name}.absent")
    with suppress(OSError):
        if time.time() - absent.stat().st_mtime < _ABSENT:
            return None
    with tempfile.TemporaryDirectory(prefix="wsgi-ecs-archive-") as scratch:
        for command in fetch(Path(scratch), str(server.get("version")), file.name):
            # Whether it went well is told by the file: Debian's archive may be there without the rest of its package.
            with suppress(subprocess.TimeoutExpired, FileNotFoundError):
                subprocess.run(command, cwd=scratch, capture_output=True, stdin=subprocess.DEVNULL, timeout=_TIMEOUT)
        found = next((path for path in Path(scratch).glob("*.tar.*") if _is(path, file.name)), None)
        if found is None:
            absent.touch()
            return None
        draft = file.with_name(f".{file.name}.new")
        draft.write_bytes(found.read_bytes())
        draft.replace(file)
    return registry


def _debian(scratch: Path, version: str, sha256: str) -> Iterator[list[str]]:
    """The archive that Debian builds its nginx from: its makers' own, under another name."""
    sources = trust.packages(SUITE).sources.splitlines()
    for name in ("parts", "lists/partial", "cache"):
        (scratch / name).mkdir(parents=True)
    # Trusted: the checksum decides, whoever signs this host's mirror.
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
    yield [*apt, "source", "--download-only", "--tar-only", "nginx"]


def _index(scratch: Path, version: str, sha256: str) -> Iterator[list[str]]:
    """uWSGI's source distribution. pip runs its setup.py, so it is held against the checksum before."""
    (scratch / "wanted.txt").write_text(f"uWSGI=={version} --hash=sha256:{sha256}\n")
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    yield [*pip, "--no-deps", "--no-binary", "uwsgi", "--requirement", "wanted.txt"]


_Fetch = Callable[[Path, str, str], Iterator[list[str]]]
_REGISTRIES: Mapping[str, tuple[str, _Fetch]] = {
    "nginx": ("Debian's source package", _debian),
    "uwsgi": ("the package index", _index),
}
