"""An instance of ApsaraDB RDS for MySQL: MariaDB on a machine of its own."""

from collections.abc import Mapping
from typing import Any

from rehearsal.cloud import tokens
from rehearsal.cloud.context import CloudContext
from rehearsal.cloud.engine_machine import Engine
from rehearsal.engine.compare import Schema
from rehearsal.engine.resource import only
from rehearsal.engine.state import Record

_CONFIG_FILE = "/etc/mysql/mariadb.conf.d/90-rds.cnf"
_CONFIG = "[mysqld]\nbind-address = 0.0.0.0\nskip-name-resolve\ncharacter-set-server = utf8mb4\n"


class RdsInstance(Engine):
    package = "mariadb-server"
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
        super().check(inputs)

    def start(self, context: CloudContext, record: Record, inputs: Mapping[str, Any]) -> None:
        context.lxd.write(record.id, _CONFIG_FILE, _CONFIG, "0644")
        context.lxd.exec(record.id, ["systemctl", "restart", "mariadb"], 120)

    def found(self, address: str) -> dict[str, Any]:
        return {"connectionString": address, "port": "3306"}
