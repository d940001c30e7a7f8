"""`logs`: the last lines of the logs of a stack's machines."""

import re

from contract import paths
from kinds.databases import DATABASES
from rehearsal.cloud.lxd import Lxd, LxdError
from rehearsal.cloud.store import project_of
from rehearsal.commands.machines import ensure_running, existing_state, machine_name, machines
from rehearsal.engine.errors import RehearsalError, UserError
from schema.base import printable

_FILES = (
    "/var/log/cloud-init-output.log /var/log/nginx/*error* /var/log/supervisor/supervisord.log"
    f" $(find {paths.LOG} -name '*.log' 2>/dev/null)"
)
_UNITS = " ".join([*(kind.unit for kind in DATABASES.values()), "wsgi-ecs-redis"])
_SHOW = 'do [ -s "$file" ] && printf "\\n==> %s <==\\n" "$file" && tail -n 40 "$file"; done; '
_SCRIPT = (
    f"for file in {_FILES}; {_SHOW}"
    f'for unit in {_UNITS}; do if systemctl -q is-active "$unit"; then '
    'printf "\\n==> %s <==\\n" "$unit"; journalctl -u "$unit" -n 40; fi; done'
)


def logs(stack: str, process: str | None = None) -> int:
    """Print the last lines of each log of each machine. Returns the exit code. Raises UserError or RehearsalError.

    process: name of the only process whose logs are wanted.
    """
    if process is not None and not re.fullmatch("[A-Za-z0-9_-]+", process):
        raise UserError(f"--process {printable(process)}: allowed: a name of processes in the stack's settings")
    own = f"{paths.LOG}/*/[ab].{process}.*.log {paths.LOG}/*/schedule.{process}.log"
    script = f"for file in {own}; {_SHOW} true" if process else _SCRIPT
    state = existing_state(stack)
    for machine in machines(state):
        print(f"machine {machine_name(state, machine)}")
        ensure_running(state, machine)
        try:
            print(Lxd(project_of(stack)).exec(machine.id, ["sh", "-c", script]))
        except LxdError as error:
            raise RehearsalError(str(error)) from None
    return 0
