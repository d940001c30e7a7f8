"""The program: settings → plan → network, servers, releases. `pulumi up` and `./rehearse up` run this same file."""

from pathlib import Path

import pulumi

import settings
from components import archive, lookup
from components.fleet import Fleet, FleetArgs
from components.network import Network, NetworkArgs, groups
from components.server import checked
from serving import bootstrap, machines
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

# All that may be refused comes before the first resource.
zone = lookup.zone(wanted.server, servers)
image_id = lookup.image(wanted.server, system)
user_data = {each.name: checked(bootstrap.user_data(each.plan, wanted)) for each in servers}
archives = {each.name: archive.build_all(each.plan, wanted, Path(".build")) for each in servers}

network = Network(
    name,
    NetworkArgs(
        cidr=wanted.network.cidr,
        zone=zone,
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
        image_id=image_id,
        user_data=user_data,
        archives=archives,
        certificates=given,
        tags=tags,
    ),
)
for key, value in fleet.outputs.items():
    pulumi.export(key, value)
