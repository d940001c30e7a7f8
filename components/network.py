"""The private network and who may enter it.

VPC ── switch (in a zone that offers the instance type)
 └──── security group: one described rule for each port and source, in place of a firewall
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pulumi
import pulumi_alicloud as alicloud


@dataclass(frozen=True)
class Rule:
    """TCP port that a CIDR may reach, and why."""

    port: int
    cidr: str
    description: str

    @property
    def name(self) -> str:
        return f"{self.port}-from-{self.cidr.replace('/', '-')}"


def rules(ports: Sequence[int], http: Sequence[str], ssh: Sequence[str]) -> list[Rule]:
    """The site's ports from the CIDRs of `http`, SSH from those of `ssh`."""
    return [
        *(Rule(port, cidr, f"The site, from {cidr}") for port in ports for cidr in http),
        *(Rule(22, cidr, f"SSH for releases, from {cidr}") for cidr in ssh),
    ]


@dataclass(frozen=True)
class NetworkArgs:
    """cidr: addresses of the network. zone: zone id of the switch. rules: what may come in; nothing else may."""

    cidr: str
    zone: str
    rules: Sequence[Rule]
    tags: Mapping[str, str]


class Network(pulumi.ComponentResource):
    """VPC, switch and security group."""

    vswitch_id: pulumi.Output[str]
    security_group_id: pulumi.Output[str]

    def __init__(self, name: str, args: NetworkArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("wsgi:network:Network", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        vpc = alicloud.vpc.Network(f"{name}-vpc", vpc_name=name, cidr_block=args.cidr, tags=args.tags, opts=child)
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
        group = alicloud.ecs.SecurityGroup(
            f"{name}-group",
            security_group_name=name,
            description="What may reach the servers; everything else is refused",
            vpc_id=vpc.id,
            tags=args.tags,
            opts=child,
        )
        for rule in args.rules:
            alicloud.ecs.SecurityGroupRule(
                f"{name}-{rule.name}",
                security_group_id=group.id,
                type="ingress",
                ip_protocol="tcp",
                port_range=f"{rule.port}/{rule.port}",
                cidr_ip=rule.cidr,
                nic_type="intranet",
                policy="accept",
                priority=1,
                description=rule.description,
                opts=child,
            )
        self.vswitch_id = switch.id
        self.security_group_id = group.id
        self.register_outputs({"vswitch_id": switch.id, "security_group_id": group.id})
