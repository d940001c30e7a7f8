"""The private network and who may enter it.

VPC ── switch (in a zone that offers the instance type), and on request one in a second zone, and two for a balancer
 └──── security group for each kind of machine: one described rule for each port and source, in place of a firewall
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network

import pulumi
import pulumi_alicloud as alicloud

from serving import Machine
from settings import StackSettings
from settings.server import Access

# Zone and id of a switch.
Place = tuple[pulumi.Output[str], pulumi.Output[str]]


@dataclass(frozen=True)
class Rule:
    """TCP port that `source` may reach, and why. source: a CIDR, or the name of a group."""

    port: int
    source: str
    description: str

    @property
    def name(self) -> str:
        return f"{self.port}-from-{self.source.replace('/', '-') or 'site'}"


def groups(
    machines: Sequence[Machine],
    access: Access,
    metrics_port: int | None = None,
    balancer: str | None = None,
    members: Sequence[Machine] = (),
) -> dict[str, list[Rule]]:
    """Name of a security group → its rules.

    The world reaches the first machine alone, which reaches the others; a service is the application's alone.
    metrics_port: which access.metrics reaches on every machine, None for none. balancer: the addresses that alone may
    reach the sites, None without a balancer. members: servers that come and go, which nobody logs in to.
    """
    first = machines[0]
    with_app = sorted({machine.group for machine in (*machines, *members) if machine.plan.role in ("whole", "app")})
    callers_of_site = [balancer] if balancer else access.http
    found = {
        first.group: [
            *(Rule(port, cidr, f"The site, from {cidr}") for port in first.plan.ports for cidr in callers_of_site),
            *(Rule(22, cidr, f"SSH for releases, from {cidr}") for cidr in access.ssh),
        ]
    }
    way = "the first machine" if balancer else "nginx's machine"
    for machine in machines[1:]:
        service = machine.plan.service
        callers = with_app if service else [balancer or first.group]
        what = (
            "Queries, from the application" if service else f"Requests, from {'the balancer' if balancer else 'nginx'}"
        )
        found[machine.group] = [
            *(Rule(port, caller, what) for port in machine.plan.ports for caller in callers),
            Rule(22, first.group, f"SSH for releases, by way of {way}"),
        ]
    for machine in members:
        found[machine.group] = [
            Rule(port, caller, "Requests, from the balancer")
            for port in machine.plan.ports
            for caller in callers_of_site
        ]
    if metrics_port:
        for rules in found.values():
            rules += [Rule(metrics_port, cidr, f"Metrics, from {cidr}") for cidr in access.metrics]
    return found


@dataclass(frozen=True)
class NetworkArgs:
    """cidr: addresses of the network. zone: zone id of the switch. groups: what may come in; nothing else may.

    after: what must be there before. standby: addresses and zone id of a second switch, None for none. entrance:
    addresses of a balancer, and its two zones, None for none.
    """

    cidr: str
    zone: str
    groups: Mapping[str, Sequence[Rule]]
    tags: Mapping[str, str]
    after: Sequence[pulumi.Resource] = ()
    standby: tuple[str, str] | None = None
    entrance: tuple[str, Sequence[str]] | None = None


def planned(
    stack: StackSettings,
    machines: Sequence[Machine],
    members: Sequence[Machine],
    zones: tuple[str, str | None],
    entrance: tuple[str, Sequence[str]] | None,
    tags: Mapping[str, str],
) -> NetworkArgs:
    """The network of a stack. zones: of its servers, and of what is in a second one, None for nothing there.

    entrance: as in NetworkArgs.
    """
    zone, standby = zones
    return NetworkArgs(
        cidr=stack.network.cidr,
        zone=zone,
        groups=groups(machines, stack.access, stack.metrics.port, entrance and entrance[0], members),
        tags=tags,
        standby=(stack.network.second_cidr, standby) if standby else None,
        entrance=entrance,
    )


class Network(pulumi.ComponentResource):
    """VPC, switches and security groups. zone: the switch's own. group_ids: by their names.

    standby: zone and id of the second switch, None without one. entrance: those of the balancer's switches.
    """

    vpc_id: pulumi.Output[str]
    vswitch_id: pulumi.Output[str]
    zone: pulumi.Output[str]
    group_ids: dict[str, pulumi.Output[str]]
    standby: Place | None = None
    entrance: Sequence[Place] = ()

    def __init__(self, name: str, args: NetworkArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("wsgi:network:Network", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        vpc = alicloud.vpc.Network(
            f"{name}-vpc",
            vpc_name=name,
            cidr_block=args.cidr,
            tags=args.tags,
            # In place, the new switch would overlap the old one, which the cloud refuses half-way.
            opts=pulumi.ResourceOptions(parent=self, replace_on_changes=["cidr_block"], depends_on=args.after),
        )
        switch = alicloud.vpc.Switch(
            f"{name}-switch",
            vswitch_name=name,
            vpc_id=vpc.id,
            cidr_block=args.cidr,
            zone_id=args.zone,
            tags=args.tags,
            # The zone is looked up; a newly preferred one is no reason to rebuild the network.
            opts=pulumi.ResourceOptions(parent=self, ignore_changes=["zone_id"]),
        )
        self.vpc_id = vpc.id
        self.vswitch_id = switch.id
        self.zone = switch.zone_id
        if args.standby:
            cidr, zone = args.standby
            (self.standby,) = self._beside(f"{name}-standby", args, vpc, cidr, {f"{name}-standby": zone})
        if args.entrance:
            cidr, zones = args.entrance
            named = {f"{name}-entrance-{number}": zone for number, zone in enumerate(zones, 1)}
            self.entrance = self._beside(f"{name}-entrance", args, vpc, cidr, named)
        self.group_ids = {}
        for group in args.groups:
            made = alicloud.ecs.SecurityGroup(
                f"{name}-{group}-group" if group else f"{name}-group",
                security_group_name=f"{name}-{group}" if group else name,
                description="What may reach the servers; everything else is refused",
                vpc_id=vpc.id,
                # The servers of one group do not reach each other either.
                inner_access_policy="Drop",
                tags=args.tags,
                opts=child,
            )
            self.group_ids[group] = made.id
        self._rules(name, args)
        self.register_outputs({"vswitch_id": self.vswitch_id, "group_ids": self.group_ids})

    def _rules(self, name: str, args: NetworkArgs) -> None:
        """Say what may come into each group."""
        for group, rules in args.groups.items():
            for rule in rules:
                is_group = rule.source in self.group_ids
                alicloud.ecs.SecurityGroupRule(
                    f"{name}-{group}-{rule.name}" if group else f"{name}-{rule.name}",
                    security_group_id=self.group_ids[group],
                    type="ingress",
                    ip_protocol="tcp",
                    port_range=f"{rule.port}/{rule.port}",
                    cidr_ip=None if is_group else rule.source,
                    source_security_group_id=self.group_ids[rule.source] if is_group else None,
                    nic_type="intranet",
                    policy="accept",
                    priority=1,
                    description=rule.description,
                    opts=pulumi.ResourceOptions(parent=self),
                )

    def _beside(
        self, name: str, args: NetworkArgs, vpc: alicloud.vpc.Network, cidr: str, zones: Mapping[str, str]
    ) -> list[Place]:
        """Make switches that share other addresses. zones: name of each switch → its zone.

        The first switch has all addresses of the VPC, and with fewer it would be replaced, with all servers.
        """
        block = alicloud.vpc.Ipv4CidrBlock(
            f"{name}-cidr",
            vpc_id=vpc.id,
            secondary_cidr_block=cidr,
            opts=pulumi.ResourceOptions(parent=self),
        )
        parts = IPv4Network(cidr).subnets(prefixlen_diff=len(zones) - 1)
        switches = [
            alicloud.vpc.Switch(
                f"{switch}-switch",
                vswitch_name=switch,
                vpc_id=vpc.id,
                cidr_block=str(part),
                zone_id=zone,
                tags=args.tags,
                opts=pulumi.ResourceOptions(parent=self, ignore_changes=["zone_id"], depends_on=[block]),
            )
            for (switch, zone), part in zip(zones.items(), parts, strict=True)
        ]
        return [(switch.zone_id, switch.id) for switch in switches]
