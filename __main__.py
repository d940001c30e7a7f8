"""The program: settings → plan → network, server, release. `pulumi up` and `./rehearse up` run this same file."""

from pathlib import Path

import pulumi

import settings
from components import archive, lookup
from components.network import Network, NetworkArgs, rules
from components.release import Release, ReleaseArgs, outputs
from components.server import Server, ServerArgs
from serving import bootstrap, make_plan, nginx

wanted = settings.load()
plan = make_plan(wanted)
name = f"{pulumi.get_project()}-{pulumi.get_stack()}"
tags = {"project": pulumi.get_project(), "stack": pulumi.get_stack(), "managed-by": "pulumi"}
packed = archive.build_all(plan, wanted, Path(".build"))
for warning in plan.system.warnings:
    pulumi.warn(warning)

network = Network(
    name,
    NetworkArgs(
        cidr=wanted.network.cidr,
        zone=lookup.zone(wanted.server),
        rules=rules(plan.ports, wanted.access.http, wanted.access.ssh),
        tags=tags,
    ),
)
server = Server(
    name,
    ServerArgs(
        settings=wanted.server,
        image_id=lookup.image(wanted.server, plan.system),
        user_data=bootstrap.user_data(plan, wanted),
        version=bootstrap.version(plan, wanted),
        public_key=wanted.access.public_key or "",
        vswitch_id=network.vswitch_id,
        security_group_id=network.security_group_id,
        tags=tags,
    ),
)
release = Release(
    name,
    ReleaseArgs(
        archives=packed,
        env={site.site.name: site.app.env for site in wanted.each},
        files={site.site.name: nginx.secret_files(site) for site in wanted.each},
        address=server.address,
        instance_id=server.instance_id,
        private_key=settings.private_key(wanted),
        host_key=wanted.access.host_key,
    ),
)

for key, value in outputs(plan, server.address, release.ids).items():
    pulumi.export(key, value)
