"""What the cloud offers for the engines that it runs, and what it has of them, found out before anything is created."""

import re
from collections.abc import Callable, Iterable
from functools import partial
from ipaddress import IPv4Network
from typing import NamedTuple

import pulumi_alicloud as alicloud

from components.lookup import ask, zones_of
from components.managed_redis import NO_STANDBY, STANDBY
from contract.resources import DATABASE_MACHINE, data_name
from kinds.databases import Mysql
from kinds.redis import Redis
from settings import StackSettings, refused

_MOVE = "a backup that is restored into a new stack"


class Zones(NamedTuple):
    """Ids of the zones of all that is in a second zone, of Redis' standby and of a new file system; None for none."""

    second: str | None
    redis: str | None
    store: str | None


def zones(name: str, stack: StackSettings, zone: str, disks: Iterable[str]) -> Zones:
    """What `second_zone`, `redis_standby_zone` and `store_zone` find. Raises pulumi.RunError as they do, and as
    `standby_zone` does.
    """
    second = second_zone(name, stack, zone, standby_zone(name, stack, zone))
    return Zones(second, redis_standby_zone(name, stack, zone), store_zone(stack, zone, disks))


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
    return _second_zone(mysql, mysql.rds_class, zone, partial(_zones, mysql), partial(_has_class, mysql))


def redis_standby_zone(name: str, stack: StackSettings, zone: str) -> str | None:
    """Id of the zone of Tair's standby, None for a stack without one. Arguments and errors as of `standby_zone`."""
    redis = stack.managed_redis
    if redis is None:
        return None
    # With more details the provider asks about TLS, too, which an instance of some versions answers with an error.
    found = ask(alicloud.kvstore.get_instances, name_regex=f"^{re.escape(name)}$").instances
    for instance in found:
        # Where somebody has taken the tag off, a zone is looked up, which is ignored.
        if instance.name == name and (standby := _kept_standby(name, stack, redis, instance)):
            return None if standby == NO_STANDBY else standby
    return _second_zone(redis, redis.tair_class, zone, partial(_redis_zones, redis), partial(_has_redis_class, redis))


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


def _second_zone(
    engine: Mysql | Redis,
    wanted: str,
    zone: str,
    zones_of_engine: Callable[[], list[str]],
    has_class: Callable[[str], bool],
) -> str | None:
    """Id of a zone for the standby of a new engine, None without one.

    wanted: its class. zone: of the servers. has_class: whether a zone offers the class.
    """
    if not has_class(zone):
        offered = [each for each in zones_of_engine() if each != zone and has_class(each)]
        allowed = f"server.zone: {offered[0]}, in a new stack" if offered else "a class that the region has"
        raise refused(f"{engine.key}.instance_class: {zone} does not offer {wanted}; allowed: {allowed}")
    if not engine.high_availability:
        return None
    standby = next((each for each in zones_of_engine() if each != zone and has_class(each)), None)
    if standby is None:
        raise refused(
            f"{engine.key}.high_availability: no second zone of this region offers {wanted}; "
            f"allowed: another {engine.key}.instance_class, or false"
        )
    return standby


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


def _redis_offer(redis: Redis) -> dict[str, str]:
    return {
        "engine": "Redis",
        "instance_charge_type": "PostPaid",
        "product_type": "OnECS" if redis.tair_class.endswith(".ce") else "Local",
    }


def _redis_zones(redis: Redis) -> list[str]:
    return [str(zone) for zone in ask(alicloud.kvstore.get_zones, **_redis_offer(redis)).ids]


def _has_redis_class(redis: Redis, zone: str) -> bool:
    """Whether a zone offers the instance class of Tair, which the cloud also calls by its number of nodes (.2.ce)."""
    offer = {**_redis_offer(redis), "engine_version": redis.engine_version}
    found = ask(alicloud.kvstore.get_instance_classes, **offer, zone_id=zone).instance_classes
    return _class_name(redis.tair_class) in map(_class_name, found)


def _class_name(name: str) -> str:
    return re.sub(r"\.[0-9]+\.ce$", ".ce", name)


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
    _check_version("mysql", "the database", mysql.engine_version, instance.engine_version)
    _check_standby("mysql", "the database", mysql.high_availability, bool(instance.zone_id_slave_a))
    _check_network(name, stack, "the managed database")


def _kept_standby(
    name: str, stack: StackSettings, redis: Redis, instance: alicloud.kvstore.outputs.GetInstancesInstanceResult
) -> str | None:
    """What the tag says of the standby of an existing Tair, None without one. Refuse what Tair cannot become."""
    _check_version("redis", "Redis", redis.engine_version, instance.engine_version)
    _check_network(name, stack, "the managed Redis")
    standby = (instance.tags or {}).get(STANDBY)
    if standby:
        _check_standby("redis", "Redis", redis.high_availability, standby != NO_STANDBY)
    return standby


def _check_version(key: str, what: str, wanted: str, found: str) -> None:
    """Refuse an older version of an engine."""
    if [*map(int, wanted.split("."))] < [*map(int, found.split("."))]:
        raise refused(f"{key}.engine_version: {wanted}, and {what} has {found}; allowed: {found} or higher, or {_MOVE}")


def _check_standby(key: str, what: str, wanted: bool, has_standby: bool) -> None:
    """Refuse a standby that comes later, or that goes."""
    if wanted != has_standby:
        raise refused(
            f"{key}.high_availability: {what} was made {'with' if has_standby else 'without'} a standby; "
            f"allowed: {str(has_standby).lower()}, or {_MOVE}"
        )


def _check_network(name: str, stack: StackSettings, what: str) -> None:
    """Refuse another network: the servers would move to it without the engine, which is in the old one for good."""
    for network in ask(alicloud.vpc.get_networks, vpc_name=name).vpcs:
        if network.vpc_name == name and IPv4Network(network.cidr_block) != IPv4Network(stack.network.cidr):
            raise refused(
                f"network.cidr: {what} cannot leave {network.cidr_block}; allowed: {network.cidr_block}, or {_MOVE}"
            )
