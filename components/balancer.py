"""The load balancer of the cloud (ALB), its public addresses, and the certificates that it has.

address in each of two zones ─▶ load balancer          certificate in CAS: another name for another certificate
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pulumi
import pulumi_alicloud as alicloud

from components.lookup import ask
from components.network import Place
from settings import StackSettings, refused
from settings.certificates import Given
from settings.server import Server as ServerSettings

# Characters of a certificate's name in CAS.
_NAME = 64


def entrance(stack: StackSettings, zone: str) -> tuple[str, Sequence[str]] | None:
    """Addresses of a stack's load balancer, and the ids of its two zones; None for a stack without one.

    zone: of the servers, which is one of the two if it can be. Raises pulumi.RunError where the region has no two.
    """
    if not stack.topology.is_balanced:
        return None
    offered = [str(found) for found in ask(alicloud.alb.get_zones).ids]
    if len(offered) < 2:
        raise refused(
            f"topology.entrance: this region has ALB in {', '.join(offered) or 'no zone'}, and alb needs two zones; "
            "allowed: nginx (or another alicloud:region)"
        )
    first, second, *_ = sorted(offered, key=lambda each: each != zone)
    return stack.network.balancer_cidr, (first, second)


def fingerprint(certificate: Given) -> str:
    """Return what tells a certificate from the next one of its domain."""
    return hashlib.sha256(certificate.certificate.encode()).hexdigest()[:12]


@dataclass(frozen=True)
class BalancerArgs:
    """What a load balancer is made of.

    cidr: its addresses in the network. places: zone and switch of each of its halves. settings: of its addresses in
    the world. certificates: domain → its certificate and private key.
    """

    vpc_id: pulumi.Input[str]
    cidr: str
    places: Sequence[Place]
    settings: ServerSettings
    certificates: Mapping[str, Given]
    tags: Mapping[str, str]


class Balancer(pulumi.ComponentResource):
    """addresses: one in each zone, for A records. dns_name: for a CNAME. certificate_ids: by their domains."""

    load_balancer_id: pulumi.Output[str]
    addresses: list[pulumi.Output[str]]
    dns_name: pulumi.Output[str]
    certificate_ids: dict[str, pulumi.Output[str]]

    def __init__(self, name: str, args: BalancerArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("wsgi:balancer:Balancer", name, None, opts)
        addresses = [
            alicloud.ecs.EipAddress(
                f"{name}-entrance-{number}-address",
                address_name=f"{name}-entrance-{number}",
                bandwidth=str(args.settings.bandwidth_mbps),
                internet_charge_type="PayByTraffic",
                deletion_protection=False,
                tags=args.tags,
                opts=pulumi.ResourceOptions(parent=self, protect=args.settings.protect),
            )
            for number, _ in enumerate(args.places, 1)
        ]
        balancer = alicloud.alb.LoadBalancer(
            f"{name}-balancer",
            load_balancer_name=name,
            load_balancer_edition="Standard",
            load_balancer_billing_config={"pay_type": "PayAsYouGo"},
            address_type="Internet",
            # Unset, it would be read back as another one, which replaces the load balancer.
            address_allocated_mode="Fixed",
            address_ip_version="IPv4",
            vpc_id=args.vpc_id,
            zone_mappings=[
                {"zone_id": zone, "vswitch_id": switch, "allocation_id": address.id, "eip_type": "Common"}
                for (zone, switch), address in zip(args.places, addresses, strict=True)
            ],
            tags=args.tags,
            opts=pulumi.ResourceOptions(
                parent=self,
                protect=args.settings.protect,
                # They are read back with addresses of the network, which would differ for ever.
                ignore_changes=["zone_mappings"],
                # Nothing else would say that its switches are others, which the cloud deletes only without it.
                replacement_trigger=args.cidr,
                # An address that is still bound cannot be bound to the next load balancer.
                delete_before_replace=True,
            ),
        )
        self.load_balancer_id = balancer.id
        self.addresses = [address.ip_address for address in addresses]
        self.dns_name = balancer.dns_name
        made = {fingerprint(each): self._certificate(name, fingerprint(each), each) for each in unique(args)}
        self.certificate_ids = {domain: made[fingerprint(each)] for domain, each in args.certificates.items()}
        self.register_outputs({"addresses": self.addresses, "dns_name": self.dns_name})

    def _certificate(self, name: str, digits: str, given: Given) -> pulumi.Output[str]:
        """Hand a certificate to CAS. Returns the id by which a listener names it."""
        made = alicloud.cas.ServiceCertificate(
            # CAS changes no certificate: a listener gets the next one before this one is deleted.
            f"{name}-certificate-{digits}",
            certificate_name=f"{name[: _NAME - 1 - len(digits)]}-{digits}",
            cert=given.certificate,
            key=pulumi.Output.secret(given.private_key.get_secret_value()),
            opts=pulumi.ResourceOptions(parent=self, additional_secret_outputs=["key"]),
        )
        # CAS has two places of its own, whichever the region is.
        region = alicloud.config.region or "cn-hangzhou"
        place = "cn-hangzhou" if region.startswith("cn-") else "ap-southeast-1"
        return pulumi.Output.concat(made.id, "-", place)


def unique(args: BalancerArgs) -> list[Given]:
    """The certificates, each once, though it may be that of several domains."""
    return list({fingerprint(each): each for each in args.certificates.values()}.values())
