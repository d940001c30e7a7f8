"""What a stack exports: where it is reached, what serves, and what was said of its releases."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

import pulumi

from components.balancer import Balancer
from components.fleet_args import FleetArgs
from components.login import Login
from components.managed import Managed
from components.release import Release
from components.rollout import Rollout
from components.scaling import Members
from components.server import Server
from components.shared_data import SharedData
from contract.resources import MACHINES, ONLY_MACHINE, SHARED_DATA
from serving import Machine, public_sites
from settings import StackSettings


@dataclass(frozen=True)
class Engines:
    """What the cloud runs for a stack, None for what the stack does not have."""

    managed: Managed
    store: SharedData | None
    balancer: Balancer | None
    members: Members | None

    def outputs(self) -> dict[str, pulumi.Input[Any]]:
        """Return where the engines are."""
        found: dict[str, pulumi.Input[Any]] = {}
        if self.managed.mysql:
            found["database"] = self.managed.mysql.host
        if self.managed.redis:
            found["redis"] = self.managed.redis.host
        if self.store:
            found[SHARED_DATA] = self.store.address
        if self.balancer:
            found |= {"addresses": self.balancer.addresses, "dns_name": self.balancer.dns_name}
        if self.members:
            found["scaling_group"] = self.members.group_id
        return found


def exports(
    args: FleetArgs,
    servers: Mapping[str, Server],
    logins: Mapping[str, Login],
    releases: Mapping[str, Release | Rollout],
    world: pulumi.Output[str],
    engines: Engines,
) -> dict[str, pulumi.Input[Any]]:
    """The outputs of a stack. servers, logins, releases: by a machine's name.

    world: the address at which the sites are. Of several sites `url` and `release` are the first one's. `machines` is
    for operations/.
    """
    stack, machines, serving = args.stack, args.machines, args.serving
    first = machines[0]
    address, last = servers[first.name].address, releases[serving.name]
    edited = [_on(machine, release.edited_by_hand) for machine, release in releases.items()]
    found = urls(stack, serving, world)
    site = serving.plan.sites[0].place.name
    several = {"urls": found, "releases": dict(last.ids)} if len(found) > 1 else {}
    addresses = {service.verb: servers[service.machine].address for service in stack.services}
    warnings = pulumi.Output.all(*(_on(machine, release.warnings) for machine, release in releases.items()))
    may_warn = any(
        site.release.after or site.release.pin or (site.release.before and stack.has_app_servers)
        for site in stack.sites
    )
    ssh = pulumi.Output.concat("ssh root@", address)
    return {
        **{"url": found[site], "address": address, "ssh": ssh, "release": last.ids[site]},
        MACHINES: [_reached(machine, servers[machine.name], logins[machine.name]) for machine in machines],
        **several,
        **addresses,
        **engines.outputs(),
        "edited_by_hand": pulumi.Output.all(*edited).apply(lambda each: list(chain.from_iterable(each))),
        **({"warnings": warnings.apply(lambda each: list(chain.from_iterable(each)))} if may_warn else {}),
    }


def urls(stack: StackSettings, serving: Machine, world: pulumi.Output[str]) -> dict[str, pulumi.Output[str]]:
    """Site's name → its URL. serving: as FleetArgs has it. world: the address of all."""
    return {site.place.name: world.apply(site.url) for site in public_sites(stack, serving)}


def _reached(machine: Machine, server: Server, login: Login) -> dict[str, pulumi.Input[Any]]:
    """A machine in the output `machines`."""
    return {
        "name": machine.name or ONLY_MACHINE,
        "id": server.instance_id,
        "private_address": server.private_address,
        "host_key": pulumi.Output.from_input(login.host_key).apply(lambda key: " ".join(key.split()[:2])),
        "sites": [site.place.name for site in machine.plan.sites],
    }


def _on(machine: str, lines: pulumi.Output[list[str]]) -> pulumi.Output[list[str]]:
    """Lines with the machine that they are of, where there are several."""
    return lines.apply(lambda found: [f"{machine}: {line}" if machine else line for line in found])
