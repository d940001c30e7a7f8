"""The keeper of a stack's scaling groups: a process on this host that replaces machines, as Auto Scaling does.

./rehearse up ─▶ starts rehearsal.commands.keep ─▶ looks every 2 s; takes the stack's lock only to replace a machine
./rehearse destroy ─▶ ends it; it ends by itself when its stack has no scaling group any more
"""

import os
import sys
from pathlib import Path

from rehearsal.cloud import processes

MODULE = "rehearsal.commands.keep"
# Variables by which files that it makes are given to the user, as with sudo.
_OWNER = ("SUDO_UID", "SUDO_GID")


def log_file(folder: Path) -> Path:
    """The keeper's log. folder: of the stack's keys."""
    return folder / "keeper.log"


def running(stack: str) -> list[int]:
    """Ids of the keeper's processes; more than one only if runs were killed."""
    return processes.running(lambda words: words[1:5] == ["-B", "-m", MODULE, stack])


def start(root: Path, stack: str, folder: Path) -> None:
    """Start the keeper, in place of an earlier one, which may be of another version. root: the project."""
    stop(stack)
    owner = {name: os.environ[name] for name in _OWNER if name in os.environ}
    command = [sys.executable, "-B", "-m", MODULE, stack, str(root)]
    processes.detach(command, log_file(folder), PYTHONPATH=str(root), **owner)


def stop(stack: str) -> None:
    """End the keeper. What does not run is no error. The caller has the stack's lock, so the keeper is idle."""
    processes.end(lambda: running(stack))
