"""Switch × SecurityGroup → one bridge with one network ACL, on a free part of the switch's CIDR.

They cannot live in the stack's LXD project, so they are in the default one: named by a
hash of the stack, tagged with user.wsgi-ecs.* keys, and found by those tags.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Interface
from typing import Any

from rehearsal import addressing
from rehearsal.errors import RehearsalError
from rehearsal.lock import exclusive
from rehearsal.lxd import Lxd, settled
from rehearsal.resources.base import Context

TAG = "user.wsgi-ecs."
RULE = "alicloud:ecs/securityGroupRule:SecurityGroupRule"
ADDRESS = "alicloud:ecs/eipAddress:EipAddress"
SWITCH = "alicloud:vpc/switch:Switch"


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
    for network in host.get("/1.0/networks", recursion="1"):
        config = network["config"]
        if config.get(f"{TAG}stack") == stack:
            address = IPv4Interface(config["ipv4.address"])
            found.append(Pair(network["name"], config[f"{TAG}switch"], config[f"{TAG}group"], address, config))
    return found


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
    context.say(f"SSH from this host ({pair.address.ip}/32) is let in beside the stack's own rules")
    return pair


def _make(context: Context, switch: str, group: str, pairs: list[Pair]) -> Pair:
    record = context.state.by_id(SWITCH, switch)
    if record is None:
        raise RehearsalError(f"vswitch_id {switch} is no switch of this stack")
    with exclusive("addresses"):
        cidr = record.inputs["cidrBlock"]
        part = addressing.free_part(cidr, addressing.taken())
        if part is None:
            raise RehearsalError(
                f"no free part in {cidr}: LXD's networks or this host's routes cover it; set network.cidr to another"
            )
        name = _name(context.stack, pairs)
        tags = {f"{TAG}stack": context.stack, f"{TAG}switch": switch, f"{TAG}group": group}
        address = addressing.gateway(part)
        bound = {route for pair in pairs for route in pair.routes}
        public = [f"{record.facts['address']}/32" for record in context.state.records(ADDRESS) if record.facts]
        config = {
            "ipv4.address": str(address),
            "ipv4.nat": "true",
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


def _name(stack: str, pairs: list[Pair]) -> str:
    # An interface's name has 15 characters at most.
    token = hashlib.sha256(stack.encode()).hexdigest()[:8]
    used = {pair.name for pair in pairs}
    return next(name for name in (f"we{token}-{index}" for index in range(100)) if name not in used)


def sync(context: Context) -> None:
    """Make the ACLs of all pairs say what the stack's security group rules say."""
    with context.network_lock:
        pairs = of_stack(context.host, context.stack)
        rules = [(record.inputs, record.name) for record in context.state.records(RULE) if record.status != "doomed"]
        for pair in pairs:
            wanted = acl_rules([inputs for inputs, _ in rules if inputs["securityGroupId"] == pair.group], pair, pairs)
            path = f"/1.0/network-acls/{pair.name}"
            acl = context.host.get(path)
            if _comparable(acl["ingress"]) != _comparable(wanted):
                body = {"description": acl["description"], "config": acl["config"], "egress": [], "ingress": wanted}
                settled(partial(context.host.put, path, body))


def _comparable(rules: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    return sorted(({key: value for key, value in rule.items() if value} for rule in rules), key=str)


def acl_rules(rules: Sequence[Mapping[str, Any]], pair: Pair, pairs: Sequence[Pair]) -> list[dict[str, str]]:
    """Inputs of a group's SecurityGroupRules → ingress rules of LXD, the rehearsal's own SSH rule first."""
    own = {"protocol": "tcp", "destination_port": "22", "source": f"{pair.address.ip}/32"}
    found = [{**own, "description": "SSH from the rehearsing host"}]
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
    for other in of_stack(context.host, context.stack):
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


def remove_all(host: Lxd, stack: str) -> None:
    """Delete everything of the stack that is tagged, whatever the state knows."""
    for pair in of_stack(host, stack):
        remove(host, pair)
    for acl in host.get("/1.0/network-acls", recursion="1"):
        if acl["config"].get(f"{TAG}stack") == stack:
            host.delete(f"/1.0/network-acls/{acl['name']}")
