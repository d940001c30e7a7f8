"""`status`: a stack's resources and machines, and whether the site answers."""

from collections.abc import Mapping
from pathlib import Path

from operations import status as of_machines
from operations.machines import Machine, entrance
from operations.proof import request
from rehearsal.cloud import keeper, scaling, tokens
from rehearsal.cloud.context import CloudContext
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
        _show_releases(reachable.get(record.id) if shown == "Running" else None, show)
    if state.records(tokens.SCALING_GROUP):
        _show_members(root, state, show, reachable)


def _show_releases(machine: Machine | None, show: Show) -> None:
    for text in _releases(machine) if machine else ():
        show.line(f"    {text}", "yellow" if text.startswith("edited") else "")


def _show_members(root: Path, state: State, show: Show, reachable: Mapping[str, Machine]) -> None:
    """The machines of the scaling group, what the load balancer has found of each, and the keeper."""
    keys = keys_of(root, state.stack)
    context = CloudContext(root, state, keys, {}, show.say)
    for record in state.records(tokens.SCALING_GROUP):
        group = scaling.Group(context, record.id)
        (fewest, most), health = group.limits, group.health()
        show.line(f"  scaling group {group.id}: {group.desired} machines desired, {fewest} to {most} allowed")
        for member in group.members:
            found = ", ".join(dict.fromkeys(each.status for each in health.get(member.id, ()))) or "not there"
            address = member.address or "no address"
            show.line(f"  machine {member.name}: {member.status}, {address}, in the load balancer: {found}")
            _show_releases(reachable.get(member.id) if member.status == "Running" else None, show)
    log = keeper.log_file(keys.folder).relative_to(root)
    if keeper.running(state.stack):
        show.line(f"  keeper: runs, and replaces machines that fail; log {log}")
    else:
        show.line(f"  keeper: does not run; ./rehearse up --stack {state.stack} starts it (log {log})", "yellow")


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
