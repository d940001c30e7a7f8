"""The program: settings → plan → network, servers, releases. `pulumi up` and `./rehearse up` run this same file."""

from pathlib import Path

import pulumi

import settings
from components import lookup
from components.fleet import Fleet, FleetArgs
from components.network import Network, NetworkArgs, groups
from serving import machines
from settings import certificates

wanted = settings.load()
lookup.check_provider()
servers = machines(wanted)
system = servers[0].plan.system
name = f"{pulumi.get_project()}-{pulumi.get_stack()}"
tags = {"project": pulumi.get_project(), "stack": pulumi.get_stack(), "managed-by": "pulumi"}
given = certificates.given(wanted, Path())
for warning in (*system.warnings, *certificates.warnings(given)):
    pulumi.warn(warning)

network = Network(
    name,
    NetworkArgs(
        cidr=wanted.network.cidr,
        zone=lookup.zone(wanted.server, servers),
        groups=groups(servers, wanted.access),
        tags=tags,
    ),
)
fleet = Fleet(
    name,
    FleetArgs(
        machines=servers,
        settings=wanted,
        network=network,
        image_id=lookup.image(wanted.server, system),
        archives=Path(".build"),
        certificates=given,
        tags=tags,
    ),
)
for key, value in fleet.outputs.items():
    pulumi.export(key, value)
