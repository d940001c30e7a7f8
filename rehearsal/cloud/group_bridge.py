"""A security group's machines on one switch share a bridge with a network ACL, on a free part of the stack's block.

    switch 10.76.0.0/20 ─▶ block 10.76.0.0/24 (NAT) ─┬▶ bridge 10.76.0.0/27   group front
                                                     └▶ bridge 10.76.0.32/27  group app

LXD translates the source of what leaves a bridge's own subnet, so bridges with NAT would hide callers from each other.
The block is a bridge without machines whose subnet contains the subnets of all these bridges: traffic inside keeps its
source address, and traffic that leaves the block is translated.

Networks and ACLs cannot be kept in the stack's LXD project, so they are in the default project. Their names contain a
hash of the stack, and they are found by their user.wsgi-ecs.* tags.
"""

import hashlib
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Interface, IPv4Network

from rehearsal.cloud import acl, addressing, daemon, tokens
from rehearsal.cloud.context import CloudContext
from rehearsal.cloud.lock import host_lock
from rehearsal.cloud.lxd import GROUP_TAG, STACK_TAG, SWITCH_TAG, Lxd, retry_busy
from rehearsal.engine.errors import RehearsalError
from rehearsal.engine.state import Record

# Name of a rehearsal's bridge.
BRIDGE = re.compile("we[0-9a-f]+-[0-9]+")
# Type of an engine that the cloud runs → the port on which it answers.
_PORTS = {tokens.RDS_INSTANCE: 3306, tokens.REDIS_INSTANCE: 6379}
# Seconds in which LXD has made a bridge.
_MAKING = 60
# Seconds in which what fails by other machines' coming and going is tried again.
_RACES = 5


@dataclass(frozen=True)
class GroupBridge:
    """A bridge, with an ACL of the same name. switch, group: ids. address: the gateway's, with the part's prefix."""

    name: str
    switch: str
    group: str
    address: IPv4Interface
    config: Mapping[str, str]

    @property
    def routes(self) -> list[str]:
        """Public addresses that the host routes to this bridge, as CIDRs."""
        return [route.strip() for route in self.config.get("ipv4.routes", "").split(",") if route]


def of_stack(host: Lxd, stack: str) -> list[GroupBridge]:
    """The stack's bridges with machines, by their tags."""
    found = []
    for name, config in _networks(host, stack).items():
        if GROUP_TAG in config:
            address = IPv4Interface(config["ipv4.address"])
            found.append(GroupBridge(name, config[SWITCH_TAG], config[GROUP_TAG], address, config))
    return found


def _networks(host: Lxd, stack: str) -> dict[str, dict[str, str]]:
    """Name → config of the stack's bridges, including blocks.

    Waits for bridges that LXD is still making for a killed run. If they were deleted earlier, their dnsmasq would be
    left behind and keep other bridges from its addresses.
    """
    deadline = time.monotonic() + _MAKING
    while True:
        networks = host.get("/1.0/networks", recursion="1")
        found = [network for network in networks if network["config"].get(STACK_TAG) == stack]
        if all(network["status"] != "Pending" for network in found) or time.monotonic() > deadline:
            return {network["name"]: network["config"] for network in found}
        time.sleep(0.1)


def ensure(context: CloudContext, switch: str, group: str) -> GroupBridge:
    """The bridge of a switch and a security group, which is made with its first instance."""
    with context.network_lock:
        bridges = of_stack(context.host, context.stack)
        for bridge in bridges:
            if (bridge.switch, bridge.group) == (switch, group):
                return bridge
        bridge = _make(context, switch, group, bridges)
        # Rules of other groups may name this group as their source, so they need its addresses.
        write_acls(context)
    return bridge


def _make(context: CloudContext, switch: str, group: str, bridges: list[GroupBridge]) -> GroupBridge:
    record = context.state.by_id(tokens.SWITCH, switch)
    if record is None:
        raise RehearsalError(f"vswitch_id {switch} is no switch of this stack")
    with host_lock("addresses"):
        block = _block(context, switch, IPv4Network(record.inputs["cidrBlock"]))
        taken = [other for other in addressing.taken() if other != block]
        part = addressing.free_part(block, addressing.PART, [*taken, IPv4Network(addressing.last(block).ip)])
        if part is None:
            raise RehearsalError(f"no free part in {block}: so many security groups with machines are not rehearsed")
        name = _new_name(context)
        tags = {STACK_TAG: context.stack, SWITCH_TAG: switch, GROUP_TAG: group}
        address = addressing.gateway(part)
        bound = {route for bridge in bridges for route in bridge.routes}
        addresses = context.state.records(tokens.EIP_ADDRESS)
        public = [f"{record.facts['address']}/32" for record in addresses if record.facts]
        config = {
            "ipv4.address": str(address),
            "ipv4.nat": "false",
            "ipv6.address": "none",
            # The host must reach a public address through the bridge, because LXD's rules cannot see the destination
            # of a packet that comes another way, and let it pass.
            "ipv4.routes": ",".join(route for route in public if route not in bound),
            "security.acls": name,
            "security.acls.default.egress.action": "allow",
            "security.acls.default.ingress.action": "reject",
            **tags,
        }
        if not context.host.find(f"/1.0/network-acls/{name}"):
            context.host.post("/1.0/network-acls", {"name": name, "config": tags})
        _create(context.host, name, config)
    return GroupBridge(name, switch, group, address, config)


def _block(context: CloudContext, switch: str, cidr: IPv4Network) -> IPv4Network:
    """The stack's block of a switch, which is made with the switch's first bridge."""
    for config in _networks(context.host, context.stack).values():
        if config[SWITCH_TAG] == switch and GROUP_TAG not in config:
            return IPv4Interface(config["ipv4.address"]).network
    block = addressing.free_part(cidr, addressing.BLOCK, addressing.taken())
    if block is None:
        raise RehearsalError(
            f"no free /{addressing.BLOCK} in {cidr}: {daemon.name()}'s networks or this host's routes cover it; "
            "set network.cidr to another"
        )
    config = {
        "ipv4.address": str(addressing.last(block)),
        "ipv4.nat": "true",
        "ipv4.dhcp": "false",
        "ipv6.address": "none",
        "dns.mode": "none",
        STACK_TAG: context.stack,
        SWITCH_TAG: switch,
    }
    _create(context.host, _new_name(context), config)
    return block


def _create(host: Lxd, name: str, config: Mapping[str, str]) -> None:
    """Make a bridge. Incus looks at all interfaces of the host then, and fails if one goes away meanwhile."""

    def create() -> None:
        if host.find(f"/1.0/networks/{name}"):
            # A failed attempt leaves it.
            host.delete(f"/1.0/networks/{name}")
        host.post("/1.0/networks", {"name": name, "type": "bridge", "config": config})

    retry_busy(create, _RACES)


def _new_name(context: CloudContext) -> str:
    """A name for a bridge that no network has, and no ACL of somebody else."""
    used = {network["name"] for network in context.host.get("/1.0/networks", recursion="1")}
    acls = context.host.get("/1.0/network-acls", recursion="1")
    used |= {each["name"] for each in acls if each["config"].get(STACK_TAG) != context.stack}
    return next(name for name in (bridge_name(context.stack, index) for index in range(100)) if name not in used)


def bridge_name(stack: str, index: int) -> str:
    """Name of one of a stack's bridges. Like any interface name, it has at most 15 characters."""
    return f"we{hashlib.sha256(stack.encode()).hexdigest()[:8]}-{index}"


def write_acls(context: CloudContext) -> None:
    """Make the ACLs of all bridges say what the stack's security group rules say."""
    with context.network_lock:
        bridges = of_stack(context.host, context.stack)
        # LXD translates what leaves the block of another switch, but only after the ACL has let it in.
        sources: dict[str, list[str]] = {}
        for bridge in bridges:
            sources.setdefault(bridge.group, []).append(str(bridge.address.network))
        records = context.state.records(tokens.SECURITY_GROUP_RULE)
        rules = [record.inputs for record in records if record.status != "doomed"]
        for engine in context.state.records(*_PORTS):
            rules += _of_engine(engine, bridges)
        for listener in context.state.records(tokens.LISTENER):
            rules += _of_listener(listener) if listener.status != "doomed" else []
        scaled = {
            group
            for configuration in context.state.records(tokens.SCALING_CONFIGURATION)
            for group in configuration.inputs["securityGroupIds"]
        }
        for bridge in bridges:
            own = [inputs for inputs in rules if inputs["securityGroupId"] == bridge.group]
            # No release needs a way to the members of a scaling group, and this host looks at them.
            is_reached = bridge.group in scaled or bool(context.host.get(f"/1.0/networks/{bridge.name}/forwards"))
            ingress = acl.ingress_rules(own, str(bridge.address.ip), sources, is_reached)
            path = f"/1.0/network-acls/{bridge.name}"
            old = context.host.get(path)
            if _comparable(old["ingress"]) != _comparable(ingress):
                body = {"description": old["description"], "config": old["config"], "egress": [], "ingress": ingress}
                retry_busy(partial(context.host.put, path, body))


def _of_engine(engine: Record, bridges: Sequence[GroupBridge]) -> list[dict[str, str]]:
    """The allow list of an engine of the cloud, as rules of a group that has its id.

    This host has an address on each bridge and is no machine of the network, so a part of the list that holds the
    bridges lets in what comes from the others.
    """
    port = f"{_PORTS[engine.type]}/{_PORTS[engine.type]}"
    rule = {"securityGroupId": engine.id, "ipProtocol": "tcp", "portRange": port}
    others = [bridge.address.network for bridge in bridges if bridge.group != engine.id]
    found: list[str] = []
    for cidr in engine.inputs["securityIps"]:
        within = [str(network) for network in others if network.subnet_of(IPv4Network(cidr))]
        found += within or [cidr]
    return [{**rule, "cidrIp": cidr} for cidr in dict.fromkeys(found)]


def _of_listener(listener: Record) -> list[dict[str, str]]:
    """The port of a listener, as a rule of a group that has the load balancer's id."""
    port = f"{listener.inputs['listenerPort']}/{listener.inputs['listenerPort']}"
    group = listener.inputs["loadBalancerId"]
    return [{"securityGroupId": group, "ipProtocol": "tcp", "portRange": port, "cidrIp": "0.0.0.0/0"}]


def _comparable(rules: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    return sorted(({key: value for key, value in rule.items() if value} for rule in rules), key=str)


def route(context: CloudContext, bridge: GroupBridge, public: str) -> None:
    """Route a public address to this bridge, and to no other bridge of the stack."""
    cidr = f"{public}/32"
    # Add the new route last, because the host cannot have two routes to one address.
    for other in sorted(of_stack(context.host, context.stack), key=lambda other: other.name == bridge.name):
        routes = [item for item in other.routes if item != cidr]
        if other.name == bridge.name:
            routes.append(cidr)
        if sorted(routes) != sorted(other.routes):
            body = {"config": {"ipv4.routes": ",".join(routes)}}
            retry_busy(partial(context.host.patch, f"/1.0/networks/{other.name}", body), _RACES)


def remove(host: Lxd, bridge: GroupBridge) -> None:
    """Delete a bridge with its forwards. No instance may be on it."""
    for forward in host.find(f"/1.0/networks/{bridge.name}/forwards", recursion="1") or []:
        host.delete(f"/1.0/networks/{bridge.name}/forwards/{forward['listen_address']}")
    retry_busy(lambda: host.delete(f"/1.0/networks/{bridge.name}"))
    retry_busy(lambda: host.delete(f"/1.0/network-acls/{bridge.name}"))
    left = _networks(host, bridge.config[STACK_TAG])
    on_switch = [name for name, config in left.items() if config[SWITCH_TAG] == bridge.switch]
    if not any(GROUP_TAG in left[name] for name in on_switch):
        for block in on_switch:
            host.delete(f"/1.0/networks/{block}")


def leave(context: CloudContext, deleted: Record) -> None:
    """Delete the bridges of a deleted instance or scaling configuration, unless a machine is on one or will be."""
    with context.network_lock:
        # A record is written before its machines are made, so whatever will be on a bridge has its record.
        records = context.state.records(tokens.INSTANCE, tokens.SCALING_CONFIGURATION)
        others = [other for other in records if other.serial != deleted.serial and other.status != "doomed"]
        kept = {place for other in others for place in _places(context, other)}
        for bridge in of_stack(context.host, context.stack):
            place = bridge.switch, bridge.group
            if place in kept or place not in _places(context, deleted):
                continue
            if not context.host.get(f"/1.0/networks/{bridge.name}")["used_by"]:
                remove(context.host, bridge)
                write_acls(context)


def _places(context: CloudContext, record: Record) -> list[tuple[str, str]]:
    """Switch and security group of an instance, or of each machine that a scaling configuration may make."""
    if record.type == tokens.INSTANCE:
        return [(record.inputs["vswitchId"], record.inputs["securityGroups"][0])]
    group = context.state.by_id(tokens.SCALING_GROUP, record.inputs["scalingGroupId"])
    switches = group.inputs["vswitchIds"] if group else []
    return [(switch, record.inputs["securityGroupIds"][0]) for switch in switches]


def remove_all(host: Lxd, stack: str) -> None:
    """Delete every network and ACL that is tagged with the stack, whatever the state knows."""
    for bridge in of_stack(host, stack):
        remove(host, bridge)
    for block in _networks(host, stack):
        host.delete(f"/1.0/networks/{block}")
    for each in host.get("/1.0/network-acls", recursion="1"):
        if each["config"].get(STACK_TAG) == stack:
            host.delete(f"/1.0/network-acls/{each['name']}")
