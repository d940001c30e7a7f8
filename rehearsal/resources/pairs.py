"""Switch × SecurityGroup → one bridge with one network ACL, on a free part of the stack's block.

    Switch 10.76.0.0/20 ─▶ block 10.76.0.0/24 (NAT) ─┬▶ pair 10.76.0.0/27   front
                                                     └▶ pair 10.76.0.32/27  app

LXD translates what leaves a bridge's own subnet, so pairs that did so themselves would hide
from each other who calls. The block is a bridge without machines, whose subnet holds those of
all pairs: what stays inside keeps its source address, what leaves it is translated.

They cannot live in the stack's LXD project, so they are in the default one: named by a
hash of the stack, tagged with user.wsgi-ecs.* keys, and found by those tags.
"""

import hashlib
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Interface, IPv4Network
from typing import Any

from rehearsal import addressing
from rehearsal.errors import RehearsalError
from rehearsal.lock import exclusive
from rehearsal.lxd import Lxd, settled
from rehearsal.resources.base import Context
from rehearsal.state import Record

TAG = "user.wsgi-ecs."
RULE = "alicloud:ecs/securityGroupRule:SecurityGroupRule"
ADDRESS = "alicloud:ecs/eipAddress:EipAddress"
GROUP = "alicloud:ecs/securityGroup:SecurityGroup"
SWITCH = "alicloud:vpc/switch:Switch"
INSTANCE = "alicloud:ecs/instance:Instance"
# Seconds in which LXD has made a bridge.
_MAKING = 60


@dataclass(frozen=True)
class Pair:
    """A bridge, with an ACL of the same name. address: the gateway's, with the part's prefix."""

    name: str
    switch: str
    group: str
    address: IPv4Interface
    config: Mapping[str, str]

    @property
    def routes(self) -> list[str]:
        """Public addresses that the host finds behind this bridge, as CIDRs."""
        return [route.strip() for route in self.config.get("ipv4.routes", "").split(",") if route]


def of_stack(host: Lxd, stack: str) -> list[Pair]:
    """The stack's pairs, by their tags."""
    found = []
    for name, config in _networks(host, stack).items():
        if f"{TAG}group" in config:
            address = IPv4Interface(config["ipv4.address"])
            found.append(Pair(name, config[f"{TAG}switch"], config[f"{TAG}group"], address, config))
    return found


def _networks(host: Lxd, stack: str) -> dict[str, dict[str, str]]:
    """Name → config of the stack's bridges, pairs and blocks.

    Waits for those that LXD is still making for a run that was killed: deleted before, they would
    leave their dnsmasq behind, which keeps others from their addresses.
    """
    deadline = time.monotonic() + _MAKING
    while True:
        networks = host.get("/1.0/networks", recursion="1")
        found = [network for network in networks if network["config"].get(f"{TAG}stack") == stack]
        if all(network["status"] != "Pending" for network in found) or time.monotonic() > deadline:
            return {network["name"]: network["config"] for network in found}
        time.sleep(0.1)


def ensure(context: Context, switch: str, group: str) -> Pair:
    """The pair of a switch and a security group, made with its first instance."""
    with context.network_lock:
        pairs = of_stack(context.host, context.stack)
        for pair in pairs:
            if (pair.switch, pair.group) == (switch, group):
                return pair
        pair = _make(context, switch, group, pairs)
        # Groups that name this one as their source learn of its addresses.
        sync(context)
    return pair


def _make(context: Context, switch: str, group: str, pairs: list[Pair]) -> Pair:
    record = context.state.by_id(SWITCH, switch)
    if record is None:
        raise RehearsalError(f"vswitch_id {switch} is no switch of this stack")
    with exclusive("addresses"):
        block = _block(context, switch, IPv4Network(record.inputs["cidrBlock"]))
        taken = [other for other in addressing.taken() if other != block]
        part = addressing.free_part(block, addressing.PART, [*taken, IPv4Network(addressing.last(block).ip)])
        if part is None:
            raise RehearsalError(f"no free part in {block}: so many security groups with machines are not rehearsed")
        name = _name(context)
        tags = {f"{TAG}stack": context.stack, f"{TAG}switch": switch, f"{TAG}group": group}
        address = addressing.gateway(part)
        bound = {route for pair in pairs for route in pair.routes}
        public = [f"{record.facts['address']}/32" for record in context.state.records(ADDRESS) if record.facts]
        config = {
            "ipv4.address": str(address),
            "ipv4.nat": "false",
            "ipv6.address": "none",
            # The host must reach a public address through the bridge: on any other way
            # LXD's rules would not see where the packet goes, and let it pass.
            "ipv4.routes": ",".join(route for route in public if route not in bound),
            "security.acls": name,
            "security.acls.default.egress.action": "allow",
            "security.acls.default.ingress.action": "reject",
            **tags,
        }
        if not context.host.find(f"/1.0/network-acls/{name}"):
            context.host.post("/1.0/network-acls", {"name": name, "config": tags})
        context.host.post("/1.0/networks", {"name": name, "type": "bridge", "config": config})
    return Pair(name, switch, group, address, config)


def _block(context: Context, switch: str, cidr: IPv4Network) -> IPv4Network:
    """The stack's block of a switch, made with the switch's first pair."""
    for config in _networks(context.host, context.stack).values():
        if config[f"{TAG}switch"] == switch and f"{TAG}group" not in config:
            return IPv4Interface(config["ipv4.address"]).network
    block = addressing.free_part(cidr, addressing.BLOCK, addressing.taken())
    if block is None:
        raise RehearsalError(
            f"no free /{addressing.BLOCK} in {cidr}: LXD's networks or this host's routes cover it; "
            "set network.cidr to another"
        )
    config = {
        "ipv4.address": str(addressing.last(block)),
        "ipv4.nat": "true",
        "ipv4.dhcp": "false",
        "ipv6.address": "none",
        "dns.mode": "none",
        f"{TAG}stack": context.stack,
        f"{TAG}switch": switch,
    }
    context.host.post("/1.0/networks", {"name": _name(context), "type": "bridge", "config": config})
    return block


# A bridge of a rehearsal.
BRIDGE = re.compile("we[0-9a-f]+-[0-9]+")


def _name(context: Context) -> str:
    """Of a new bridge: one that no network has, nor an ACL of somebody else."""
    used = {network["name"] for network in context.host.get("/1.0/networks", recursion="1")}
    acls = context.host.get("/1.0/network-acls", recursion="1")
    used |= {acl["name"] for acl in acls if acl["config"].get(f"{TAG}stack") != context.stack}
    return next(name for name in (bridge(context.stack, index) for index in range(100)) if name not in used)


def bridge(stack: str, index: int) -> str:
    """The name of one of a stack's bridges, which has 15 characters at most, as any interface."""
    return f"we{hashlib.sha256(stack.encode()).hexdigest()[:8]}-{index}"


def sync(context: Context) -> None:
    """Make the ACLs of all pairs say what the stack's security group rules say."""
    with context.network_lock:
        pairs = of_stack(context.host, context.stack)
        rules = [record.inputs for record in context.state.records(RULE) if record.status != "doomed"]
        for pair in pairs:
            own = [inputs for inputs in rules if inputs["securityGroupId"] == pair.group]
            wanted = acl_rules(own, pair, pairs, public=bool(context.host.get(f"/1.0/networks/{pair.name}/forwards")))
            path = f"/1.0/network-acls/{pair.name}"
            acl = context.host.get(path)
            if _comparable(acl["ingress"]) != _comparable(wanted):
                body = {"description": acl["description"], "config": acl["config"], "egress": [], "ingress": wanted}
                settled(partial(context.host.put, path, body))


def _comparable(rules: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    return sorted(({key: value for key, value in rule.items() if value} for rule in rules), key=str)


def acl_rules(
    rules: Sequence[Mapping[str, Any]], pair: Pair, pairs: Sequence[Pair], public: bool
) -> list[dict[str, str]]:
    """Inputs of a group's SecurityGroupRules → ingress rules of LXD.

    public: a public address leads to the pair, so the rehearsal's own SSH rule comes first.
    """
    own = {"protocol": "tcp", "destination_port": "22", "source": f"{pair.address.ip}/32"}
    found = [{**own, "description": "SSH from the rehearsing host"}] if public else []
    for inputs in rules:
        rule = _protocol(inputs["ipProtocol"]) | _ports(inputs.get("portRange"))
        if inputs.get("description"):
            rule["description"] = inputs["description"]
        if inputs.get("sourceSecurityGroupId"):
            sources = [str(p.address.network) for p in pairs if p.group == inputs["sourceSecurityGroupId"]]
        else:
            cidr = inputs.get("cidrIp", "0.0.0.0/0")
            sources = ["" if cidr == "0.0.0.0/0" else cidr if "/" in cidr else f"{cidr}/32"]
        found += [rule | ({"source": source} if source else {}) for source in sources]
    # LXD refuses two that say the same.
    unique = {str(sorted((k, v) for k, v in rule.items() if k != "description")): rule for rule in reversed(found)}
    return [{"action": "allow", "state": "enabled", **rule} for rule in reversed(unique.values())]


def _protocol(name: str) -> dict[str, str]:
    return {"all": {}, "icmp": {"protocol": "icmp4"}}.get(name, {"protocol": name})


def _ports(text: str | None) -> dict[str, str]:
    """ECS's `80/80` or `8000/8010` → LXD's `80` or `8000-8010`."""
    first, _, last = (text or "-1/-1").partition("/")
    if first == "-1":
        return {}
    return {"destination_port": first if first == last else f"{first}-{last}"}


def route(context: Context, pair: Pair, public: str) -> None:
    """Let the host find a public address behind this bridge, and behind no other of the stack."""
    wanted = f"{public}/32"
    # This bridge last: the host has no two routes to one address.
    for other in sorted(of_stack(context.host, context.stack), key=lambda other: other.name == pair.name):
        routes = [item for item in other.routes if item != wanted]
        if other.name == pair.name:
            routes.append(wanted)
        if sorted(routes) != sorted(other.routes):
            context.host.patch(f"/1.0/networks/{other.name}", {"config": {"ipv4.routes": ",".join(routes)}})


def remove(host: Lxd, pair: Pair) -> None:
    """Delete a pair with its forwards. No instance may be on it."""
    for forward in host.find(f"/1.0/networks/{pair.name}/forwards", recursion="1") or []:
        host.delete(f"/1.0/networks/{pair.name}/forwards/{forward['listen_address']}")
    settled(lambda: host.delete(f"/1.0/networks/{pair.name}"))
    settled(lambda: host.delete(f"/1.0/network-acls/{pair.name}"))
    left = _networks(host, pair.config[f"{TAG}stack"])
    on_switch = [name for name, config in left.items() if config[f"{TAG}switch"] == pair.switch]
    if not any(f"{TAG}group" in left[name] for name in on_switch):
        for block in on_switch:
            host.delete(f"/1.0/networks/{block}")


def leave(context: Context, gone: Record) -> None:
    """Delete the pair of an instance that was deleted, unless another one is on it or about to be."""
    with context.network_lock:
        # Records come before their machines: one that is about to be on the bridge has its record.
        others = [
            other
            for other in context.state.records(INSTANCE)
            if other.serial != gone.serial and other.status != "doomed" and _place(other) == _place(gone)
        ]
        for pair in of_stack(context.host, context.stack):
            if others or (pair.switch, pair.group) != _place(gone):
                continue
            if not context.host.get(f"/1.0/networks/{pair.name}")["used_by"]:
                remove(context.host, pair)
                sync(context)


def _place(instance: Record) -> tuple[str, str]:
    return instance.inputs["vswitchId"], instance.inputs["securityGroups"][0]


def remove_all(host: Lxd, stack: str) -> None:
    """Delete everything of the stack that is tagged, whatever the state knows."""
    for pair in of_stack(host, stack):
        remove(host, pair)
    for block in _networks(host, stack):
        host.delete(f"/1.0/networks/{block}")
    for acl in host.get("/1.0/network-acls", recursion="1"):
        if acl["config"].get(f"{TAG}stack") == stack:
            host.delete(f"/1.0/network-acls/{acl['name']}")
