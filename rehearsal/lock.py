"""One run at a time for each stack, one process at a time for what the stacks share."""

import fcntl
import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rehearsal.errors import UserError

_FOLDER = Path("/run/lock")


@contextmanager
def exclusive(what: str) -> Iterator[None]:
    """Held while something that all stacks share is looked at and changed; others wait."""
    with (_FOLDER / f"wsgi-ecs-rehearsal.{what}").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def held(stack: str) -> Iterator[None]:
    """Hold the stack's lock. Raises UserError that names who holds it."""
    path = _FOLDER / f"wsgi-ecs-rehearsal-{stack}.lock"
    with path.open("a+") as file:
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
