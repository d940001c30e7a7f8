"""What a stack builds, as a Mermaid flowchart: who reaches which servers, and in what order they get a release.

sources ──ports──▶ security group (its servers, a disk beside one) ──ports──▶ another security group
       └──ports──▶ load balancer ──ports──▶ security group

https://mermaid.js.org/syntax/flowchart.html
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from ipaddress import IPv4Network
from itertools import groupby
from pathlib import Path
from typing import Any

from contract.resources import HOST_PART, archive_resource, is_apply, part_of, site_of_part
from rehearsal.cloud import machine, tokens
from rehearsal.cloud.keys import NO_KEY
from rehearsal.cloud.registry import PROVIDER, TYPES
from rehearsal.commands import overlay, stack_file
from rehearsal.commands.foresee import BUILD
from rehearsal.commands.rendered_files import archive_name, has_redis, host_of
from rehearsal.commands.show import masked
from rehearsal.engine import program
from rehearsal.engine.errors import RehearsalError, UserError
from rehearsal.engine.registration import Registration
from rehearsal.engine.state import Record

_EVERYBODY = "0.0.0.0/0"
# Type token → registrations.
Kinds = Mapping[str, list[Registration]]


class Registered:
    """Keeps all registrations. Ids and addresses are made from the resources' names, which they lead back to.

    Every server is one of an earlier version, whose host key needs no proof.
    """

    def __init__(self) -> None:
        self.found: list[Registration] = []

    def records(self, *types: str) -> list[Record]:
        """The chart is of the settings, whatever exists."""
        return []

    def register(self, registration: Registration) -> Record:
        try:
            TYPES[registration.type].check(registration.inputs)
        except RehearsalError as error:
            raise UserError(f"{registration.name} ({registration.type}): {error}") from None
        self.found.append(registration)
        name, address = registration.name, f"{registration.name}-address"
        outputs = {
            "ipAddress": address,
            "primaryIpAddress": address,
            "connectionString": address,
            "connectionDomain": address,
            "mountTargetDomain": address,
            "zoneId": "zone",
            "userData": "",
            "stdout": NO_KEY,
        }
        return Record(name, registration.urn, registration.type, name, name, inputs={}, outputs=outputs)


def graph(root: Path, name: str) -> str:
    """The chart of a stack. Nothing is created. Raises UserError as `up` does."""
    config = stack_file.load(root, name)
    registered = Registered()
    own, _ = overlay.with_key(config, NO_KEY)
    program.dry(root, own, registered, PROVIDER, logging.Logger("graph", logging.ERROR), preview=False)
    # Sort by name, because threads register resources in any order.
    found = sorted(registered.found, key=lambda each: each.name)
    return masked(chart(found, lambda copied: has_redis(host_of(root / BUILD / archive_name(copied)))), config.secrets)


def chart(found: Iterable[Registration], is_with_redis: Callable[[Registration], bool]) -> str:
    """Registrations → the chart's text. is_with_redis: whether an archive is of a server that has Redis."""
    kinds: dict[str, list[Registration]] = {token: [] for token in TYPES}
    for registration in found:
        kinds[registration.type].append(registration)
    groups = {group.name: f"g{number}" for number, group in enumerate(kinds[tokens.SECURITY_GROUP])}
    servers = {server.name: f"s{number}" for number, server in enumerate(kinds[tokens.INSTANCE])}
    lines = ["flowchart LR"]
    edges: list[str] = []
    # The addresses of a load balancer are the load balancer.
    sources = {_block_of(balancer, kinds): f"b{number}" for number, balancer in enumerate(kinds[tokens.LOAD_BALANCER])}
    for source, target, ports in _rules(kinds[tokens.SECURITY_GROUP_RULE]):
        if source not in groups and source not in sources:
            sources[source] = f"w{len(sources)}"
            lines.append(f"  {sources[source]}([{_label('everybody' if source == _EVERYBODY else source)}])")
        edges.append(f"  {groups.get(source) or sources[source]} -->|{_label(_ports(ports))}| {groups[target]}")
    cidr = " ".join(str(vpc.inputs["cidrBlock"]) for vpc in kinds[tokens.VPC])
    lines.append(f"  subgraph vpc[{_label(f'private network {cidr}')}]")
    for group in kinds[tokens.SECURITY_GROUP]:
        name = group.inputs["securityGroupName"]
        lines.append(f"    subgraph {groups[group.name]}[{_label(f'security group {name}')}]")
        for server in kinds[tokens.INSTANCE]:
            if group.name in server.inputs["securityGroups"]:
                lines.append(f"      {servers[server.name]}[{_label(*_about(server, kinds, is_with_redis))}]")
                lines += [f"      {line}" for line in _disks(server, servers[server.name], kinds)]
        lines += [f"      a{number}[{_label(*words)}]" for number, words in _scaling_groups(group, kinds)]
        lines.append("    end")
    for number, database in enumerate(kinds[tokens.RDS_INSTANCE]):
        lines.append(f"    r{number}[({_label(*_about_database(database))})]")
    for number, redis in enumerate(kinds[tokens.REDIS_INSTANCE]):
        lines.append(f"    k{number}[({_label(*_about_redis(redis))})]")
    for number, balancer in enumerate(kinds[tokens.LOAD_BALANCER]):
        listeners = [each for each in kinds[tokens.LISTENER] if _is_at(each, balancer)]
        numbers = sorted(int(each.inputs["listenerPort"]) for each in listeners)
        lines.append(f"    b{number}[{_label(*_about_balancer(balancer, kinds))}]")
        everybody = sources.setdefault(_EVERYBODY, f"w{len(sources)}")
        lines.insert(1, f"  {everybody}([{_label('everybody')}])")
        edges.append(f"  {everybody} -->|{_label(', '.join(map(str, numbers)))}| b{number}")
    edges += _told(kinds, servers)
    for number, file_system in enumerate(kinds[tokens.NAS_FILE_SYSTEM]):
        about = _label(f"NAS {file_system.inputs['description']}", "data of the sites")
        lines.append(f"    n{number}[({about})]")
        scaled = [f"a{other}" for other, _ in enumerate(kinds[tokens.SCALING_GROUP])]
        lines += [f"    {key} --- n{number}" for key in (*(servers[name] for name in _mounting(kinds)), *scaled)]
    return "\n".join([*lines, "  end", *edges])


def _rules(rules: Iterable[Registration]) -> list[tuple[str, str, list[str]]]:
    """Source (a CIDR or a group), group that it reaches, and the ports."""

    def ends(rule: Registration) -> tuple[str, str]:
        inputs = rule.inputs
        return str(inputs.get("cidrIp") or inputs["sourceSecurityGroupId"]), str(inputs["securityGroupId"])

    ordered = sorted(rules, key=ends)
    return [(*key, [str(rule.inputs["portRange"]) for rule in several]) for key, several in groupby(ordered, ends)]


def _ports(ranges: Iterable[str]) -> str:
    """`80/80`, `3031/3031`, `3032/3032` → `80, 3031-3032`."""
    spans: list[list[int]] = []
    for first, last in sorted(tuple(map(int, span.split("/"))) for span in ranges):
        if spans and spans[-1][1] + 1 == first:
            spans[-1][1] = last
        else:
            spans.append([first, last])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in spans)


def _about(server: Registration, kinds: Kinds, is_with_redis: Callable[[Registration], bool]) -> list[str]:
    """Lines about a server: its name, its type, its public address, its sites, Redis, and its turn in a release."""
    name = str(server.inputs["instanceName"])
    lines = [name, str(server.inputs["instanceType"])]
    if server.inputs.get("spotStrategy") not in (None, "NoSpot"):
        lines.append("spot")
    associations = [each for each in kinds[tokens.EIP_ASSOCIATION] if _is_of(each, server)]
    bound = {association.inputs["allocationId"] for association in associations}
    for address in kinds[tokens.EIP_ADDRESS]:
        if address.name in bound:
            lines.append(f"public address, {address.inputs['bandwidth']} Mbit/s")
    parts = [part_of(name, copied.name) for copied in kinds[tokens.COPY_TO_REMOTE]]
    sites = [site for part in parts if part and (site := site_of_part(part)) is not None]
    if sites:
        lines.append(f"sites: {', '.join(sites)}" if len(sites) > 1 else f"site: {sites[0]}")
    host = archive_resource(name, HOST_PART)
    if any(copied.name == host and is_with_redis(copied) for copied in kinds[tokens.COPY_TO_REMOTE]):
        lines.append("Redis")
    turns = _turns(kinds)
    # The release host takes no release itself.
    if len(turns) > 1 and server.name in turns:
        lines.append(f"release: step {turns[server.name]} of {max(turns.values())}")
    return lines


def _scaling_groups(group: Registration, kinds: Kinds) -> Iterator[tuple[int, list[str]]]:
    """Number of each scaling group with machines in a security group, and lines about it: its name, size and types."""
    for number, scaling in enumerate(kinds[tokens.SCALING_GROUP]):
        for configuration in kinds[tokens.SCALING_CONFIGURATION]:
            inputs = configuration.inputs
            if inputs["scalingGroupId"] == scaling.name and group.name in inputs["securityGroupIds"]:
                fewest, most = scaling.inputs["minSize"], scaling.inputs["maxSize"]
                size = f"{fewest}–{most} servers" if fewest != most else f"{most} servers"
                yield number, [str(scaling.inputs["scalingGroupName"]), size, ", ".join(inputs["instanceTypes"])]


def _about_database(database: Registration) -> list[str]:
    """Lines about a managed database: its name, its class, its storage, and whether it has a standby."""
    inputs = database.inputs
    lines = [f"RDS {inputs['instanceName']}", str(inputs["instanceType"]), f"{inputs['instanceStorage']} GiB"]
    return [*lines, "standby in a second zone"] if inputs.get("zoneIdSlaveA") else lines


def _about_redis(redis: Registration) -> list[str]:
    """Lines about a managed Redis: its name, its class, and whether its standby is in a second zone."""
    inputs = redis.inputs
    lines = [f"Tair {inputs['dbInstanceName']}", str(inputs["instanceClass"])]
    return [*lines, "standby in a second zone"] if inputs.get("secondaryZoneId") else lines


def _is_at(listener: Registration, balancer: Registration) -> bool:
    return bool(listener.inputs["loadBalancerId"] == balancer.name)


def _block_of(balancer: Registration, kinds: Kinds) -> str:
    """The CIDR that holds a load balancer's switches."""
    names = {mapping["vswitchId"] for mapping in balancer.inputs["zoneMappings"]}
    own = [IPv4Network(each.inputs["cidrBlock"]) for each in kinds[tokens.SWITCH] if each.name in names]
    blocks = [str(each.inputs["secondaryCidrBlock"]) for each in kinds[tokens.IPV4_CIDR_BLOCK]]
    return next(block for block in blocks if all(each.subnet_of(IPv4Network(block)) for each in own))


def _about_balancer(balancer: Registration, kinds: Kinds) -> list[str]:
    """Lines about a load balancer: its name, its zones, and its addresses."""
    mappings = balancer.inputs["zoneMappings"]
    ids = {mapping["allocationId"] for mapping in mappings}
    speeds = [str(each.inputs["bandwidth"]) for each in kinds[tokens.EIP_ADDRESS] if each.name in ids]
    addresses = [f"public address in each of {len(mappings)} zones, {speeds[0]} Mbit/s"]
    return [f"ALB {balancer.inputs['loadBalancerName']}", *addresses]


def _told(kinds: Kinds, servers: Mapping[str, str]) -> list[str]:
    """Who is told by what looks at the public server from outside; nothing of a stack without alarms."""
    bound = {each.inputs["instanceId"] for each in kinds[tokens.EIP_ASSOCIATION]}
    return [
        f"  m0([{_label('CloudMonitor', contact.inputs['channelsMail'])}]) -.-> {servers[name]}"
        for contact in kinds[tokens.ALARM_CONTACT]
        for name in sorted(bound)
    ]


def _mounting(kinds: Kinds) -> list[str]:
    """Names of the servers that mount the file system: a rule has their address, or their user data name its own.

    Both addresses are made from names.
    """
    sources = {rule.inputs["sourceCidrIp"] for rule in kinds[tokens.NAS_ACCESS_RULE]}
    targets = [f"{target.name}-address" for target in kinds[tokens.NAS_MOUNT_TARGET]]
    return [
        server.name
        for server in kinds[tokens.INSTANCE]
        if f"{server.name}-address" in sources
        or any(target in machine.unpacked(server.inputs.get("userData") or "") for target in targets)
    ]


def _turns(kinds: Kinds) -> dict[str, int]:
    """Server → its turn in a release, counted from 1: servers with the same turn get the release at the same time."""
    applied = {command.urn: command for command in kinds[tokens.COMMAND] if is_apply(command.name)}
    owners = {urn: _owner(command, kinds) for urn, command in applied.items()}
    needs: dict[str, set[str]] = {}
    for urn, command in applied.items():
        before = {owners[other] for other in command.dependencies if other in owners}
        needs.setdefault(owners[urn], set()).update(before - {owners[urn]})

    def turn(server: str) -> int:
        return 1 + max(map(turn, needs[server]), default=0)

    return {server: turn(server) for server in needs}


def _owner(command: Registration, kinds: Kinds) -> str:
    """The server that an apply command runs on. One server's name may begin with the name of another one."""
    names = {str(server.inputs["instanceName"]): server.name for server in kinds[tokens.INSTANCE]}
    return names[max((name for name in names if part_of(name, command.name)), key=len)]


def _disks(server: Registration, key: str, kinds: Kinds) -> list[str]:
    attached = {each.inputs["diskId"] for each in kinds[tokens.DISK_ATTACHMENT] if _is_of(each, server)}
    found = [disk for disk in kinds[tokens.DISK] if disk.name in attached]
    return [f"{key} --- {key}d[({_label('data disk', str(disk.inputs['size']) + ' GiB')})]" for disk in found]


def _is_of(bound: Registration, server: Registration) -> bool:
    """Whether an association or attachment is the server's."""
    return bool(bound.inputs["instanceId"] == server.name)


def _label(*lines: Any) -> str:
    """Text in quotes; escaped, so that no character of it ends the text: https://mermaid.js.org/syntax/flowchart.html#entity-codes-to-escape-characters"""
    return '"' + "<br>".join("".join(map(_character, str(line))) for line in lines) + '"'


def _character(letter: str) -> str:
    return letter if letter.isalnum() or letter in " .,:/-_" else f"#{ord(letter)};"
