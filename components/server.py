"""One server and its public address.

key pair ─▶ instance ◀─ association ── public address (outlives the instance)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pulumi
import pulumi_alicloud as alicloud

from components import first_contact
from contract.resources import USER_DATA_LIMIT, instance_resource
from serving import store
from settings import refused
from settings.server import Server as ServerSettings


@dataclass(frozen=True)
class ServerArgs:
    """What a server is made of.

    address_name: of its address in the world, which another server may have next; None for none. version: plain
    text; when it changes, the server is replaced. user_data: cloud-init's, used at the first boot only, which get the
    secret of the first contact. key_pair: the key that may log in. after: what must be there before.
    """

    settings: ServerSettings
    instance_type: str
    address_name: str | None
    image_id: str
    user_data: pulumi.Input[str]
    version: str
    key_pair: alicloud.ecs.EcsKeyPair
    vswitch_id: pulumi.Input[str]
    security_group_id: pulumi.Input[str]
    tags: Mapping[str, str]
    after: Sequence[pulumi.Resource] = ()


def checked(user_data: str) -> str:
    """User data that ECS takes. Raises pulumi.RunError when it is too large."""
    size = len(store.longest(user_data).encode())
    if size > USER_DATA_LIMIT:
        raise refused(
            f"server.mirrors, server.packages, nginx.static: they make {size} bytes of user data; "
            f"allowed: {USER_DATA_LIMIT}, with fewer"
        )
    return user_data


class Server(pulumi.ComponentResource):
    """Instance, public address and what binds them. private_address: in the network.

    user_data: those that the server was made with, which may be an earlier version's; secret.
    """

    instance_id: pulumi.Output[str]
    address: pulumi.Output[str]
    private_address: pulumi.Output[str]
    user_data: pulumi.Output[str | None]

    def __init__(self, name: str, args: ServerArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("wsgi:server:Server", name, None, opts)
        instance = alicloud.ecs.Instance(
            instance_resource(name),
            instance_name=name,
            instance_type=args.instance_type,
            image_id=args.image_id,
            user_data=first_contact.introduced(args.user_data),
            vswitch_id=args.vswitch_id,
            security_groups=[args.security_group_id],
            key_name=args.key_pair.key_pair_name,
            system_disk_category="cloud_essd",
            system_disk_size=args.settings.disk_gib,
            # Nothing where it is off: an input that was not there before would be a change of every server.
            system_disk_encrypted=args.settings.encrypted or None,
            # These stay unset where no token is required, as above. The endpoint must be named with the tokens.
            http_endpoint="enabled" if args.settings.requires_tokens else None,
            http_tokens="required" if args.settings.requires_tokens else None,
            spot_strategy="SpotAsPriceGo" if args.settings.spot else "NoSpot",
            # Name the status, so that Pulumi reports a stopped server as drift.
            status="Running",
            tags=args.tags,
            opts=pulumi.ResourceOptions(
                parent=self,
                protect=args.settings.protect,
                depends_on=args.after,
                # In place, a new image wipes the disk and new user data reboots without taking effect.
                # A disk that exists cannot be encrypted: the server would be replaced. What reads the metadata of a
                # server that exists may know no tokens.
                ignore_changes=["image_id", "user_data", "system_disk_encrypted", "http_endpoint", "http_tokens"],
                replacement_trigger=args.version,
                additional_secret_outputs=["user_data"],
            ),
        )
        self.instance_id = instance.id
        self.user_data = instance.user_data
        self.private_address = instance.primary_ip_address
        self.address = instance.primary_ip_address
        if args.address_name:
            self.address = self._public(args.address_name, args, instance)
        self.register_outputs({"instance_id": self.instance_id, "address": self.address})

    def _public(self, name: str, args: ServerArgs, instance: alicloud.ecs.Instance) -> pulumi.Output[str]:
        address = alicloud.ecs.EipAddress(
            f"{name}-address",
            address_name=name,
            bandwidth=str(args.settings.bandwidth_mbps),
            internet_charge_type="PayByTraffic",
            deletion_protection=False,
            tags=args.tags,
            opts=pulumi.ResourceOptions(parent=self, protect=args.settings.protect, depends_on=[args.key_pair]),
        )
        association = alicloud.ecs.EipAssociation(
            f"{name}-association",
            allocation_id=address.id,
            instance_id=instance.id,
            # An address that is still bound cannot be bound to the new server.
            opts=pulumi.ResourceOptions(parent=self, delete_before_replace=True),
        )
        # The address is known only after the association, so that every connection waits for the association.
        return pulumi.Output.all(address.ip_address, association.id).apply(lambda known: known[0])
