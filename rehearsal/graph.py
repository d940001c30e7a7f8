"""What a stack builds, as a Mermaid flowchart: who reaches which servers, and in what order they get a release.

sources ──ports──▶ security group (its servers, a disk beside one) ──ports──▶ another security group

https://mermaid.js.org/syntax/flowchart.html
"""

import logging
from collections.abc import Iterable, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

from rehearsal import program
from rehearsal import stack as stacks
from rehearsal.engine import Registration
from rehearsal.errors import RehearsalError, UserError
from rehearsal.keys import NO_KEY
from rehearsal.resources import TYPES
from rehearsal.show import masked
from rehearsal.state import Record

_EVERYBODY = "0.0.0.0/0"


class Registered:
    """Keeps what is registered. Ids and addresses are made of the resources' names, so that they lead back to them."""

    def __init__(self) -> None:
        self.found: list[Registration] = []

    def register(self, wanted: Registration) -> Record:
        try:
            TYPES[wanted.type].check(wanted.inputs)
        except RehearsalError as error:
            raise UserError(f"{wanted.name} ({wanted.type}): {error}") from None
        self.found.append(wanted)
        address = f"{wanted.name}-address"
        outputs = {"ipAddress": address, "primaryIpAddress": address, "zoneId": "zone"}
        return Record(wanted.name, wanted.urn, wanted.type, wanted.name, wanted.name, inputs={}, outputs=outputs)


def graph(root: Path, name: str) -> str:
    """The chart of a stack. Nothing is created; raises UserError as `up` does."""
    config = stacks.load(root, name)
    registered = Registered()
    seen, _ = stacks.overlay(config, NO_KEY, dry=True)
    program.dry(root, seen, registered, logging.Logger("graph", logging.ERROR), preview=False)
    # Whatever order their threads came in.
    return masked(chart(sorted(registered.found, key=lambda one: one.name)), config.secrets)


def chart(found: Iterable[Registration]) -> str:
    """Registrations → the chart's text."""
    kinds: dict[str, list[Registration]] = {}
    for one in found:
        kinds.setdefault(one.type.rpartition(":")[2], []).append(one)
    groups = {one.name: f"g{number}" for number, one in enumerate(kinds.get("SecurityGroup", ()))}
    servers = {one.name: f"s{number}" for number, one in enumerate(kinds.get("Instance", ()))}
    lines = ["flowchart LR"]
    edges: list[str] = []
    sources: dict[str, str] = {}
    for source, target, ports in _rules(kinds.get("SecurityGroupRule", ())):
        if source not in groups and source not in sources:
            sources[source] = f"w{len(sources)}"
            lines.append(f"  {sources[source]}([{_label('everybody' if source == _EVERYBODY else source)}])")
        edges.append(f"  {groups.get(source) or sources[source]} -->|{_label(_ports(ports))}| {groups[target]}")
    cidr = " ".join(str(one.inputs["cidrBlock"]) for one in kinds.get("Network", ()))
    lines.append(f"  subgraph vpc[{_label(f'private network {cidr}')}]")
    for group in kinds.get("SecurityGroup", ()):
        name = group.inputs["securityGroupName"]
        lines.append(f"    subgraph {groups[group.name]}[{_label(f'security group {name}')}]")
        for server in kinds.get("Instance", ()):
            if group.name in server.inputs["securityGroups"]:
                lines.append(f"      {servers[server.name]}[{_label(*_about(server, kinds))}]")
                lines += [f"      {line}" for line in _disks(server, servers[server.name], kinds)]
        lines.append("    end")
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
    for first, last in sorted(tuple(map(int, one.split("/"))) for one in ranges):
        if spans and spans[-1][1] + 1 == first:
            spans[-1][1] = last
        else:
            spans.append([first, last])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in spans)


Kinds = Mapping[str, list[Registration]]


def _about(server: Registration, kinds: Kinds) -> list[str]:
    """Lines about a server: its name, its type, its public address, its sites, and its turn in a release."""
    name = str(server.inputs["instanceName"])
    lines = [name, str(server.inputs["instanceType"])]
    if server.inputs.get("spotStrategy") not in (None, "NoSpot"):
        lines.append("spot")
    bound = {one.inputs["allocationId"] for one in kinds.get("EipAssociation", ()) if _is_of(one, server)}
    for address in kinds.get("EipAddress", ()):
        if address.name in bound:
            lines.append(f"public address, {address.inputs['bandwidth']} Mbit/s")
    sites = [
        copied.name.removeprefix(f"{name}-site-").removesuffix("-archive")
        for copied in kinds.get("CopyToRemote", ())
        if copied.name.startswith(f"{name}-site-")
    ]
    if sites:
        lines.append(f"sites: {', '.join(sites)}" if len(sites) > 1 else f"site: {sites[0]}")
    turns = _turns(kinds)
    if len(turns) > 1:
        lines.append(f"release: step {turns[server.name]} of {max(turns.values())}")
    return lines


def _turns(kinds: Kinds) -> dict[str, int]:
    """Server → after how many others, one after the other, it gets its release, counted from 1."""
    needs: dict[str, set[str]] = {}
    owner = {command.urn: _owner(command, kinds) for command in kinds.get("Command", ())}
    for command in kinds.get("Command", ()):
        # What settles at the end goes to a server that has its release long since.
        if command.name.endswith("-apply"):
            others = {owner[urn] for urn in command.dependencies if urn in owner and urn.endswith("-apply")}
            needs.setdefault(owner[command.urn], set()).update(others - {owner[command.urn]})

    def turn(server: str) -> int:
        return 1 + max(map(turn, needs[server]), default=0)

    return {server: turn(server) for server in needs}


def _owner(command: Registration, kinds: Kinds) -> str:
    """The server that a command runs on."""
    names = {str(server.inputs["instanceName"]): server.name for server in kinds["Instance"]}
    return names[max((name for name in names if command.name.startswith(f"{name}-")), key=len)]


def _disks(server: Registration, key: str, kinds: Kinds) -> list[str]:
    attached = {one.inputs["diskId"] for one in kinds.get("EcsDiskAttachment", ()) if _is_of(one, server)}
    found = [disk for disk in kinds.get("EcsDisk", ()) if disk.name in attached]
    return [f"{key} --- {key}d[({_label('data disk', str(disk.inputs['size']) + ' GiB')})]" for disk in found]


def _is_of(one: Registration, server: Registration) -> bool:
    return bool(one.inputs["instanceId"] == server.name)


def _label(*lines: Any) -> str:
    """Text in quotes, which no character of it ends: https://mermaid.js.org/syntax/flowchart.html#entity-codes-to-escape-characters"""
    return '"' + "<br>".join("".join(map(_character, str(line))) for line in lines) + '"'


def _character(one: str) -> str:
    return one if one.isalnum() or one in " .,:/-_" else f"#{ord(one)};"
