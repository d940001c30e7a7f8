"""Where a stack is: rehearsed on this host, or deployed."""

import os
import sys
from pathlib import Path
from typing import NoReturn

from operations.deployed import NotDeployedError, deployed, from_outputs, of_pulumi
from operations.errors import UserError
from operations.machines import Stack

# The stack that is for rehearsals alone.
_LOCAL = "local"


def find(root: Path, stack: str, rehearsed: bool, deployed_: bool, file: str | None) -> Stack:
    """A deployed stack. For a rehearsed stack, this process becomes `./rehearse` with the same command line.

    rehearsed, deployed_: what the user said. file: of the outputs. Raises UserError.
    """
    if rehearsed and (deployed_ or file):
        raise UserError("--rehearsed with --deployed or --outputs; allowed: one of them")
    if deployed_ or file:
        return deployed(root, stack, file)
    is_here = (root / ".rehearsal" / stack).is_dir()
    if rehearsed or stack == _LOCAL:
        if not is_here:
            raise UserError(f"stack {stack} is not rehearsed here; ./rehearse up --stack {stack}")
        become_rehearse()
    try:
        outputs = of_pulumi(root, stack)
    except NotDeployedError as error:
        if is_here:
            become_rehearse()
        raise UserError(f"stack {stack} is not rehearsed here, and {error}") from None
    if is_here and outputs:
        raise UserError(f"stack {stack} is rehearsed here and deployed, too; allowed: --rehearsed or --deployed")
    if is_here:
        # pulumi stack init has made it, for its encryption perhaps, and pulumi up has not deployed it.
        become_rehearse()
    return from_outputs(root, stack, outputs)


def become_rehearse() -> NoReturn:
    """Run the same command line with the rehearsal, which needs root for LXD."""
    command = [sys.executable, "-B", "-m", "rehearsal", *sys.argv[1:]]
    if os.geteuid() != 0:
        command = ["sudo", "-E", *command]
    sys.stdout.flush()
    os.execvp(command[0], command)  # noqa: S606
