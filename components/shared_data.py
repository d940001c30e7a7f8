"""A file system of NAS with the data of all sites, which every machine with the application mounts.

file system ─┐
access group ┴─ mount target in the switch ◀─ access rule for each machine, by its private address,
                                              or for each network of machines that come and go
"""

from collections.abc import Mapping
from dataclasses import dataclass

import pulumi
import pulumi_alicloud as alicloud

from contract.resources import server_rule


@dataclass(frozen=True)
class SharedDataArgs:
    """zone: of a new file system, None for one that the cloud chooses. protect: refuse to delete it.

    addresses: machine's name → private address, or network's name → its CIDR.
    """

    zone: str | None
    vswitch_id: pulumi.Input[str]
    addresses: Mapping[str, pulumi.Input[str]]
    protect: bool
    tags: Mapping[str, str]


class SharedData(pulumi.ComponentResource):
    """address: by which the machines mount it. ready: machine's or network's name → what is there before it mounts."""

    address: pulumi.Output[str]
    ready: dict[str, list[pulumi.Resource]]

    @property
    def all_ready(self) -> list[pulumi.Resource]:
        """What is there as long as anybody mounts it."""
        return [each for ready in self.ready.values() for each in ready]

    def __init__(self, name: str, args: SharedDataArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("wsgi:shared_data:SharedData", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        file_system = alicloud.nas.FileSystem(
            f"{name}-data",
            description=name,
            protocol_type="NFS",
            storage_type="Capacity",
            # With a key that NAS manages.
            encrypt_type=1,
            zone_id=args.zone,
            tags=args.tags,
            opts=pulumi.ResourceOptions(
                parent=self,
                protect=args.protect,
                # Each of them would replace the file system by an empty one; the zone is looked up at each run.
                ignore_changes=["protocol_type", "storage_type", "encrypt_type", "zone_id"],
            ),
        )
        group = alicloud.nas.AccessGroup(
            f"{name}-data-access",
            access_group_name=f"{name}-data",
            access_group_type="Vpc",
            opts=child,
        )
        target = alicloud.nas.MountTarget(
            f"{name}-data-target",
            file_system_id=file_system.id,
            access_group_name=group.access_group_name,
            vswitch_id=args.vswitch_id,
            opts=child,
        )
        self.address = target.mount_target_domain
        self.ready = {}
        for machine, address in args.addresses.items():
            rule = alicloud.nas.AccessRule(
                server_rule(f"{name}-{machine}" if machine else name),
                access_group_name=group.access_group_name,
                source_cidr_ip=address,
                rw_access_type="RDWR",
                # The release tool gives each site its folder.
                user_access_type="no_squash",
                priority=1,
                # In place, the rule would take the data from a server that serves until its successor does.
                opts=pulumi.ResourceOptions(parent=self, replace_on_changes=["source_cidr_ip"], depends_on=[target]),
            )
            self.ready[machine] = [target, rule]
        self.register_outputs({"address": self.address})
