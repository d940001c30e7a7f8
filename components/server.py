"""One server and its public address.

key pair ─▶ instance ◀─ association ── public address (outlives the instance)
"""

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import pulumi
import pulumi_alicloud as alicloud

from settings import refused
from settings.models import Server as ServerSettings


@dataclass(frozen=True)
class ServerArgs:
    """What a server is made of.

    version: plain text; when it changes, the server is replaced. user_data: cloud-init's, used at
    the first boot only. public_key: OpenSSH public key text.
    """

    settings: ServerSettings
    image_id: str
    user_data: str
    version: str
    public_key: str
    vswitch_id: pulumi.Input[str]
    security_group_id: pulumi.Input[str]
    tags: Mapping[str, str]


def fingerprint(public_key: str) -> str:
    """First 12 hex digits of the SHA-256 of an OpenSSH public key's blob."""
    return hashlib.sha256(base64.b64decode(public_key.split()[1])).hexdigest()[:12]


# Bytes of user data, as the older pages of ECS have it; newer ones say 32 KB.
# https://www.alibabacloud.com/help/en/ecs/user-guide/customize-the-initialization-configuration-for-an-instance
USER_DATA_LIMIT = 16 * 1024


def checked(user_data: str) -> str:
    """User data that ECS takes. Raises pulumi.RunError when it is too large."""
    size = len(user_data.encode())
    if size > USER_DATA_LIMIT:
        raise refused(
            f"server.mirrors, nginx.static: they make {size} bytes of user data; allowed: {USER_DATA_LIMIT}, with fewer"
        )
    return user_data


class Server(pulumi.ComponentResource):
    """Key pair, instance, public address and what binds them."""

    instance_id: pulumi.Output[str]
    address: pulumi.Output[str]

    def __init__(self, name: str, args: ServerArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("wsgi:server:Server", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        key_pair = alicloud.ecs.EcsKeyPair(
            f"{name}-key",
            # A changed key under the same name would be reported as updated and never sent.
            key_pair_name=f"{name}-{fingerprint(args.public_key)}",
            public_key=args.public_key,
            tags=args.tags,
            opts=child,
        )
        instance = alicloud.ecs.Instance(
            f"{name}-instance",
            instance_name=name,
            instance_type=args.settings.instance_type,
            image_id=args.image_id,
            user_data=checked(args.user_data),
            vswitch_id=args.vswitch_id,
            security_groups=[args.security_group_id],
            key_name=key_pair.key_pair_name,
            system_disk_category="cloud_essd",
            system_disk_size=args.settings.disk_gib,
            spot_strategy="SpotAsPriceGo" if args.settings.spot else "NoSpot",
            # Said outright, so that a stopped server is found as drift.
            status="Running",
            tags=args.tags,
            opts=pulumi.ResourceOptions(
                parent=self,
                protect=args.settings.protect,
                # In place, a new image wipes the disk and new user data reboots without taking effect.
                ignore_changes=["image_id", "user_data"],
                replacement_trigger=args.version,
            ),
        )
        address = alicloud.ecs.EipAddress(
            f"{name}-address",
            address_name=name,
            bandwidth=str(args.settings.bandwidth_mbps),
            internet_charge_type="PayByTraffic",
            deletion_protection=False,
            tags=args.tags,
            opts=pulumi.ResourceOptions(parent=self, protect=args.settings.protect),
        )
        association = alicloud.ecs.EipAssociation(
            f"{name}-association",
            allocation_id=address.id,
            instance_id=instance.id,
            # An address that is still bound cannot be bound to the new server.
            opts=pulumi.ResourceOptions(parent=self, delete_before_replace=True),
        )
        self.instance_id = instance.id
        # Known only once the association stands, so that whoever connects to it waits for that.
        self.address = pulumi.Output.all(address.ip_address, association.id).apply(lambda known: known[0])
        self.register_outputs({"instance_id": self.instance_id, "address": self.address})
