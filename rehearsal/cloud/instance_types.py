"""Answers of the provider's functions: instance types, zones and images of the cloud.

Sizes: https://www.alibabacloud.com/help/en/ecs/user-guide/overview-of-instance-families
"""

import re
from dataclasses import dataclass
from typing import Any

from rehearsal.cloud import tokens
from rehearsal.cloud.images import CLOUD_IMAGES
from rehearsal.engine.errors import RehearsalError, UserError
from rehearsal.engine.resource import Records
from rehearsal.engine.state import Record


@dataclass(frozen=True)
class Size:
    """Size of an instance type. cpu: virtual CPUs. memory: MiB."""

    cpu: int
    memory: int


_GIB = 1024

SIZES = {
    "ecs.t6-c4m1.large": Size(2, _GIB // 2),
    "ecs.t6-c2m1.large": Size(2, _GIB),
    "ecs.t6-c1m1.large": Size(2, 2 * _GIB),
    "ecs.t6-c1m2.large": Size(2, 4 * _GIB),
    "ecs.t6-c1m4.large": Size(2, 8 * _GIB),
    "ecs.t6-c1m4.xlarge": Size(4, 16 * _GIB),
    "ecs.t5-lc2m1.nano": Size(1, _GIB // 2),
    "ecs.t5-lc1m1.small": Size(1, _GIB),
    "ecs.t5-lc1m2.small": Size(1, 2 * _GIB),
    "ecs.t5-lc1m2.large": Size(2, 4 * _GIB),
    "ecs.e-c1m1.large": Size(2, 2 * _GIB),
    "ecs.e-c1m2.large": Size(2, 4 * _GIB),
    "ecs.e-c1m4.large": Size(2, 8 * _GIB),
    "ecs.e-c1m2.xlarge": Size(4, 8 * _GIB),
    "ecs.u1-c1m1.large": Size(2, 2 * _GIB),
    "ecs.u1-c1m2.large": Size(2, 4 * _GIB),
    "ecs.n4.small": Size(1, 2 * _GIB),
    "ecs.n4.large": Size(2, 4 * _GIB),
    "ecs.s6-c1m1.small": Size(1, _GIB),
    "ecs.s6-c1m2.small": Size(1, 2 * _GIB),
    "ecs.s6-c1m2.large": Size(2, 4 * _GIB),
    "ecs.c6.large": Size(2, 4 * _GIB),
    "ecs.c7.large": Size(2, 4 * _GIB),
    "ecs.c7.xlarge": Size(4, 8 * _GIB),
    "ecs.c8i.large": Size(2, 4 * _GIB),
    "ecs.g6.large": Size(2, 8 * _GIB),
    "ecs.g7.large": Size(2, 8 * _GIB),
    "ecs.g7.xlarge": Size(4, 16 * _GIB),
    "ecs.g8i.large": Size(2, 8 * _GIB),
}

# Instance classes of RDS for MySQL: with a standby, and without one.
CLASSES = (
    *("mysql.n2.small.2c", "mysql.n2.medium.2c", "mysql.n2.large.2c", "mysql.n4.medium.2c", "mysql.n4.large.2c"),
    *("mysql.n2.small.1", "mysql.n2.medium.1", "mysql.n2.large.1", "mysql.n4.medium.1", "mysql.n4.large.1"),
)
# Instance classes of Tair, whose names the cloud tells with the number of nodes.
REDIS_CLASSES = tuple(f"redis.shard.{size}.2.ce" for size in ("micro", "small", "mid", "large", "xlarge", "2xlarge"))
ZONES = ("cn-hangzhou-h", "cn-hangzhou-i", "cn-hangzhou-j")


def size(instance_type: str) -> Size:
    """The size of an instance type. Raises RehearsalError for a type that the table does not have."""
    try:
        return SIZES[instance_type]
    except KeyError:
        some = ", ".join(("ecs.t6-c1m1.large", "ecs.e-c1m2.large", "ecs.c7.large", "ecs.g7.large"))
        raise RehearsalError(
            f"instance_type {instance_type} is not in the rehearsal's table; it has {some} …"
        ) from None


def answer(token: str, args: dict[str, Any], records: Records) -> dict[str, Any]:
    """The result of a provider function, with the provider's names. Raises UserError for an unknown function."""
    match token:
        case "alicloud:index/getZones:getZones":
            instance_type = args.get("availableInstanceType")
            ids = list(ZONES) if instance_type is None or instance_type in SIZES else []
            zones = [{"id": zone, "localName": zone} for zone in ids]
            return {**args, "id": "zones", "ids": ids, "zones": zones}
        case "alicloud:ecs/getImages:getImages":
            pattern = args.get("nameRegex") or ""
            ids = [image for image in CLOUD_IMAGES if re.search(pattern, image)]
            images = [{"id": image, "imageId": image, "name": image, "osType": "linux"} for image in ids]
            return {**args, "id": "images", "ids": ids, "images": images}
        case "alicloud:ecs/getInstanceTypes:getInstanceTypes":
            ids = [name for name, has in SIZES.items() if _matches(name, has, args)]
            found = [
                {"id": name, "cpuCoreCount": SIZES[name].cpu, "memorySize": SIZES[name].memory / _GIB} for name in ids
            ]
            return {**args, "id": "types", "ids": ids, "instanceTypes": found}
        case "alicloud:ecs/getEcsDisks:getEcsDisks":
            existing = [record for record in records(tokens.DISK) if record.status == "done"]
            disks = [
                {
                    **{"id": disk.id, "diskName": disk.inputs.get("diskName"), "type": "data"},
                    **{"size": disk.inputs["size"], "zoneId": disk.inputs["zoneId"]},
                }
                for disk in existing
                if args.get("diskName") in (None, disk.inputs.get("diskName"))
            ]
            return {**args, "id": "disks", "ids": [disk["id"] for disk in disks], "disks": disks}
        case "alicloud:vpc/getSwitches:getSwitches":
            switches = [record.id for record in records(tokens.SWITCH) if record.status == "done"]
            return {**args, "id": "switches", "ids": switches, "vswitches": []}
        case "alicloud:rds/getInstances:getInstances":
            made = [record for record in records(tokens.RDS_INSTANCE) if record.status == "done"]
            return {**args, "id": "databases", "ids": [each.id for each in made], "instances": list(map(_made, made))}
        case "alicloud:kvstore/getInstances:getInstances":
            made = [record for record in records(tokens.REDIS_INSTANCE) if record.status == "done"]
            return {**args, "id": "redis", "ids": [each.id for each in made], "instances": list(map(_made_redis, made))}
        case "alicloud:kvstore/getInstanceClasses:getInstanceClasses":
            is_cloud_disk = args.get("productType") == "OnECS"
            return {**args, "id": "classes", "instanceClasses": list(REDIS_CLASSES) if is_cloud_disk else []}
        case "alicloud:rds/getZones:getZones" | "alicloud:kvstore/getZones:getZones" | "alicloud:alb/getZones:getZones":
            return {**args, "id": "zones", "ids": list(ZONES), "zones": []}
        case "alicloud:rds/getInstanceClasses:getInstanceClasses":
            is_single = args.get("category") == "Basic"
            return {**args, "id": "classes", "ids": [name for name in CLASSES if name.endswith(".1") == is_single]}
        case "alicloud:nas/getZones:getZones":
            kinds = [{"protocolType": "nfs", "storageType": name} for name in ("Capacity", "Performance")]
            return {**args, "id": "zones", "zones": [{"zoneId": zone, "instanceTypes": kinds} for zone in ZONES]}
        case "alicloud:vpc/getNetworks:getNetworks":
            networks = [record for record in records(tokens.VPC) if record.status == "done"]
            vpcs = [{"vpcName": each.inputs["vpcName"], "cidrBlock": each.inputs["cidrBlock"]} for each in networks]
            return {**args, "id": "networks", "ids": [each.id for each in networks], "vpcs": vpcs}
    raise UserError(
        f"{token} is not rehearsed; allowed: getZones, getImages, getInstanceTypes, getEcsDisks, getSwitches, "
        "getNetworks, getInstances, getZones and getInstanceClasses of RDS and of Tair, and getZones of ALB and of NAS"
    )


def _made(database: Record) -> dict[str, Any]:
    """A managed database, as the provider tells of it."""
    inputs = database.inputs
    return {
        "id": database.id,
        "name": inputs["instanceName"],
        "engineVersion": inputs["engineVersion"],
        "instanceStorage": inputs["instanceStorage"],
        "zoneIdSlaveA": inputs.get("zoneIdSlaveA", ""),
    }


def _made_redis(redis: Record) -> dict[str, Any]:
    """A managed Redis, as the provider tells of it."""
    inputs = redis.inputs
    return {
        "id": redis.id,
        "name": inputs["dbInstanceName"],
        "engineVersion": inputs["engineVersion"],
        "tags": inputs["tags"],
    }


def _matches(name: str, has: Size, args: dict[str, Any]) -> bool:
    return (
        args.get("instanceType") in (None, name)
        and args.get("cpuCoreCount") in (None, has.cpu)
        and args.get("memorySize") in (None, has.memory / _GIB)
        and name.startswith(args.get("instanceTypeFamily") or "")
    )
