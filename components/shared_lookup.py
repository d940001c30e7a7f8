"""What the cloud offers for a file system that machines share, and what it has of the data, found out beforehand."""

from collections.abc import Iterable

import pulumi_alicloud as alicloud

from components.lookup import ask
from settings import StackSettings, refused


def store_zone(stack: StackSettings, zone: str, disks: Iterable[str]) -> str | None:
    """Id of the zone of a new file system: that of the servers if it has NAS, None if the cloud is to choose.

    disks: names that data disks of the machines have. Raises pulumi.RunError if one of them has the data.
    """
    if not stack.shares_data:
        return None
    for name in disks:
        if any(disk.disk_name == name for disk in ask(alicloud.ecs.get_ecs_disks, disk_name=name).disks):
            raise refused(
                f"data.shared: the data are on the disk {name}, which would be deleted; allowed: first an update "
                "without data.disk_gib and data.shared, or a backup that is restored afterwards"
            )
    for found in ask(alicloud.nas.get_zones, file_system_type="standard").zones:
        kinds = {(kind.protocol_type.lower(), kind.storage_type.lower()) for kind in found.instance_types}
        if found.zone_id == zone and ("nfs", "capacity") in kinds:
            return zone
    return None
