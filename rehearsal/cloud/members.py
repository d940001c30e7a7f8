"""The members of scaling groups: machines that no record knows, because they come and go without the program.

What is known of a member is in its own config in LXD, so it cannot differ from the machines that there are:

    user.wsgi-ecs.scaling-group, .configuration, .switch   ids
    user.wsgi-ecs.address                                  when it has booted
    user.wsgi-ecs.served                                   when the load balancer has found it healthy once
    user.wsgi-ecs.leaving                                  when it gets no new requests and will be deleted
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rehearsal.cloud.lxd import (
    ADDRESS_TAG,
    CONFIGURATION_TAG,
    LEAVING_TAG,
    SCALING_TAG,
    SERVED_TAG,
    SWITCH_TAG,
    Lxd,
)
from rehearsal.engine.state import Record

# A machine that is paused runs for the cloud, which only notices that the machine does not answer.
_RUNNING = ("Running", "Frozen")


@dataclass(frozen=True)
class Member:
    """A machine of a scaling group.

    id: its name in LXD, <group>-<number>. number: grows with each machine of its group. configuration, switch: ids.
    address: private, "" until it has booted. status: as LXD has it. has_served: whether the load balancer has found it
    healthy. is_leaving: whether it is about to be deleted.
    """

    id: str
    group: str
    number: int
    configuration: str
    switch: str
    address: str
    status: str
    has_served: bool = False
    is_leaving: bool = False

    @property
    def name(self) -> str:
        """Its name in the stack."""
        return f"member-{self.number}"

    @property
    def is_whole(self) -> bool:
        """Whether it has booted and stays. A killed run leaves machines of which neither is sure."""
        return bool(self.address) and not self.is_leaving

    @property
    def runs(self) -> bool:
        return self.status in _RUNNING


def member_id(group: str, number: int) -> str:
    """Name in LXD of a scaling group's machine."""
    return f"{group}-{number}"


def tags(group: str, configuration: str, switch: str) -> dict[str, str]:
    """The config of a member that is made."""
    return {SCALING_TAG: group, CONFIGURATION_TAG: configuration, SWITCH_TAG: switch}


def mark(lxd: Lxd, member: str, key: str, value: str = "true") -> None:
    """Note something of a member. key: ADDRESS_TAG, SERVED_TAG or LEAVING_TAG."""
    lxd.patch(f"/1.0/instances/{member}", {"config": {key: value}})


def all_members(lxd: Lxd, group: str | None = None) -> list[Member]:
    """The members of a stack, or of one of its scaling groups, oldest first. lxd: of the stack's project."""
    found = [_member(machine) for machine in lxd.find("/1.0/instances", recursion="1") or []]
    return sorted(
        (member for member in found if member and group in (None, member.group)),
        key=lambda member: (member.group, member.number),
    )


def _member(machine: Mapping[str, Any]) -> Member | None:
    config = machine["config"]
    if SCALING_TAG not in config:
        return None
    return Member(
        machine["name"],
        config[SCALING_TAG],
        int(machine["name"].rpartition("-")[2]),
        config[CONFIGURATION_TAG],
        config[SWITCH_TAG],
        config.get(ADDRESS_TAG, ""),
        machine["status"],
        SERVED_TAG in config,
        LEAVING_TAG in config,
    )


def servers(groups: Iterable[Record], members: Iterable[Member]) -> dict[str, list[dict[str, Any]]]:
    """Server group of a load balancer → its servers, in the form of a server group's own `servers`.

    groups: records of the scaling groups, whose albServerGroups say which server group and port.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    present = [member for member in members if member.is_whole]
    for server_group, scaling_group, port in _ports(groups):
        found.setdefault(server_group, []).extend(
            {"serverId": member.id, "serverIp": member.address, "port": port}
            for member in present
            if member.group == scaling_group
        )
    return found


def _ports(groups: Iterable[Record]) -> Iterator[tuple[str, str, int]]:
    for group in groups:
        for bound in group.inputs.get("albServerGroups") or ():
            yield bound["albServerGroupId"], group.id, bound["port"]
