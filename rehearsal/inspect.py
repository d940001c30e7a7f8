"""`status`, `ssh` and `logs`: looking at a stack that is up. Nothing here changes it."""

import os
import sys
from pathlib import Path

from rehearsal import authority
from rehearsal import stack as stacks
from rehearsal.errors import RehearsalError, UserError
from rehearsal.keys import Keys
from rehearsal.lxd import Lxd, LxdError, reachable
from rehearsal.state import Record, State

_INSTANCE = "alicloud:ecs/instance:Instance"
_ASSOCIATION = "alicloud:ecs/eipAssociation:EipAssociation"
_STATUS = "/usr/local/sbin/wsgi-ecs-status"
_LOGS = (
    "/var/log/cloud-init-output.log /var/log/nginx/*error* /var/log/supervisor/supervisord.log"
    " $(find /var/log/wsgi-ecs -name '*.log' 2>/dev/null)"
)


def _load(name: str) -> State:
    if not reachable():
        raise UserError("LXD is not running, so no rehearsal is; ./rehearse up starts it")
    state = State.load(name)
    if not state.exists:
        raise UserError(f"stack {name} is not up; ./rehearse up --stack {name}")
    return state


def status(root: Path, name: str) -> int:
    """Print resources, machines and whether the site answers. Exit code 0 when it does."""
    from rehearsal.proof import request
    from rehearsal.show import Show, short

    state = _load(name)
    show = Show()
    show.line(f"stack {name}", "bold")
    for record in state.records():
        what = {"done": "", "pending": "  unfinished", "doomed": "  replaced, still to delete"}[record.status]
        show.line(f"  {short(record.type):<27} {record.name}{what}", "yellow" if what else "")
    lxd = Lxd(state.project)
    for record in state.records(_INSTANCE):
        machine = lxd.find(f"/1.0/instances/{record.id}/state")
        shown = machine["status"] if machine else "gone"
        show.line(
            f"  machine {_called(state, record)}: {shown}, {record.outputs.get('primaryIpAddress', 'no address')}"
        )
        for text in _released(lxd, record.id) if shown == "Running" else ():
            show.line(f"    {text}", "yellow" if text.startswith("edited") else "")
    show.outputs({**state.outputs, **({"ssh": f"./rehearse ssh --stack {name}"} if "ssh" in state.outputs else {})})
    if not state.outputs.get("url") or not state.outputs.get("address"):
        show.line(f"not complete; ./rehearse up --stack {name} goes on")
        return 1
    own = root / ".rehearsal" / name / authority.ROOTS
    try:
        ca = own if own.is_file() else stacks.ca(stacks.load(root, name), root)
    except UserError:
        # The stack's file may be wrong or gone: its machines answer all the same.
        ca = None
    answer = request(state.outputs["url"], state.outputs["address"], ca)
    show.line(answer.line, "green" if answer.good else "red")
    return 0 if answer.good else 1


def _released(lxd: Lxd, machine: str) -> list[str]:
    """What the machine's own command says: the releases that serve, and what was edited by hand."""
    try:
        return lxd.exec(machine, ["sh", "-c", f"[ ! -x {_STATUS} ] || {_STATUS} || true"]).splitlines()
    except LxdError as error:
        return [str(error)]


def _machines(state: State) -> list[Record]:
    """The machines, those with a public address first: no other lets this host in by SSH."""
    public = {record.inputs["instanceId"] for record in state.records(_ASSOCIATION)}
    found = [record for record in state.records(_INSTANCE) if record.status == "done"]
    found.sort(key=lambda machine: machine.id not in public)
    if not found:
        raise UserError(f"stack {state.stack} has no machine; ./rehearse up --stack {state.stack}")
    return found


def _called(state: State, machine: Record) -> str:
    """A machine's name in its stack, such as app-1; its id where there is only one."""
    return machine.name.removeprefix(f"{state.project}-").removesuffix("instance").rstrip("-") or machine.id


def _running(state: State, machine: Record) -> None:
    found = Lxd(state.project).find(f"/1.0/instances/{machine.id}")
    if found is None or found["status"] != "Running":
        what = found["status"].lower() if found else "gone"
        raise UserError(f"machine {machine.id} is {what}; ./rehearse up --stack {state.stack} brings it back")


def line(root: Path, name: str, wanted: str | None = None) -> list[str]:
    """The ssh command line of a machine of the stack, by way of the one that the world reaches.

    wanted: its name, None for that one. Raises UserError.
    """
    state = _load(name)
    first, *others = _machines(state)
    found = {_called(state, machine): machine for machine in (first, *others)}
    machine = found.get(wanted, first) if wanted else first
    if wanted and wanted not in found:
        raise UserError(f"stack {name} has no machine {wanted}; allowed: {', '.join(found)}")
    keys = Keys(root / ".rehearsal" / name)
    if not keys.private.is_file():
        raise UserError(f"{keys.private.relative_to(root)}: no such file; ./rehearse up --stack {name} makes it")
    _running(state, machine)
    jump = () if machine is first else keys.ssh(first.id, str(first.outputs["primaryIpAddress"]))
    return keys.ssh(machine.id, str(machine.outputs["primaryIpAddress"]), jump=jump)


def ssh(root: Path, name: str, command: tuple[str, ...], wanted: str | None = None) -> int:
    """Become ssh to a machine of the stack."""
    words = [*line(root, name, wanted), *(("--", *command) if command else ())]
    sys.stdout.flush()
    os.execvp(words[0], words)  # noqa: S606


def logs(root: Path, name: str) -> int:
    """Print the last lines of each log of each machine."""
    state = _load(name)
    script = (
        f'for file in {_LOGS}; do [ -s "$file" ] && printf "\\n==> %s <==\\n" "$file" && tail -n 40 "$file"; done; '
        'if systemctl -q is-active mariadb; then printf "\\n==> mariadb <==\\n"; journalctl -u mariadb -n 40; fi'
    )
    for machine in _machines(state):
        print(f"machine {_called(state, machine)}")
        _running(state, machine)
        try:
            print(Lxd(state.project).exec(machine.id, ["sh", "-c", script]))
        except LxdError as error:
            raise RehearsalError(str(error)) from None
    return 0
