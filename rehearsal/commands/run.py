"""`run`: run a command as a site runs, on its machine, with the release that serves."""

import os
import shlex
import sys
from pathlib import Path

from contract import paths
from contract.resources import site_of
from rehearsal.cloud import tokens
from rehearsal.commands.machines import existing_state, machine_name, machines, ssh_command
from rehearsal.engine.errors import UserError

# The first of several app servers.
_FIRST = "app-1"


def run(root: Path, stack: str, site: str | None, machine: str | None, command: tuple[str, ...]) -> int:
    """Become ssh to the site's machine. site, machine: None for the only one, or the first app server."""
    if not command:
        raise UserError("no command; allowed: a program and its arguments, such as python manage.py createsuperuser")
    state = existing_state(stack)
    found = (site_of(record.name) for record in state.records(tokens.COMMAND))
    sites = sorted({name for name in found if name})
    if site is None and len(sites) > 1:
        raise UserError(f"stack {stack} has several sites; allowed: --site with one of {', '.join(sites)}")
    chosen = site or next(iter(sites), "app")
    if sites and chosen not in sites:
        raise UserError(f"--site {chosen}: no such site; allowed: {', '.join(sites)}")
    names = [machine_name(state, record) for record in machines(state)]
    words = ssh_command(root, stack, machine or (_FIRST if _FIRST in names else None))
    tool = ["/usr/bin/python3", "-B", f"{paths.host_root()}/current/tool/site_command.py", chosen, *command]
    if sys.stdin.isatty():
        words.insert(1, "-t")
    sys.stdout.flush()
    os.execvp(words[0], [*words, "--", shlex.join(tool)])  # noqa: S606
