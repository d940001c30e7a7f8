"""Hashes of the packages that a server installs from the package index beside the application's own.

hashes.txt has a line for each file, as sha256sum writes it; `make pins` writes it again. pip refuses a file with
another hash, wherever it comes from: https://pip.pypa.io/en/stable/topics/secure-installs/
"""

import re
from functools import cache

from templates import source

# https://packaging.python.org/en/latest/specifications/binary-distribution-format/#file-name-convention
_WHEEL = re.compile(r"(?P<name>[^-]+)-(?P<version>[^-]+)-(?P<python>[^-]+)-(?P<abi>[^-]+)-[^-]+\.whl")
_PROCESSORS = ("x86_64.whl", "aarch64.whl")
_SDIST = re.compile(r"(?P<name>.+)-(?P<version>[^-]+)\.tar\.gz")


def hashed(pin: str, python: tuple[int, int]) -> str:
    """`name==version` → the same with the hashes of the files for a version of Python.

    A version that the user has chosen has no line in hashes.txt, and stays without a hash.
    """
    name, _, version = pin.partition("==")
    files = {file: sha256 for sha256, file in _files() if _is_of(file, name, version, python)}
    wheels = [file for file in files if file.endswith(".whl")]
    # The sources of a package that has no wheel for one processor are listed for that one.
    is_whole = all(any(file.endswith(("-any.whl", end)) for file in wheels) for end in _PROCESSORS)
    return " ".join((pin, *(f"--hash=sha256:{files[file]}" for file in (wheels if is_whole else files))))


def _is_of(file: str, name: str, version: str, python: tuple[int, int]) -> bool:
    found = _WHEEL.fullmatch(file) or _SDIST.fullmatch(file)
    if not found or (_plain(found["name"]), found["version"]) != (_plain(name), version):
        return False
    if found.re is _SDIST:
        return True
    own = f"cp{python[0]}{python[1]}"
    return found["abi"] == "none" or own in found["python"].split(".")


def _plain(name: str) -> str:
    """Return a name as https://packaging.python.org/en/latest/specifications/name-normalization/ has it."""
    return re.sub("[-_.]+", "-", name).lower()


@cache
def _files() -> tuple[tuple[str, str], ...]:
    """SHA-256 and name of each file."""
    lines = [line.split() for line in source("kinds/hashes.txt").splitlines()]
    return tuple((sha256, file) for sha256, file in lines)
