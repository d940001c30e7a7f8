"""Locks: one run at a time for each stack, and one process at a time for what all stacks of this host share."""

import fcntl
import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from rehearsal.engine.errors import UserError

_FOLDER = Path("/run/lock")


@contextmanager
def host_lock(what: str) -> Iterator[None]:
    """Hold a lock of this host while something that all stacks share is read and changed; other processes wait."""
    with _open(f"wsgi-ecs-rehearsal.{what}") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _open(name: str) -> IO[str]:
    """Open the file of a lock. Raises UserError if another user has made the file."""
    path = _FOLDER / name
    try:
        return path.open("a+")
    except PermissionError:
        raise UserError(f"{path} belongs to {path.owner()}; run ./rehearse, which becomes root by sudo") from None


@contextmanager
def stack_lock(stack: str) -> Iterator[None]:
    """Hold the stack's lock. Raises UserError that names the process which holds it."""
    with _open(f"wsgi-ecs-rehearsal-{stack}.lock") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "another run"
            raise UserError(f"stack {stack} is in use by {holder}; wait for it, or stop it") from None
        file.truncate(0)
        file.write(f"process {os.getpid()} (rehearse {shlex.join(sys.argv[1:])})\n")
        file.flush()
        yield
        file.truncate(0)
