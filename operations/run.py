"""`run`: run a command as a site runs, on its machine, with the release that serves."""

import shlex
import sys
from collections.abc import Sequence

from contract import paths
from operations.attached import attach
from operations.machines import Stack


def run(stack: Stack, site: str | None, machine: str | None, command: Sequence[str]) -> int:
    """Returns the command's exit code. site, machine: None for the only one, or the first app server.

    Raises UserError.
    """
    chosen = stack.site(site)
    tool = f"{paths.host_root()}/current/tool/site_command.py"
    words = shlex.join(["/usr/bin/python3", "-B", tool, chosen, *command])
    # A terminal would mix the command's errors into its output, and end each line of a file with a carriage return.
    terminal = sys.stdin.isatty() and sys.stdout.isatty()
    return attach(stack.of_application(chosen, machine), [words], terminal)
