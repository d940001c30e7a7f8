"""Locks: one run at a time for each stack, and one process at a time for what all stacks of this host share."""

import fcntl
import os
import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from rehearsal.engine.errors import UserError

_FOLDER = Path("/run/lock")
# How the lock's file begins while the keeper of a scaling group holds the lock.
_KEEPER = "the keeper"


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
def stack_lock(stack: str, is_keeper: bool = False) -> Iterator[None]:
    """Hold the stack's lock. Raises UserError that names the process which holds it.

    A run waits while the keeper replaces a machine. is_keeper: whether this is the keeper, which waits for nobody.
    """
    with _open(f"wsgi-ecs-rehearsal-{stack}.lock") as file:
        unnamed = 0
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                file.seek(0)
                holder = file.read().strip()
            # Whoever has the lock writes its name a moment later.
            unnamed += not holder
            if is_keeper or (holder and not holder.startswith(_KEEPER)) or unnamed > 5:
                raise UserError(f"stack {stack} is in use by {holder or 'another run'}; wait for it, or stop it")
            time.sleep(0.2)
        file.truncate(0)
        who = f"process {os.getpid()} (rehearse {shlex.join(sys.argv[1:])})"
        file.write(f"{_KEEPER}, process {os.getpid()}\n" if is_keeper else f"{who}\n")
        file.flush()
        yield
        file.truncate(0)
