"""The servers of a stack and what is released to them.

database, Redis ─▶ one app server ─▶ the other app servers, side by side ─▶ the server that the world reaches ─▶ settle
              │                                                          └▶ or the load balancer, whose servers they are
              └─▶ release host ─▶ roll-out to servers that come and go ─▶ scaling group behind the load balancer

An engine of the cloud is there before the first app server, and its old account is deleted after all releases.
"""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pulumi
import pulumi_alicloud as alicloud
import pulumi_command as command

from components import managed, scaled
from components.alarms import Alarms, AlarmsArgs
from components.archive import Archives
from components.balancer import Balancer, BalancerArgs
from components.disk import Disk, DiskArgs, disk_of
from components.exports import Engines, exports, urls
from components.fleet_args import FleetArgs
from components.listeners import Listeners, ListenersArgs, Member
from components.login import Login, LoginArgs
from components.network import Network
from components.release import Release, ReleaseArgs, run_tool, service_secrets
from components.rollout import Rollout
from components.server import Server, ServerArgs
from components.shared_data import SharedData, SharedDataArgs
from contract.resources import MEMBERS, data_name
from serving import Machine, bootstrap, nginx
from serving.documents import has_shared_data
from settings import StackSettings, private_key

# Role of a machine → roles of those that it calls by their names.
_KNOWN = {"whole": ("service",), "front": ("app",), "app": ("service",), "service": (), "release": ()}


def fingerprint(public_key: str) -> str:
    """First 12 hex digits of the SHA-256 of an OpenSSH public key's blob."""
    return hashlib.sha256(base64.b64decode(public_key.split()[1])).hexdigest()[:12]


class Fleet(pulumi.ComponentResource):
    """A release goes to one app server first, and to no other when that one refuses it.

    outputs: what the stack exports; of several sites `url` and `release` are the first one's. `machines` is for
    operations/: name, instance id, private address, host key and sites of each machine, that of `address` first.
    """

    outputs: dict[str, pulumi.Input[Any]]

    def __init__(self, name: str, args: FleetArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("wsgi:fleet:Fleet", name, None, opts)
        first, *others = args.machines
        public_key = args.stack.access.public_key or ""
        key_pair = alicloud.ecs.EcsKeyPair(
            f"{name}-key",
            # A changed key under the same name would be reported as updated and never sent.
            key_pair_name=f"{name}-{fingerprint(public_key)}",
            public_key=public_key,
            tags=args.tags,
            opts=pulumi.ResourceOptions(parent=self),
        )
        # Its name is the stack's: if another state has it in this account, nothing else has been made.
        self._network = Network(name, replace(args.network, after=[key_pair]))
        child = pulumi.ResourceOptions(parent=self)
        cidrs = list(args.cidrs.values())
        self._managed = managed.make(name, args.stack, self._network, args.zones.redis, cidrs, args.tags, child)
        # A release host mounts the file system as it boots.
        self._store = self._shared_data(name, args, {}) if args.members else None
        servers = {machine.name: self._server(name, args, machine, key_pair) for machine in args.machines}
        self._store = self._store or self._shared_data(name, args, servers)
        address = servers[first.name].address
        self._balancer = self._load_balancer(name, args)
        self._world = self._balancer.addresses[0] if self._balancer else address
        front = self._login(name, args, first, servers, key_pair, None)
        behind = {machine.name: self._login(name, args, machine, servers, key_pair, front) for machine in others}
        logins = {first.name: front, **behind}
        services = {
            machine.name: self._release(name, args, machine, servers, logins, self._disks(name, args, machine, logins))
            for machine in others
            if machine.plan.service
        }
        authority = args.authority or _authority(args.stack, services)
        app_servers = [machine for machine in others if not machine.plan.service]
        taken: dict[str, Release | Rollout] = {}
        for machine in [first, *app_servers] if self._balancer else [*app_servers, first]:
            # The server in front waits for all, and any other server for the first that takes the release.
            earlier = list(taken.values())[: None if machine.plan.role == "front" else 1]
            after = [*self._disks(name, args, machine, logins), *services.values(), *earlier]
            taken[machine.name] = self._release(name, args, machine, servers, logins, after, authority)
        if scale := scaled.of(name, args, self):
            after = [*services.values(), *taken.values()]
            taken[MEMBERS] = scale.rollout(self._release_args(args, scale.machine, servers, front, after, authority))
        listeners = self._listeners(name, args, servers, taken)
        members = None
        if scale and listeners and self._store:
            members = scale.members(self._network, listeners, self._store, key_pair, front, [*taken.values()])
        served = [*taken.values(), *([members] if members else [])]
        for machine in others:
            if machine.plan.service:
                self._settle(name, machine, services[machine.name], logins[machine.name], served)
        engines = Engines(self._managed, self._store, self._balancer, members)
        self.outputs = exports(args, servers, logins, {**services, **taken}, self._world, engines)
        self._alarms(name, args, servers)
        self.register_outputs({"address": address})

    def _load_balancer(self, name: str, args: FleetArgs) -> Balancer | None:
        """The load balancer of the cloud, if the stack has it."""
        if not args.stack.topology.is_balanced:
            return None
        network, cidr = self._network, args.stack.network.balancer_cidr
        return Balancer(
            name,
            BalancerArgs(network.vpc_id, cidr, network.entrance, args.stack.server, args.certificates, args.tags),
            pulumi.ResourceOptions(parent=self),
        )

    def _shared_data(self, name: str, args: FleetArgs, servers: Mapping[str, Server]) -> SharedData | None:
        """The file system that the machines with the application share, if the stack has it."""
        if not args.stack.shares_data and not args.members:
            return None
        addresses: dict[str, pulumi.Input[str]] = {
            machine.name: servers[machine.name].private_address
            for machine in args.machines
            if has_shared_data(args.stack, machine.plan.role)
        }
        # Nobody knows the addresses of members beforehand.
        addresses |= args.cidrs if args.members else {}
        # Without the sites' data, it has what the release host needs.
        protect = args.stack.protects_data if args.stack.shares_data else args.stack.server.protect
        return SharedData(
            name,
            SharedDataArgs(args.zones.store, self._network.vswitch_id, addresses, protect, args.tags),
            pulumi.ResourceOptions(parent=self),
        )

    def _alarms(self, name: str, args: FleetArgs, servers: Mapping[str, Server]) -> None:
        """Who is told of what, if the stack has somebody who is."""
        if not args.stack.alarms.email:
            return
        found = urls(args.stack, args.serving, self._world)
        instances = [servers[machine.name].instance_id for machine in args.machines]
        database, redis = (engine.instance_id if engine else None for engine in self._managed)
        opts = pulumi.ResourceOptions(parent=self)
        Alarms(name, AlarmsArgs(args.stack.alarms, found, instances, database, redis), opts)

    def _server(self, name: str, args: FleetArgs, machine: Machine, key_pair: alicloud.ecs.EcsKeyPair) -> Server:
        return Server(
            machine.named(name),
            ServerArgs(
                settings=args.stack.server,
                instance_type=machine.instance_type,
                # One machine or several: the address stays.
                address_name=name if machine is args.machines[0] else None,
                image_id=args.image_id,
                user_data=scaled.user_data(args, machine, self._store),
                version=bootstrap.version(machine.plan, args.stack),
                key_pair=key_pair,
                vswitch_id=self._network.vswitch_id,
                security_group_id=self._network.group_ids[machine.group],
                tags=args.tags,
                after=self._store.all_ready if self._store and machine.plan.role == "release" else (),
            ),
            pulumi.ResourceOptions(parent=self),
        )

    def _login(
        self,
        name: str,
        args: FleetArgs,
        machine: Machine,
        servers: Mapping[str, Server],
        key_pair: alicloud.ecs.EcsKeyPair,
        front: Login | None,
    ) -> Login:
        server = servers[machine.name]
        return Login(
            machine.named(name),
            LoginArgs(
                server.address,
                server.instance_id,
                server.user_data,
                key_pair.key_pair_name,
                front,
                private_key(args.stack.access),
                None if front else args.stack.access.host_key,
            ),
            pulumi.ResourceOptions(parent=self),
        )

    def _disks(self, name: str, args: FleetArgs, machine: Machine, logins: Mapping[str, Login]) -> list[Disk]:
        """The data disk of a machine that has one."""
        spec = disk_of(args.stack, machine)
        if spec is None:
            return []
        _, gib, protect = spec
        login = logins[machine.name]
        disk = Disk(
            data_name(machine.named(name)),
            DiskArgs(
                self._network.zone, login.instance_id, login.ready, gib, protect, args.stack.server.encrypted, args.tags
            ),
            pulumi.ResourceOptions(parent=self),
        )
        return [disk]

    def _settle(
        self, name: str, machine: Machine, release: Release, login: Login, after: Sequence[pulumi.Resource]
    ) -> None:
        """When all applications have the password of a service, the one before it ends."""
        assert machine.plan.service is not None  # noqa: S101  Only a service's server has a password.
        command.remote.Command(
            f"{machine.named(name)}-settle",
            connection=login.connection,
            create=run_tool("settle", release.host_id),
            stdin=service_secrets(machine.plan.service),
            triggers=[login.instance_id],
            add_previous_output_in_env=False,
            opts=pulumi.ResourceOptions(parent=self, depends_on=[release, *after]),
        )

    def _release(
        self,
        name: str,
        args: FleetArgs,
        machine: Machine,
        servers: Mapping[str, Server],
        logins: Mapping[str, Login],
        after: Sequence[pulumi.Resource],
        authority: pulumi.Input[str] | None = None,
    ) -> Release:
        release = self._release_args(args, machine, servers, logins[machine.name], after, authority)
        return Release(machine.named(name), release, pulumi.ResourceOptions(parent=self))

    def _listeners(
        self, name: str, args: FleetArgs, servers: Mapping[str, Server], taken: Mapping[str, pulumi.Resource]
    ) -> Listeners | None:
        """What the load balancer does, if the stack has one. taken: release of each server behind it."""
        if not self._balancer:
            return None
        # The members of a scaling group come by themselves.
        own = None if args.members else [Member.of(each, servers[each]) for each in taken]
        after = [] if args.members else [*taken.values()]
        listeners = ListenersArgs(args.stack, self._balancer, self._network.vpc_id, own, args.tags, after)
        return Listeners(name, listeners, pulumi.ResourceOptions(parent=self))

    def _release_args(
        self,
        args: FleetArgs,
        machine: Machine,
        servers: Mapping[str, Server],
        login: Login,
        after: Sequence[pulumi.Resource],
        authority: pulumi.Input[str] | None,
    ) -> ReleaseArgs:
        role = machine.plan.role
        # What the applications need is there before the first release; nginx alone needs none of it.
        has_app = role in ("whole", "app")
        engines = self._managed.all if has_app else ()
        mysql = self._managed.mysql if has_app else None
        shared = self._store if has_shared_data(args.stack, role) else None
        mounted = shared.ready.get(machine.name, shared.all_ready) if shared else []
        is_first = machine.name in ("", MEMBERS, *args.stack.app_servers[:1])
        follows = machine.name in args.stack.app_servers[1:]
        known = [other.name for other in args.machines if other.plan.role in _KNOWN[role]]
        return ReleaseArgs(
            archives=args.archives[machine.name],
            origins=args.origins,
            fronts=_ids(args.archives[args.machines[0].name]) if role == "app" or follows else {},
            pins={site.site.name: site.release.pin for site in args.stack.sites if site.release.pin},
            follows=follows,
            instance_type=machine.instance_type,
            # An application's environment goes where the application runs.
            env={site.site.name: args.stack.env(site) if role != "front" else {} for site in args.stack.sites},
            files={
                site.site.name: nginx.secret_files(site.nginx) if machine.plan.has_nginx else {}
                for site in args.stack.sites
            },
            pip={site.site.name: site.app.pip.secrets if role != "front" else {} for site in args.stack.sites},
            certificates=args.certificates if machine.plan.has_nginx and not self._balancer else {},
            login=login,
            address=self._world,
            hosts={name: servers[name].private_address for name in known},
            after=[*after, *(ready for engine in engines for ready in engine.ready), *mounted],
            service=machine.plan.service,
            authority=authority if role not in ("front", "release") else None,
            found={name: value for engine in engines for name, value in engine.found.items()},
            database=mysql.login if mysql and is_first else None,
            store=shared.address if shared else None,
        )


def _authority(stack: StackSettings, services: Mapping[str, Release]) -> pulumi.Output[str] | None:
    """The certificate of the database, None if the applications reach it without TLS."""
    told = (services[service.machine].certificate for service in stack.services if service.tells_certificate)
    return next(told, None)


def _ids(archives: Archives) -> dict[str, str]:
    """Site's name → id of its release."""
    return {site: archive.id for site, archive in archives.sites.items()}
