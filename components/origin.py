"""Find out where an application comes from: the commit of git that has it, and who has made that commit.

All of it belongs to the content, because it is an input of a resource: the same content has the same origin on every
computer. The commit is the last one that changed the application's folder, whatever else the repository has. The server
itself notes who releases.
"""

import os
import re
import subprocess
from collections.abc import Callable, Container
from functools import partial
from pathlib import Path

from components.application import Rules, collect, rules_of
from settings import StackSettings

# Seconds for git's answer.
_PATIENCE = 20
# No program that a repository's configuration names is run, and nothing is written.
_GIT = ("git", "-c", "core.fsmonitor=false", "--no-optional-locks")


def origins(stack: StackSettings) -> dict[str, dict[str, str]]:
    """Site's name → origin of its application."""
    found = {}
    for site in stack.sites:
        source, rules = Path(site.app.source), rules_of(stack, site)
        found[site.site.name] = origin(source, partial(_sent, source, rules))
    return found


def _sent(source: Path, rules: Rules) -> Container[str]:
    return collect(source, rules).files


def origin(source: Path, sent: Callable[[], Container[str]]) -> dict[str, str]:
    """Return what the release tool notes of the application in `source`: by, commit, and clean (yes or no).

    sent: returns the relative paths of the files that go into the archive; only asked if git names a change. What is
    not known is left out.
    """
    if _git(source, "rev-parse", "--is-shallow-repository") != "false":
        # The oldest commit of a shallow clone seems to have made all files.
        return {}
    last = _git(source, "log", "-1", "--no-show-signature", "--format=%H %ce", "--", ".") or ""
    commit, _, committer = last.partition(" ")
    is_changed = _is_changed(source, sent)
    if is_changed is None or not re.fullmatch("[0-9a-f]{40,64}", commit):
        return {}
    if is_changed:
        return {"commit": commit, "clean": "no"}
    return {"by": committer, "commit": commit, "clean": "yes"}


def _is_changed(source: Path, sent: Callable[[], Container[str]]) -> bool | None:
    """Return whether a file that is sent is not as it was committed, or is missing; None if git fails."""
    prefix = _git(source, "rev-parse", "--show-prefix")
    status = _git(source, "status", "--porcelain", "-z", "--no-renames", "--untracked-files=all", "--", ".")
    if prefix is None or status is None:
        return None
    names = [entry[3:].removeprefix(prefix) for entry in status.split("\0") if entry]
    files = sent() if names else ()
    return any(name in files or not os.path.lexists(source / name) for name in names)


def _git(source: Path, *arguments: str) -> str | None:
    """Return what git prints in a folder, None without git or a repository."""
    try:
        done = subprocess.run(
            [*_GIT, "-C", os.fspath(source), *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_PATIENCE,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return os.fsdecode(done.stdout).rstrip("\n") if done.returncode == 0 else None
