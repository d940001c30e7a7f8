"""What is checked on this host before anything is made: its firewall, its disks and its routes."""

from ipaddress import IPv4Network
from pathlib import Path

from rehearsal.cloud import addressing, daemon, firewall, group_bridge, image, space, tokens
from rehearsal.commands.foresee import Preview
from rehearsal.engine.compare import Op
from rehearsal.engine.errors import UserError


def check_host(root: Path, name: str, preview: Preview) -> None:
    """Refuse a host on which the machines would not come up. Raises UserError."""
    # Check the first bridge with machines; bridge 0 is the block.
    firewall.check(group_bridge.bridge_name(name, 1))
    new = [change for change in preview.changes if change.op in (Op.CREATE, Op.REPLACE)]
    machines = sum(change.record.type == tokens.INSTANCE for change in new)
    groups = [change.record.inputs for change in new if change.record.type == tokens.SCALING_GROUP]
    machines += sum(inputs["minSize"] for inputs in groups)
    pool = daemon.current().folder / "storage-pools"
    space.check({pool: machines * space.MACHINE, image.CACHE: space.CACHE, root: space.CHECKOUT})


def check_routes(name: str, preview: Preview) -> None:
    """Refuse a network that this host has no room for. Raises UserError."""
    networks = [IPv4Network(vpc.inputs["cidrBlock"]) for vpc in preview.records(tokens.VPC)]
    routes = [route for route in addressing.routes() if not group_bridge.BRIDGE.fullmatch(route[1])]
    for cidr in networks:
        if addressing.free_part(cidr, addressing.BLOCK, [network for network, _ in routes]) is None:
            over = next(f"{network} by {device}" for network, device in routes if network.overlaps(cidr))
            raise UserError(
                f"stacks/Pulumi.{name}.yaml: network.cidr: this host has routes over all of {cidr}, "
                f"such as {over}; allowed in a rehearsal: a network with a free /{addressing.BLOCK}"
            )
