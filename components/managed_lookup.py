"""What the cloud offers for the engines that it runs, and what it has of them, found out before anything is created."""

import re
from collections.abc import Iterable
from ipaddress import IPv4Network

import pulumi_alicloud as alicloud

from components.lookup import ask, zones_of
from contract.resources import DATABASE_MACHINE, data_name
from kinds.databases import Mysql
from settings import StackSettings, refused

_MOVE = "a backup that is restored into a new stack"


def zones(name: str, stack: StackSettings, zone: str, disks: Iterable[str]) -> tuple[str | None, str | None]:
    """What `second_zone` and `store_zone` find. Raises pulumi.RunError as they do, and as `standby_zone` does."""
    return second_zone(name, stack, zone, standby_zone(name, stack, zone)), store_zone(stack, zone, disks)


def second_zone(name: str, stack: StackSettings, zone: str, standby: str | None) -> str | None:
    """Id of the zone of all that is in a second zone, None for a stack without it.

    name: of the stack's resources. zone: of its servers. standby: of the database's standby, None without one. Raises
    pulumi.RunError for types of servers that come and go which the cloud does not offer in two zones.
    """
    scaling = stack.topology.scaling
    if not scaling:
        return standby
    if not standby:
        # The cloud does not list what is sold out, which is no reason to refuse a release to members that exist.
        for switch in ask(alicloud.vpc.get_switches, vswitch_name=f"{name}-standby").vswitches:
            return str(switch.zone_id)
    types = scaling.types(stack.server.instance_type)
    key = "topology.scaling.instance_types" if scaling.instance_types else "server.instance_type"
    spot = "SpotAsPriceGo" if scaling.spot_percent else None
    offers = {wanted: zones_of(wanted, spot) for wanted in types}
    for wanted, found in offers.items():
        if not found:
            raise refused(
                f"{key}: no zone of this region offers {wanted}; allowed: types that the region has (or another "
                "alicloud:region)"
            )
    offered = list(dict.fromkeys(each for found in offers.values() for each in found))
    wrong = next((each for each in (zone, standby) if each and each not in offered), None)
    if wrong:
        raise refused(f"{key}: {wrong} offers none of {', '.join(types)}; allowed: a type that it has with them")
    second = standby or next((each for each in offered if each != zone), None)
    if second is None:
        raise refused(
            f"topology.scaling: members are in two zones, and only {zone} offers {', '.join(types)}; allowed: other "
            f"types in {key} (or another alicloud:region)"
        )
    return second


def standby_zone(name: str, stack: StackSettings, zone: str) -> str | None:
    """Id of the zone of the database's standby, None for a stack without one.

    name: of the stack's resources. zone: of its servers. Raises pulumi.RunError for what the cloud does not offer, and
    for changes that would lose the data, or that the cloud refuses half-way.
    """
    mysql = stack.managed
    if mysql is None:
        return None
    _check_own(name)
    found = ask(alicloud.rds.get_instances, engine="MySQL", name_regex=f"^{re.escape(name)}$").instances
    for instance in found:
        if instance.name == name:
            _check_kept(name, stack, mysql, instance)
            # The cloud does not list what is sold out, which is no reason to refuse a release.
            return instance.zone_id_slave_a or None
    if not _has_class(mysql, zone):
        offered = [each for each in _zones(mysql) if each != zone and _has_class(mysql, each)]
        allowed = f"server.zone: {offered[0]}, in a new stack" if offered else "a class that the region has"
        raise refused(f"mysql.instance_class: {zone} does not offer {mysql.rds_class}; allowed: {allowed}")
    if not mysql.high_availability:
        return None
    standby = next((each for each in _zones(mysql) if each != zone and _has_class(mysql, each)), None)
    if standby is None:
        raise refused(
            f"mysql.high_availability: no second zone of this region offers {mysql.rds_class}; "
            "allowed: another mysql.instance_class, or false"
        )
    return standby


def store_zone(stack: StackSettings, zone: str, disks: Iterable[str]) -> str | None:
    """Id of the zone of a new file system: that of the servers if it has NAS, None if the cloud is to choose.

    disks: names that data disks of the machines have. Raises pulumi.RunError if one of them has the data.
    """
    if not stack.shares_data and not stack.topology.scaling:
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


def _offer(mysql: Mysql) -> dict[str, str]:
    return {
        "engine": "MySQL",
        "engine_version": mysql.engine_version,
        "category": "HighAvailability" if mysql.high_availability else "Basic",
        "db_instance_storage_type": "cloud_essd",
        "instance_charge_type": "PostPaid",
    }


def _zones(mysql: Mysql) -> list[str]:
    return [str(zone) for zone in ask(alicloud.rds.get_zones, **_offer(mysql)).ids]


def _has_class(mysql: Mysql, zone: str) -> bool:
    """Whether a zone offers the instance class. With all of these arguments, the provider asks a single question."""
    return mysql.rds_class in ask(alicloud.rds.get_instance_classes, **_offer(mysql), zone_id=zone).ids


def _check_own(name: str) -> None:
    """Refuse to delete the data disk of a server of the stack's own in favour of an empty database."""
    disk = data_name(f"{name}-{DATABASE_MACHINE}")
    if any(found.disk_name == disk for found in ask(alicloud.ecs.get_ecs_disks, disk_name=disk).disks):
        raise refused(f"mysql.managed: the database is on the disk {disk}, which would be deleted; allowed: {_MOVE}")


def _check_kept(
    name: str, stack: StackSettings, mysql: Mysql, instance: alicloud.rds.outputs.GetInstancesInstanceResult
) -> None:
    """Refuse what an existing database cannot become."""
    if mysql.storage_gib < instance.instance_storage:
        raise refused(
            f"mysql.storage_gib: {mysql.storage_gib} GiB, and the database has {instance.instance_storage}, which "
            f"never becomes smaller; allowed: {instance.instance_storage} or more, or {_MOVE}"
        )
    if [*map(int, mysql.engine_version.split("."))] < [*map(int, instance.engine_version.split("."))]:
        raise refused(
            f"mysql.engine_version: {mysql.engine_version}, and the database has {instance.engine_version}; "
            f"allowed: {instance.engine_version} or higher, or {_MOVE}"
        )
    has_standby = bool(instance.zone_id_slave_a)
    if mysql.high_availability != has_standby:
        raise refused(
            f"mysql.high_availability: the database was made {'with' if has_standby else 'without'} a standby; "
            f"allowed: {str(has_standby).lower()}, or {_MOVE}"
        )
    # The servers would move to the new network without the database, which is in the old one for good.
    for network in ask(alicloud.vpc.get_networks, vpc_name=name).vpcs:
        if network.vpc_name == name and IPv4Network(network.cidr_block) != IPv4Network(stack.network.cidr):
            raise refused(
                f"network.cidr: the managed database cannot leave {network.cidr_block}; "
                f"allowed: {network.cidr_block}, or {_MOVE}"
            )
