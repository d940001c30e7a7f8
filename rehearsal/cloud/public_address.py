"""A public address that leads to a machine: a network forward of LXD, and the route of this host to it."""

from collections.abc import Sequence

from rehearsal.cloud import group_bridge, tokens
from rehearsal.cloud.context import CloudContext
from rehearsal.cloud.group_bridge import GroupBridge
from rehearsal.cloud.lxd import STACK_TAG
from rehearsal.engine.errors import RehearsalError


def of_allocation(context: CloudContext, allocation: str) -> str:
    """The address of an allocation. Raises RehearsalError for one that the stack does not have."""
    record = context.state.by_id(tokens.EIP_ADDRESS, allocation)
    if record is None:
        raise RehearsalError(f"allocation_id {allocation} is no address of this stack")
    return str(record.facts["address"])


def bridge_named(context: CloudContext, name: str) -> GroupBridge:
    """One of the stack's bridges."""
    return next(bridge for bridge in group_bridge.of_stack(context.host, context.stack) if bridge.name == name)


def check_free(context: CloudContext, public: str) -> None:
    """Refuse an address that leads to a machine. Raises RehearsalError."""
    if forwards(context, public):
        raise RehearsalError(f"IncorrectEipStatus: {public} is bound already; use delete_before_replace")


def bind(context: CloudContext, bridge: GroupBridge, public: str, private: str, description: str) -> None:
    """Lead an address to a machine on a bridge. The caller has the network's lock, and writes the ACLs."""
    # Move the route first: LXD refuses a forward on an address that is routed to another bridge.
    group_bridge.route(context, bridge, public)
    config = {"target_address": private, STACK_TAG: context.stack}
    context.host.post(
        f"/1.0/networks/{bridge.name}/forwards",
        {"listen_address": public, "description": description, "config": config},
    )


def unbind(context: CloudContext, addresses: Sequence[str]) -> None:
    """Lead addresses nowhere."""
    with context.network_lock:
        for path in (path for public in addresses for path in forwards(context, public)):
            context.host.delete(path)
        group_bridge.write_acls(context)


def forwards(context: CloudContext, public: str) -> list[str]:
    """API paths of the forwards of an address."""
    bridges = group_bridge.of_stack(context.host, context.stack)
    paths = [f"/1.0/networks/{bridge.name}/forwards/{public}" for bridge in bridges]
    return [path for path in paths if context.host.find(path)]
