"""ApsaraDB RDS for MySQL: the instance, the database, and its accounts.

instance ─┬─ backups
          ├─ database ──────────────────┐
          ├─ account of the application ┴─ privilege     another account for another password, made before the release
          └─ account of the release tool ─ privilege
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pulumi
import pulumi_alicloud as alicloud

from kinds.databases import Mysql
from kinds.managed_mysql import PORT

_DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]


@dataclass(frozen=True)
class ManagedMysqlArgs:
    """zone, vswitch_id: of the primary. standby: zone and switch of its standby, None without one.

    cidrs: the networks of the servers, which alone may connect.
    """

    mysql: Mysql
    zone: pulumi.Input[str]
    vswitch_id: pulumi.Input[str]
    standby: tuple[pulumi.Input[str], pulumi.Input[str]] | None
    cidrs: Sequence[str]
    tags: Mapping[str, str]


class ManagedMysql(pulumi.ComponentResource):
    """instance_id: of RDS. host: the name by which the applications reach the database, whichever zone it is in.

    ready: what is there before a release. found: what only the cloud knows of the applications' environment. login: how
    the release tool logs in.
    """

    instance_id: pulumi.Output[str]
    host: pulumi.Output[str]
    ready: list[pulumi.Resource]
    found: dict[str, pulumi.Output[str]]
    login: dict[str, pulumi.Input[str]]

    def __init__(self, name: str, args: ManagedMysqlArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("wsgi:managed_mysql:ManagedMysql", name, None, opts)
        mysql = args.mysql
        instance = self._instance(name, args)
        self.instance_id, self.host = instance.id, instance.connection_string
        database = alicloud.rds.Database(
            f"{name}-mysql-database",
            instance_id=instance.id,
            data_base_name=mysql.database,
            character_set="utf8mb4",
            # With another name, the old database with all its rows would be deleted. It goes with the instance alone.
            opts=pulumi.ResourceOptions(parent=self, protect=mysql.protect, retain_on_delete=True),
        )
        backups = alicloud.rds.BackupPolicy(
            f"{name}-mysql-backups",
            instance_id=instance.id,
            preferred_backup_periods=_DAYS,
            preferred_backup_time="19:00Z-20:00Z",
            backup_retention_period=mysql.backup_days,
            enable_backup_log=True,
            log_backup_retention_period=mysql.backup_days,
            opts=pulumi.ResourceOptions(parent=self),
        )
        application, owner = mysql.accounts
        self.ready = [
            *self._account(f"{name}-mysql-account-{application}", instance, database, mysql, application),
            *self._account(f"{name}-mysql-owner", instance, database, mysql, owner),
            backups,
        ]
        self.found = {"MYSQL_HOST": self.host}
        self.login = {"host": self.host, "port": str(PORT), "user": owner, "password": mysql.secret}
        self.register_outputs({"host": self.host})

    def _instance(self, name: str, args: ManagedMysqlArgs) -> alicloud.rds.Instance:
        mysql, encrypts = args.mysql, args.mysql.tls != "none"
        zone, vswitch_id = args.standby or (None, None)
        both = [args.vswitch_id, *([vswitch_id] if vswitch_id else [])]
        return alicloud.rds.Instance(
            f"{name}-mysql",
            instance_name=name,
            engine="MySQL",
            engine_version=mysql.engine_version,
            instance_type=mysql.rds_class,
            instance_storage=mysql.storage_gib,
            db_instance_storage_type="cloud_essd",
            instance_charge_type="Postpaid",
            category="HighAvailability" if mysql.high_availability else "Basic",
            zone_id=args.zone,
            zone_id_slave_a=zone,
            # One for each zone, in their order.
            vswitch_id=pulumi.Output.all(*both).apply(",".join),
            security_ips=list(args.cidrs),
            # Nothing where it is off: RDS would be told to switch off what it does not have.
            ssl_action="Open" if encrypts else None,
            force_encryption=int(mysql.tls == "required") if encrypts else None,
            tags=args.tags,
            opts=pulumi.ResourceOptions(
                parent=self,
                protect=mysql.protect,
                # Each of them would replace the instance by an empty one: the standby may have become the primary, and
                # the zones are looked up at each run.
                ignore_changes=["zone_id", "zone_id_slave_a", "vswitch_id"],
            ),
        )

    def _account(
        self, name: str, instance: alicloud.rds.Instance, database: alicloud.rds.Database, mysql: Mysql, account: str
    ) -> list[pulumi.Resource]:
        made = alicloud.rds.RdsAccount(
            name,
            db_instance_id=instance.id,
            account_name=account,
            account_password=pulumi.Output.secret(mysql.secret),
            account_type="Normal",
            opts=pulumi.ResourceOptions(parent=self),
        )
        privilege = alicloud.rds.AccountPrivilege(
            f"{name}-privilege",
            instance_id=instance.id,
            account_name=made.account_name,
            privilege="ReadWrite",
            db_names=[database.data_base_name],
            opts=pulumi.ResourceOptions(parent=self),
        )
        return [made, privilege]
