"""The data disk of a server, which outlives it.

disk ── attachment ── instance
"""

from collections.abc import Mapping
from dataclasses import dataclass

import pulumi
import pulumi_alicloud as alicloud

from contract.resources import disk_resource


@dataclass(frozen=True)
class DiskArgs:
    """zone: id of the zone that the instance is in. gib: size, which can only grow.

    protect: refuse to delete it. encrypted: encrypt it as it is created. ready: what is there before the instance can
    use the disk; until then the one before it has it.
    """

    zone: pulumi.Input[str]
    instance_id: pulumi.Input[str]
    ready: pulumi.Resource
    gib: int
    protect: bool
    encrypted: bool
    tags: Mapping[str, str]


class Disk(pulumi.ComponentResource):
    """An ESSD and its attachment."""

    def __init__(self, name: str, args: DiskArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("wsgi:disk:Disk", name, None, opts)
        disk = alicloud.ecs.EcsDisk(
            disk_resource(name),
            disk_name=name,
            category="cloud_essd",
            size=args.gib,
            # Without `online`, a larger size would have no effect until a restart.
            type="online",
            zone_id=args.zone,
            payment_type="PayAsYouGo",
            delete_with_instance=False,
            encrypted=args.encrypted or None,
            tags=args.tags,
            # A disk can neither move to another zone nor be encrypted later: it would be replaced by an empty disk.
            opts=pulumi.ResourceOptions(parent=self, protect=args.protect, ignore_changes=["zone_id", "encrypted"]),
        )
        alicloud.ecs.EcsDiskAttachment(
            f"{name}-attachment",
            disk_id=disk.id,
            instance_id=args.instance_id,
            delete_with_instance=False,
            # A disk is attached to one instance at a time.
            opts=pulumi.ResourceOptions(parent=self, delete_before_replace=True, depends_on=[args.ready]),
        )
        self.register_outputs({})
