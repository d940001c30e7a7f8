"""The machines of a stack that is up, and how they are reached."""

from pathlib import Path

from contract.resources import machine_of
from rehearsal.cloud import tokens
from rehearsal.cloud.keys import keys_of
from rehearsal.cloud.lxd import Lxd, reachable
from rehearsal.cloud.store import load_state, project_of
from rehearsal.engine.errors import UserError
from rehearsal.engine.state import Record, State


def existing_state(stack: str) -> State:
    """The state of a stack that is up. Raises UserError for any other stack."""
    if not reachable():
        raise UserError("LXD is not running, so no rehearsal is; ./rehearse up starts it")
    state = load_state(stack)
    if not state.exists:
        raise UserError(f"stack {stack} is not up; ./rehearse up --stack {stack}")
    return state


def machines(state: State) -> list[Record]:
    """The machines. Those with a public address come first, because only they let this host in by SSH."""
    public = {record.inputs["instanceId"] for record in state.records(tokens.EIP_ASSOCIATION)}
    found = [record for record in state.records(tokens.INSTANCE) if record.status == "done"]
    found.sort(key=lambda machine: machine.id not in public)
    if not found:
        raise UserError(f"stack {state.stack} has no machine; ./rehearse up --stack {state.stack}")
    return found


def machine_name(state: State, machine: Record) -> str:
    """A machine's name in its stack, such as app-1; its id where the stack has only one machine."""
    project = machine.urn.split("::")[1]
    return machine_of(f"{project}-{state.stack}", machine.name) or machine.id


def ensure_running(state: State, machine: Record) -> None:
    """Raise UserError unless the machine runs."""
    found = Lxd(project_of(state.stack)).find(f"/1.0/instances/{machine.id}")
    if found is None or found["status"] != "Running":
        status = found["status"].lower() if found else "gone"
        raise UserError(f"machine {machine.id} is {status}; ./rehearse up --stack {state.stack} brings it back")


def ssh_command(root: Path, stack: str, name: str | None = None) -> list[str]:
    """The ssh command line for a machine of the stack, through the machine with the public address.

    name: the machine's name in the stack; None for the machine with the public address. Raises UserError.
    """
    state = existing_state(stack)
    first, *others = machines(state)
    by_name = {machine_name(state, machine): machine for machine in (first, *others)}
    machine = by_name.get(name, first) if name else first
    if name and name not in by_name:
        raise UserError(f"stack {stack} has no machine {name}; allowed: {', '.join(by_name)}")
    keys = keys_of(root, stack)
    if not keys.private.is_file():
        raise UserError(f"{keys.private.relative_to(root)}: no such file; ./rehearse up --stack {stack} makes it")
    ensure_running(state, machine)
    jump = () if machine is first else keys.ssh(first.id, str(first.outputs["primaryIpAddress"]))
    return keys.ssh(machine.id, str(machine.outputs["primaryIpAddress"]), jump=jump)
