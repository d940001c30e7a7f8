"""Packages of the operating system that a release needs. Python 3.6, standard library only."""

import os
import subprocess
from typing import List

from commands import ReleaseError, Say, run

# The package manager may be at work for somebody else, such as the image's own updates.
_LOCK = ("-o", "DPkg::Lock::Timeout=300")


def install(names: List[str], command: List[str], say: Say) -> None:
    """Install the packages that are not there. command: installs the names after it. Raises ReleaseError."""
    missing = [name for name in names if not is_installed(name)]
    if not missing:
        return
    say("installing {}".format(" ".join(missing)))
    env = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
    try:
        if command[0] == "apt-get":
            run("apt-get", "update", "-q", *_LOCK, env=env)
            run(*command, *_LOCK, *missing, env=env)
        else:
            run(*command, *missing, env=env)
    except ReleaseError as error:
        raise ReleaseError(
            "the packages {} cannot be installed".format(" ".join(missing)),
            error.lines,
            "check that the server reaches its package sources (server.mirrors), and run up again",
        ) from None


def is_installed(name: str) -> bool:
    """Whether the package manager has a package in place."""
    if os.path.exists("/usr/bin/dpkg-query"):
        done = subprocess.run(
            ["dpkg-query", "-W", "-f", "${Status}", name], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        return done.stdout == b"install ok installed"
    return subprocess.call(["rpm", "-q", "--quiet", name], stdout=subprocess.DEVNULL) == 0
