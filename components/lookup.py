"""What the cloud has to offer: the zone and the image, found before anything is created."""

import pulumi_alicloud as alicloud

from serving.systems import SYSTEMS, System
from settings import refused
from settings.models import Server


def zone(server: Server) -> str:
    """Id of the zone to build in. Raises pulumi.RunError when none offers the instance type."""
    if server.zone:
        return server.zone
    found = alicloud.get_zones(available_instance_type=server.instance_type, available_resource_creation="VSwitch")
    if not found.ids:
        raise refused(
            f"server.instance_type: no zone of this region offers "
            f"{server.instance_type}; allowed: a type that the region has (or another alicloud:region)"
        )
    return str(found.ids[0])


def image(server: Server, system: System) -> str:
    """Id of the image to boot. Raises pulumi.RunError when the OS has none here."""
    if server.image:
        return server.image
    found = alicloud.ecs.get_images(owners="system", name_regex=system.image_pattern, most_recent=True)
    if not found.ids:
        others = ", ".join(name for name in SYSTEMS if name != system.name)
        raise refused(
            f"server.os: no system image of {system.name} "
            f"({system.image_pattern}) here; allowed: {others}, or an image id in server.image"
        )
    return str(found.ids[0])
