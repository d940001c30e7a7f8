"""An instance of ApsaraDB RDS for MySQL: MariaDB of Debian 12 on a machine that nobody logs in to.

The standby is recorded alone. The allow list of the instance is that of its bridge, as the rules of a group are.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from rehearsal.cloud import group_bridge, image, machine, tokens
from rehearsal.cloud.context import CloudContext
from rehearsal.cloud.daemon import POOL
from rehearsal.engine.compare import Schema
from rehearsal.engine.errors import RehearsalError
from rehearsal.engine.resource import Resource, only
from rehearsal.engine.state import Record

_SYSTEM = "debian12"
# ECS instance type whose CPUs and memory the machine has, whatever the instance class is.
_SIZE = "ecs.e-c1m1.large"
# Seconds for the package.
_INSTALLING = 300
_INSTALL = (
    "apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends mariadb-server"
)
_CONFIG_FILE = "/etc/mysql/mariadb.conf.d/90-rds.cnf"
_CONFIG = "[mysqld]\nbind-address = 0.0.0.0\nskip-name-resolve\ncharacter-set-server = utf8mb4\n"


class RdsInstance(Resource[CloudContext]):
    """Its id is the machine's name in LXD."""

    prefix = "rm-"
    schema = Schema(
        replaces=frozenset({"engine", "zoneId", "zoneIdSlaveA", "vswitchId", "dbInstanceStorageType"}),
        grows=frozenset({"instanceStorage"}),
        updates={
            "engineVersion": "the database is away for minutes",
            "instanceType": "the database is away for seconds",
            "securityIps": "",
            **dict.fromkeys(("instanceStorage", "instanceName", "tags"), ""),
        },
        recorded=frozenset({"instanceChargeType", "category", "sslAction", "forceEncryption"}),
        away=tokens.DATABASE,
    )

    def check(self, inputs: Mapping[str, Any]) -> None:
        only(inputs, "engine", "MySQL")
        only(inputs, "instanceChargeType", "Postpaid")
        for key in ("vswitchId", "securityIps"):
            if not inputs.get(key):
                raise RehearsalError(f"a database without {key} is not rehearsed")

    def exists(self, context: CloudContext, record: Record) -> bool:
        return context.lxd.find(f"/1.0/instances/{record.id}") is not None

    def drift(self, context: CloudContext, record: Record) -> str:
        status = context.lxd.get(f"/1.0/instances/{record.id}")["status"]
        return "" if status == "Running" else f"it is {status.lower()}, and is started"

    def repair(self, context: CloudContext, record: Record) -> None:
        machine.power(context, record.id, "start")
        machine.wait_for_address(context, record.id, record.outputs["rehearsalBridge"])

    def create(self, context: CloudContext, record: Record, inputs: Mapping[str, Any]) -> dict[str, Any]:
        base = image.ensure(_SYSTEM, context.say)
        bridge = group_bridge.ensure(context, inputs["vswitchId"].partition(",")[0], record.id)
        devices = {
            "root": {"type": "disk", "path": "/", "pool": POOL},
            "eth0": {"type": "nic", "network": bridge.name, "name": "eth0"},
            "cache": {"type": "disk", "source": str(base.cache), "path": "/var/cache/rehearsal", "readonly": "true"},
        }
        of_image = replace(context, images={_SYSTEM: base})
        machine.make(of_image, record.id, {"imageId": _SYSTEM, "instanceType": _SIZE}, devices)
        machine.power(context, record.id, "start")
        address = machine.wait_for_address(context, record.id, bridge.name)
        context.lxd.exec(record.id, ["sh", "-ec", _INSTALL], _INSTALLING)
        context.lxd.write(record.id, _CONFIG_FILE, _CONFIG, "0644")
        context.lxd.exec(record.id, ["systemctl", "restart", "mariadb"], 120)
        return {"connectionString": address, "port": "3306", "status": "Running", "rehearsalBridge": bridge.name}

    def updated(self, context: CloudContext) -> None:
        group_bridge.write_acls(context)

    def delete(self, context: CloudContext, record: Record) -> None:
        machine.remove(context, record.id)
        with context.network_lock:
            for bridge in group_bridge.of_stack(context.host, context.stack):
                if bridge.group == record.id:
                    group_bridge.remove(context.host, bridge)
