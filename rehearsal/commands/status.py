"""`status`: a stack's resources and machines, and whether the site answers."""

from pathlib import Path

from contract import paths
from rehearsal.cloud import tokens
from rehearsal.cloud.keys import keys_of
from rehearsal.cloud.lxd import Lxd, LxdError
from rehearsal.cloud.store import project_of
from rehearsal.commands import authority, overlay, stack_file
from rehearsal.commands.machines import existing_state, machine_name
from rehearsal.commands.proof import request
from rehearsal.commands.show import Show, short
from rehearsal.engine.errors import UserError
from rehearsal.engine.state import State

_REMARKS = {"done": "", "pending": "  unfinished", "doomed": "  replaced, still to delete"}
_COMMAND = f"[ ! -x {paths.STATUS_COMMAND} ] || {paths.STATUS_COMMAND} || true"


def status(root: Path, name: str) -> int:
    """Print resources, machines and the site's answer. Returns the exit code, 0 when the site answers."""
    state = existing_state(name)
    show = Show()
    show.line(f"stack {name}", "bold")
    for record in state.records():
        remark = _REMARKS[record.status]
        show.line(f"  {short(record.type):<27} {record.name}{remark}", "yellow" if remark else "")
    _show_machines(state, show)
    show.outputs({**state.outputs, **({"ssh": f"./rehearse ssh --stack {name}"} if "ssh" in state.outputs else {})})
    if not state.outputs.get("url") or not state.outputs.get("address"):
        show.line(f"not complete; ./rehearse up --stack {name} goes on")
        return 1
    answer = request(state.outputs["url"], state.outputs["address"], _roots(root, name))
    show.line(answer.line, "green" if answer.good else "red")
    return 0 if answer.good else 1


def _show_machines(state: State, show: Show) -> None:
    lxd = Lxd(project_of(state.stack))
    for record in state.records(tokens.INSTANCE):
        machine = lxd.find(f"/1.0/instances/{record.id}/state")
        shown = machine["status"] if machine else "gone"
        address = record.outputs.get("primaryIpAddress", "no address")
        show.line(f"  machine {machine_name(state, record)}: {shown}, {address}")
        for text in _releases(lxd, record.id) if shown == "Running" else ():
            show.line(f"    {text}", "yellow" if text.startswith("edited") else "")


def _releases(lxd: Lxd, machine: str) -> list[str]:
    """What the machine's own status command prints: the releases that serve, and what was edited by hand."""
    try:
        return lxd.exec(machine, ["sh", "-c", _COMMAND]).splitlines()
    except LxdError as error:
        return [str(error)]


def _roots(root: Path, name: str) -> Path | None:
    """File with the roots that vouch for the site; None for the well-known roots."""
    of_test_ca = keys_of(root, name).folder / authority.ROOTS
    if of_test_ca.is_file():
        return of_test_ca
    try:
        return overlay.ca_file(stack_file.load(root, name), root)
    except UserError:
        # The stack's file may be wrong or missing, although its machines still answer.
        return None
