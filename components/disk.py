"""The data disk of a server, which outlives it.

disk ── attachment ── instance
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pulumi
import pulumi_alicloud as alicloud

from contract.resources import data_name, disk_resource
from kinds.databases import Database
from serving import Machine
from settings import StackSettings


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


def disks(name: str, stack: StackSettings, machines: Sequence[Machine]) -> dict[str, tuple[str, int]]:
    """Name of each data disk → key and value of its size in GiB."""
    specs = {data_name(machine.named(name)): disk_of(stack, machine) for machine in machines}
    return {disk: spec[:2] for disk, spec in specs.items() if spec}


def data_names(name: str, machines: Sequence[Machine]) -> list[str]:
    """Name that the disk with the sites' data has on each machine with the application, whether it is there or not."""
    return [data_name(machine.named(name)) for machine in machines if machine.plan.role in ("whole", "app")]


def disk_of(stack: StackSettings, machine: Machine) -> tuple[str, int, bool] | None:
    """Key and value of the size in GiB of a machine's data disk, and whether it is protected; None without a disk."""
    service = machine.plan.service
    if isinstance(service, Database):
        return f"{service.key}.disk_gib", service.disk_gib, service.protect
    if stack.data_gib and machine.plan.role in ("whole", "app"):
        return "data.disk_gib", stack.data_gib, stack.protects_data
    return None
