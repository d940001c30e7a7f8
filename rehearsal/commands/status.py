"""`status`: a stack's resources and machines, and whether the site answers."""

from pathlib import Path

from operations import status as of_machines
from operations.machines import Machine, entrance
from operations.proof import request
from rehearsal.cloud import tokens
from rehearsal.cloud.keys import keys_of
from rehearsal.cloud.lxd import Lxd
from rehearsal.cloud.store import project_of
from rehearsal.commands import authority, overlay, stack_file
from rehearsal.commands.machines import existing_state, machine_name, rehearsed
from rehearsal.commands.maintenance import closed_sites, closes
from rehearsal.commands.show import Show, short
from rehearsal.engine.errors import UserError
from rehearsal.engine.state import State

_REMARKS = {"done": "", "pending": "  unfinished", "doomed": "  replaced, still to delete"}


def status(root: Path, name: str, as_json: bool = False, watch: bool = False) -> int:
    """Print resources, machines and the site's answer. Returns the exit code, 0 when the site answers.

    as_json: print what the machines say as JSON. watch: show that again and again.
    """
    state = existing_state(name)
    if watch:
        return of_machines.watch(lambda: of_machines.collect(rehearsed(root, name), often=True))
    if as_json:
        return of_machines.status(rehearsed(root, name), as_json=True)
    show = Show()
    show.line(f"stack {name}", "bold")
    for record in state.records():
        remark = _REMARKS[record.status]
        show.line(f"  {short(record.type):<27} {record.name}{remark}", "yellow" if remark else "")
    _show_machines(root, state, show)
    show.outputs({**state.outputs, **({"ssh": f"./rehearse ssh --stack {name}"} if "ssh" in state.outputs else {})})
    if not state.outputs.get("url") or not entrance(state.outputs):
        show.line(f"not complete; ./rehearse up --stack {name} goes on")
        return 1
    answer = request(state.outputs["url"], entrance(state.outputs), _roots(root, name))
    # A site in maintenance is as it was told to be; its line above says since when.
    is_closed = answer.status == 503 and closes(closed_sites(root, name), state.outputs)
    show.line(answer.line, "green" if answer.good else "yellow" if is_closed else "red")
    return 0 if answer.good or is_closed else 1


def _show_machines(root: Path, state: State, show: Show) -> None:
    lxd = Lxd(project_of(state.stack))
    reachable = _reachable(root, state, show)
    for record in state.records(tokens.INSTANCE):
        machine = lxd.find(f"/1.0/instances/{record.id}/state")
        shown = machine["status"] if machine else "gone"
        address = record.outputs.get("primaryIpAddress", "no address")
        show.line(f"  machine {machine_name(state, record)}: {shown}, {address}")
        for text in _releases(reachable[record.id]) if shown == "Running" and record.id in reachable else ():
            show.line(f"    {text}", "yellow" if text.startswith("edited") else "")


def _reachable(root: Path, state: State, show: Show) -> dict[str, Machine]:
    """Id of each machine → the machine, if SSH may reach it."""
    try:
        return {machine.id: machine for machine in rehearsed(root, state.stack).machines}
    except UserError as error:
        # The key or the machines are missing, which is no reason to show nothing else.
        show.line(f"  {error}", "yellow")
        return {}


def _releases(machine: Machine) -> list[str]:
    """What the machine's own status command prints: the releases that serve, and what was edited by hand."""
    text, problem = of_machines.lines(machine)
    return [*text.splitlines(), *filter(None, (problem,))]


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
