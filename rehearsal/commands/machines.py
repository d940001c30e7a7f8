"""The machines of a stack that is up, and how they are reached."""

import re
from dataclasses import replace
from pathlib import Path

from contract.resources import ONLY_MACHINE, machine_of, part_of, server_of_instance, site_of_part, site_of_servers
from operations import errors as operations_errors
from operations.connection import Way
from operations.machines import Machine, Stack
from rehearsal.cloud import daemon, tokens
from rehearsal.cloud.keys import keys_of
from rehearsal.cloud.lxd import Lxd, reachable
from rehearsal.cloud.members import all_members
from rehearsal.cloud.store import load_state, project_of
from rehearsal.engine.errors import UserError
from rehearsal.engine.state import Record, State


def existing_state(stack: str) -> State:
    """The state of a stack that is up. Raises UserError for any other stack."""
    if not reachable():
        raise UserError(f"{daemon.name()} is not running, so no rehearsal is; ./rehearse up starts it")
    state = load_state(stack)
    if not state.exists:
        raise UserError(f"stack {stack} is not up; ./rehearse up --stack {stack}")
    return state


def machines(state: State) -> list[Record]:
    """The machines, with those that have a public address first, because only they let this host in by SSH.

    Raises UserError if there is none. app-2 comes before app-10.
    """
    public = {record.inputs["instanceId"] for record in state.records(tokens.EIP_ASSOCIATION)}
    found = [record for record in state.records(tokens.INSTANCE) if record.status == "done"]
    found.sort(key=lambda machine: (machine.id not in public, _natural(machine.name)))
    if not found:
        raise UserError(f"stack {state.stack} has no machine; ./rehearse up --stack {state.stack}")
    return found


def _natural(name: str) -> list[str | int]:
    """Key by which the numbers in names are sorted as numbers."""
    return [int(part) if part.isdecimal() else part for part in re.split("([0-9]+)", name)]


def machine_name(state: State, machine: Record) -> str:
    """A machine's name in its stack, such as app-1; its id where the stack has only one machine."""
    return machine_of(f"{_project(machine)}-{state.stack}", machine.name) or machine.id


def rehearsed(root: Path, stack: str) -> Stack:
    """A stack that is up, as the day-to-day commands see it. root: the project. Raises UserError."""
    state = existing_state(stack)
    first, *others = machines(state)
    keys = keys_of(root, stack)
    if not keys.private.is_file():
        raise UserError(f"{keys.private.relative_to(root)}: no such file; ./rehearse up --stack {stack} makes it")
    front = keys.way(first.id, str(first.outputs["primaryIpAddress"]))
    jump = front.command()
    others_ways = (keys.way(each.id, str(each.outputs["primaryIpAddress"]), jump=jump) for each in others)
    ways = [front, *(replace(way, front=front) for way in others_ways)]
    found = [_machine(state, record, way) for record, way in zip((first, *others), ways, strict=True)]
    for member in all_members(Lxd(project_of(stack))):
        if member.is_whole:
            # No rule of the stack lets anybody log in to a member, so the way is this host's own.
            way, sites = keys.way(member.id, member.address), tuple(sorted(sites_of(state)))
            found.append(Machine(member.name, member.id, sites, way, _missing(state, member.id)))
    return Stack(stack, tuple(found), state.outputs, is_rehearsed=True)


def sites_of(state: State) -> set[str]:
    """Sites of the machines of a scaling group, which all have every site of the stack."""
    groups = [group for group in state.records(tokens.SERVER_GROUP) if group.status != "doomed"]
    return {site_of_servers(f"{_project(group)}-{state.stack}", group.name) for group in groups}


def _project(record: Record) -> str:
    """Pulumi's name of the project of a resource."""
    return record.urn.split("::")[1]


def _machine(state: State, record: Record, way: Way) -> Machine:
    server = server_of_instance(record.name)
    parts = (part_of(server, each.name) for each in state.records(tokens.COMMAND) if each.status != "doomed")
    sites = {site_of_part(part) for part in parts if part} - {None}
    name = machine_of(f"{_project(record)}-{state.stack}", record.name) or ONLY_MACHINE
    return Machine(name, record.id, tuple(sorted(map(str, sites))), way, _missing(state, record.id))


def _missing(state: State, machine: str) -> str | None:
    """Why a machine cannot be reached; None if it runs. machine: its id."""
    found = Lxd(project_of(state.stack)).find(f"/1.0/instances/{machine}")
    if found is not None and found["status"] == "Running":
        return None
    status = found["status"].lower() if found else "gone"
    return f"machine {machine} is {status}; ./rehearse up --stack {state.stack} brings it back"


def ssh_command(root: Path, stack: str, name: str | None = None) -> list[str]:
    """The ssh command line for a machine of the stack, through the machine with the public address.

    name: the machine's name in the stack; None for the machine with the public address. Raises UserError.
    """
    try:
        return rehearsed(root, stack).machine(name).way.command()
    except operations_errors.UserError as error:
        raise UserError(str(error)) from None
