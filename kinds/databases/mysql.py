"""MySQL: MariaDB, as all the operating systems package it, or ApsaraDB RDS for MySQL (kinds/managed_mysql.py)."""

from ipaddress import IPv4Network
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, SecretStr, model_validator

from contract import paths
from contract.documents import MYSQL_CONFIG_FILE, SCHEMA_FOLDER
from contract.service_documents import Database as Document
from contract.service_documents import ManagedDatabase
from kinds import managed, managed_mysql
from kinds.databases.base import Database
from kinds.service import Surroundings
from kinds.systems import System
from schema import schedule, sql, text
from schema.base import AppPort, check_rules, sequence
from schema.cron import on_calendar
from templates import render

_DATADIR, _TLS = f"{paths.DATA}/mysql", f"{paths.DATA}/tls"
# This table is in the application's own database, so that a dump contains the list of its schema files.
_APPLIED = "wsgi_ecs_schema"


class Mysql(Database):
    """https://mariadb.com/kb/en/server-system-variables/ for what has a directive's name."""

    key: ClassVar[str] = "mysql"
    unit: ClassVar[str] = "mariadb"
    restarted: ClassVar[tuple[str, ...]] = ("mariadb.service",)
    config_file: ClassVar[str] = MYSQL_CONFIG_FILE
    dump_end: ClassVar[str] = "-- Dump completed"

    database: sql.SqlDatabase = Field("app", description="Database of the application.")
    user: sql.SqlUser = Field("app", description="User of the application, with all privileges in its database.")
    password: SecretStr | None = Field(None, description="The user's password. Required, and a secret.")
    schema_files: Annotated[tuple[text.LocalPath, ...], BeforeValidator(sequence)] = Field(
        (), description="SQL files, each applied once, in order. Never change a file that was applied; add a new one."
    )
    port: AppPort = Field(3306, description="Port of the database; only the application's machines reach it.")
    max_connections: int = Field(151, ge=10, le=10000, description="Simultaneous connections.")
    innodb_buffer_pool_size: Literal["auto"] | sql.BytesSize = Field(
        "auto", description="Memory for data and indexes; auto: half of the machine's."
    )
    instance_type: text.InstanceType | None = Field(
        None, description="ECS instance type of the database's machine; none: server.instance_type."
    )
    disk_gib: int = Field(
        20,
        ge=20,
        le=32768,
        description="Size of the data disk, GiB. It can grow; a smaller size is refused.",
    )
    protect: bool = Field(False, description="Refuse to delete or replace the data disk, or RDS and its database.")
    tls: Literal["none", "offered", "required"] = Field(
        "none",
        description="Whether the database speaks TLS, and whether the application must. Its certificate is in the file "
        "that MYSQL_SSL_CA names. From none or back to it, MariaDB restarts.",
    )
    dumps: int = Field(
        7, ge=0, le=365, description="Nightly dumps that stay on the data disk, each with all rows; 0: none is made."
    )
    dump_at: schedule.At = Field(
        "30 3 * * *", description="When the nightly dump is made, in cron's form, by the server's clock."
    )
    managed: bool = Field(
        False,
        description="Use ApsaraDB RDS for MySQL in place of a server of the stack's own (docs/mysql.md).",
    )
    engine_version: Literal["5.7", "8.0", "8.4"] = Field(
        "8.0", description="Version of MySQL in RDS. A higher one upgrades the database, which interrupts it."
    )
    instance_class: text.DatabaseClass | None = Field(
        None,
        description="Instance class of RDS; none: mysql.n2.medium.2c, or mysql.n2.medium.1 without high availability. "
        "A change interrupts the database for seconds.",
    )
    storage_gib: int = Field(
        20, ge=20, le=32000, description="Storage of RDS, GiB, a multiple of 5. It can grow; a smaller size is refused."
    )
    high_availability: bool = Field(
        True,
        description="Whether RDS has a standby in a second zone, which takes over by itself. It is decided when the "
        "database is made.",
    )
    backup_days: int = Field(
        7,
        ge=7,
        le=730,
        description="Days for which RDS keeps its daily backups, and the log that brings any second back.",
    )
    ca: text.LocalPath | None = Field(
        None, description="File with the CA certificates of RDS, in PEM. Required with tls, and given as MYSQL_SSL_CA."
    )

    @model_validator(mode="after")
    def _files(self) -> Self:
        for name in self.schema_files:
            if self.schema_files.count(name) > 1:
                raise ValueError(f"schema_files: {name} stands there twice; allowed: each file once")
        if "dump_at" in self.model_fields_set and not self.dumps:
            raise ValueError("dump_at: set, but dumps is 0; allowed: a number of dumps to keep")
        return self

    @model_validator(mode="after")
    def _password(self) -> Self:
        if self.is_wanted and (not self.secret or "\0" in self.secret):
            raise ValueError(
                "password: required; allowed: any text without NUL characters, set by "
                "pulumi config set --path --secret 'wsgi-ecs:mysql.password'"
            )
        return self

    @model_validator(mode="after")
    def _managed(self) -> Self:
        if self.is_wanted:
            check_rules(managed_mysql.rules(self))
        return self

    @property
    def secret(self) -> str:
        """The password as text."""
        return self.password.get_secret_value() if self.password else ""

    @property
    def is_managed(self) -> bool:
        return self.managed

    @property
    def accounts(self) -> tuple[str, str]:
        """The accounts of RDS: the application's, and the release tool's."""
        return managed.account(self.user, self.secret, self.database), managed_mysql.OWNER

    @property
    def rds_class(self) -> str:
        """The instance class of RDS."""
        return self.instance_class or ("mysql.n2.medium.2c" if self.high_availability else "mysql.n2.medium.1")

    @property
    def tells_certificate(self) -> bool:
        return self.tls != "none"

    @property
    def env(self) -> dict[str, SecretStr]:
        plain = {
            # Only the cloud knows the name of RDS: components/fleet.py says it.
            "MYSQL_HOST": "" if self.managed else self.machine,
            "MYSQL_PORT": str(self.port),
            "MYSQL_DATABASE": self.database,
            "MYSQL_USER": self.accounts[0] if self.managed else self.user,
        }
        return {
            **{name: SecretStr(value) for name, value in plain.items()},
            **({"MYSQL_SSL_CA": SecretStr(paths.MYSQL_CA)} if self.tells_certificate else {}),
            "MYSQL_PASSWORD": self.password or SecretStr(""),
        }

    @property
    def secrets(self) -> dict[str, SecretStr]:
        return {"password": self.password or SecretStr("")}

    @property
    def local_files(self) -> tuple[tuple[str, str], ...]:
        return tuple(("mysql.schema_files", name) for name in self.schema_files)

    def packages(self, system: System) -> tuple[str, ...]:
        return system.mysql_packages

    def configs(self, system: System) -> dict[str, str]:
        return {
            self.config_file: render("templates/mysql/mysql.cnf.j2", mysql=self, datadir=_DATADIR, tls=_TLS),
            **self._command(),
            **(self._timer() if self.dumps else {}),
        }

    def managed_configs(self) -> dict[str, str]:
        """File name → text of what the machine has that brings RDS its schema and its dumps."""
        return self._command()

    def _command(self) -> dict[str, str]:
        """The command that writes dumps and reads them back."""
        text = render(
            "templates/mysql/wsgi-ecs-database.sh.j2",
            database=self.database,
            folder=paths.DATA,
            backup=paths.database_backup(),
            dumps=paths.database_dumps(),
            kept=self.dumps,
            applied=_APPLIED,
            files=len(self.schema_files),
            client=paths.MYSQL_CLIENT if self.managed else "",
        )
        return {Path(paths.DATABASE_COMMAND).name: text}

    def _timer(self) -> dict[str, str]:
        """The units of systemd that make the nightly dumps."""
        values = {
            "command": paths.DATABASE_COMMAND,
            "unit": paths.DUMP_UNIT,
            "folder": paths.DATA,
            "at": self.dump_at,
            "calendar": on_calendar(self.dump_at),
        }
        kinds = ("service", "timer")
        return {f"{paths.DUMP_UNIT}.{kind}": render(f"templates/mysql/dump.{kind}.j2", **values) for kind in kinds}

    def sources(self) -> dict[str, str]:
        # The number keeps the order in which the files are applied.
        return {f"{SCHEMA_FOLDER}{number}/{Path(file).name}": file for number, file in enumerate(self.schema_files, 1)}

    def managed_document(self) -> ManagedDatabase:
        """What the release tool needs to know of RDS."""
        return ManagedDatabase(self.database, list(self.sources()), _APPLIED)

    def document(self, around: Surroundings) -> Document:
        return Document(
            system=around.system.name,
            datadir=_DATADIR,
            config=around.system.mysql_config,
            database=self.database,
            user=self.user,
            # MySQL writes the network of an account as address/mask.
            network=IPv4Network(around.network).with_netmask,
            schema=list(self.sources()),
            applied=_APPLIED,
            instance_type=around.instance_type,
            disk_gib=self.disk_gib,
            generation=around.generation,
            tls=self.tls,
        )
