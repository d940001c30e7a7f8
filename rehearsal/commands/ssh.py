"""`ssh`: log in to a machine of a stack, or run a command there."""

import os
import sys
from pathlib import Path

from rehearsal.commands.machines import ssh_command


def ssh(root: Path, stack: str, command: tuple[str, ...], machine: str | None = None) -> int:
    """Become ssh to a machine of the stack. machine: its name, None for the machine with the public address."""
    words = [*ssh_command(root, stack, machine), *(("--", *command) if command else ())]
    sys.stdout.flush()
    os.execvp(words[0], words)  # noqa: S606
