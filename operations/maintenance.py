"""`maintenance`: close a site for a while with 503 and a page, or open it again."""

import shlex

from contract import paths
from contract.kept import BY
from contract.user import user_at_host
from operations.attached import attach
from operations.machines import Stack

_TOOL = paths.MAINTENANCE_COMMAND
_MISSING = "the server's release is older than this command; run up first"


def maintenance(stack: Stack, word: str, site: str | None) -> int:
    """Returns the exit code of the command on each server whose nginx answers clients, the first that is not 0.

    word: on, off or status. site: None for the only one. Raises UserError.
    """
    stack.check_site(site)
    command = f"{_TOOL} {word}" + (f" --site {shlex.quote(site)}" if site else "")
    # The server's audit log names the user.
    by = f"{BY}={shlex.quote(user_at_host())}"
    line = f'[ -x {_TOOL} ] || {{ echo "{_MISSING}" >&2; exit 2; }}; exec env {by} {command}'
    codes = [attach(stack.machine(each.name), [line], terminal=False) for each in stack.with_nginx]
    return next(filter(None, codes), 0)
