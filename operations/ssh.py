"""`ssh`: log in to a machine, or run a command there."""

from collections.abc import Sequence

from operations.attached import attach
from operations.machines import Stack


def ssh(stack: Stack, command: Sequence[str], machine: str | None) -> int:
    """Returns ssh's exit code. machine: name, None for the machine with the public address. Raises UserError."""
    return attach(stack.machine(machine), command, terminal=False)
