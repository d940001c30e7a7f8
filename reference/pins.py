"""Writes kinds/hashes.txt, the hashes of what the servers install from the package index: `make pins`.

The files are those that pip may choose, for each Python and each processor that a server may have.
"""

import json
import urllib.request
from collections.abc import Iterator
from dataclasses import replace

from packaging.tags import compatible_tags, cpython_tags
from packaging.utils import canonicalize_name, parse_wheel_filename

from kinds.app_servers import Granian, Gunicorn, Uwsgi
from kinds.systems import SYSTEMS
from kinds.systems.base import BUILD, NEWEST_PYTHON, OLDEST_PYTHON, UV, UV_PYTHON, System
from reference import PROJECT
from settings.package_index import index_url
from settings.server import INDEX

FILE = PROJECT / "kinds/hashes.txt"
# https://packaging.python.org/en/latest/specifications/simple-repository-api/
_ACCEPT = "application/vnd.pypi.simple.v1+json"
_PROCESSORS = ("x86_64", "aarch64")
# The first that a package has a wheel for is the one: that of CentOS 7's glibc, older ones, and newer ones.
_PLATFORMS = (
    "manylinux_2_17", "manylinux2014", "manylinux_2_12", "manylinux2010", "manylinux_2_5", "manylinux1",
    *(f"manylinux_2_{minor}" for minor in range(18, 29)),
)  # fmt: skip
Python = tuple[int, int]


def wanted() -> set[tuple[str, Python]]:
    """Each pin that a server may install, with the version of Python that it is installed for."""
    found = {(pin, system.python_version) for system in _systems() for pin in _pins(system)}
    return found | {(system.acme_client, system.python_version) for system in SYSTEMS.values()}


def _systems() -> Iterator[System]:
    """Yield the systems, and one for each version of Python that is built from source."""
    yield from SYSTEMS.values()
    for minor in range(OLDEST_PYTHON, NEWEST_PYTHON + 1):
        yield replace(SYSTEMS["debian12"], python_version=(3, minor), build_pins=BUILD)


def _pins(system: System) -> Iterator[str]:
    yield from system.build_pins
    if system.python_version >= UV_PYTHON:
        yield UV
    for server in (Uwsgi(), Gunicorn(), Gunicorn(worker_class="gevent"), Granian()):
        if server.runs_on(system):
            yield from server.pins(system)


def write() -> None:
    """Ask the package index, and write the file."""
    pythons: dict[str, set[Python]] = {}
    for pin, python in wanted():
        pythons.setdefault(pin, set()).add(python)
    lines: set[str] = set()
    for pin, versions in pythons.items():
        name, _, version = pin.partition("==")
        files = _files(name, version)
        for python in versions:
            for processor in _PROCESSORS:
                chosen = _wheel(files, python, processor) or next((f for f in files if f.endswith(".tar.gz")), None)
                if not chosen:
                    raise SystemExit(f"make pins: the package index has no file of {pin} for Python {python}")
                lines.add(f"{files[chosen]}  {chosen}\n")
    FILE.write_text("".join(sorted(lines, key=lambda line: line.split()[1].lower())))


def _files(name: str, version: str) -> dict[str, str]:
    """File → SHA-256 of one version of a project."""
    url = f"{(index_url([INDEX]) or INDEX).rstrip('/')}/{canonicalize_name(name)}/"
    request = urllib.request.Request(url, headers={"Accept": _ACCEPT})  # noqa: S310  index_url() checked the scheme.
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
            files = json.load(answer)["files"]
    except OSError as error:
        raise SystemExit(f"make pins: {url} does not answer ({error}); set PIP_INDEX_URL to your index") from error
    return {
        file["filename"]: file["hashes"]["sha256"]
        for file in files
        if file["filename"].endswith(f"-{version}.tar.gz") or f"-{version}-" in file["filename"]
    }


def _wheel(files: dict[str, str], python: Python, processor: str) -> str | None:
    """Return the wheel for a Python on a processor, None where there is none."""
    platforms = [f"{platform}_{processor}" for platform in _PLATFORMS]
    abi = f"cp{python[0]}{python[1]}" + ("m" if python < (3, 8) else "")
    tags = {file: parse_wheel_filename(file)[3] for file in files if file.endswith(".whl")}
    for tag in (*cpython_tags(python, [abi], platforms), *compatible_tags(python, None, platforms)):
        for file in tags:
            if tag in tags[file]:
                return file
    return None


if __name__ == "__main__":
    write()
