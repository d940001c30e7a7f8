"""Rules of a security group → ingress rules of an LXD network ACL."""

from collections.abc import Mapping, Sequence
from typing import Any


def ingress_rules(
    rules: Sequence[Mapping[str, Any]], gateway: str, sources: Mapping[str, Sequence[str]], reached: bool
) -> list[dict[str, str]]:
    """Inputs of a group's SecurityGroupRules → rules of LXD.

    gateway: address by which this host reaches the group's machines. sources: other group → CIDRs of its machines.
    reached: whether this host logs in to the machines, because a public address leads to them or they are members of a
    scaling group; then it gets a rule for SSH, the first one.
    """
    own = {"protocol": "tcp", "destination_port": "22", "source": f"{gateway}/32"}
    found = [{**own, "description": "SSH from the rehearsing host"}] if reached else []
    for inputs in rules:
        rule = _protocol(inputs["ipProtocol"]) | _ports(inputs.get("portRange"))
        if inputs.get("description"):
            rule["description"] = inputs["description"]
        found += [rule | ({"source": cidr} if cidr else {}) for cidr in _cidrs(inputs, sources)]
    # LXD refuses two rules that differ only in their description.
    unique = {str(sorted((k, v) for k, v in rule.items() if k != "description")): rule for rule in reversed(found)}
    return [{"action": "allow", "state": "enabled", **rule} for rule in reversed(unique.values())]


def _cidrs(inputs: Mapping[str, Any], sources: Mapping[str, Sequence[str]]) -> Sequence[str]:
    """CIDRs that a rule lets in, "" for everybody."""
    if inputs.get("sourceSecurityGroupId"):
        return sources.get(inputs["sourceSecurityGroupId"], ())
    cidr = inputs.get("cidrIp", "0.0.0.0/0")
    return ["" if cidr == "0.0.0.0/0" else cidr if "/" in cidr else f"{cidr}/32"]


def _protocol(name: str) -> dict[str, str]:
    return {"all": {}, "icmp": {"protocol": "icmp4"}}.get(name, {"protocol": name})


def _ports(text: str | None) -> dict[str, str]:
    """ECS's `80/80` or `8000/8010` → LXD's `80` or `8000-8010`."""
    first, _, last = (text or "-1/-1").partition("/")
    if first == "-1":
        return {}
    return {"destination_port": first if first == last else f"{first}-{last}"}
