"""The program: settings → plan → network, servers, releases. `pulumi up` and `./rehearse up` run this same file."""

from pathlib import Path

import pulumi

import settings
from components import application, archive, balancer, lookup, managed_lookup, network, way_in
from components.disk import data_names, disks
from components.fleet import Fleet
from components.fleet_args import FleetArgs
from components.origin import origins
from components.server import checked
from serving import bootstrap, machines, members
from settings import certificates

stack = settings.load()
lookup.check_provider()
servers, scaled = machines(stack), members(stack)
name = f"{pulumi.get_project()}-{pulumi.get_stack()}"
tags = {"project": pulumi.get_project(), "stack": pulumi.get_stack(), "managed-by": "pulumi"}
given = certificates.given(stack, Path())
for warning in (*stack.system.warnings, *certificates.warnings(given)):
    pulumi.warn(warning)

# All that may be refused comes before the first resource.
zone = lookup.zone(name, stack.server, servers, lookup.kept_zone(disks(name, stack, servers)))
zones = managed_lookup.zones(name, stack, zone, data_names(name, servers))
entrance = balancer.entrance(stack, zone)
image_id = lookup.image(stack.server, stack.system)
way_in.check(name, stack.access)
user_data = {machine.name: checked(bootstrap.user_data(machine.plan, stack)) for machine in (*servers, *scaled)}
for note in (*stack.notes, *application.left_behind(stack)):
    pulumi.info(note)

fleet = Fleet(
    name,
    FleetArgs(
        machines=servers,
        members=scaled,
        stack=stack,
        network=network.planned(stack, servers, scaled, (zone, zones.second), entrance, tags),
        image_id=image_id,
        user_data=user_data,
        archives=archive.build_fleet((*servers, *scaled), stack, Path(".build")),
        origins=origins(stack),
        certificates=given,
        authority=certificates.authority(stack, Path()),
        tags=tags,
        zones=zones,
    ),
)
for key, value in fleet.outputs.items():
    pulumi.export(key, value)
