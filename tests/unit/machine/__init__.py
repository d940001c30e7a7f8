"""A server that needs no root: a fake root with a process manager, nginx and applications of threads."""

import functools
import importlib
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

PROJECT = Path(__file__).parents[3]


def module(name: str) -> ModuleType:
    """A module of machine/, which is no package: on a server its modules lie side by side."""
    sys.path.insert(0, str(PROJECT / "machine"))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.pop(0)


@functools.cache
def python36() -> str | None:
    """A python3.6 that runs: one of pyenv's names may only say that it is not chosen."""
    found = [shutil.which("python3.6"), *map(str, Path.home().glob(".pyenv/versions/3.6*/bin/python"))]
    for candidate in filter(None, found):
        asked = subprocess.run([candidate, "-c", "import sys; print(sys.version_info[:2])"], capture_output=True)
        if asked.stdout.strip() == b"(3, 6)":
            return candidate
    return None
