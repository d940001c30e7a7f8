"""MySQL on a machine of its own: MariaDB, as both operating systems have it."""

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, SecretStr, model_validator

from settings import text
from settings.base import Model, sequence
from settings.servers import AppPort

# The machine's name, which the machines of the application know.
HOST = "db"


class Mysql(Model):
    """https://mariadb.com/kb/en/server-system-variables/ for what has a directive's name."""

    database: text.SqlDatabase = Field("app", description="Database of the application.")
    user: text.SqlUser = Field("app", description="User that the application is there; it may do all in its database.")
    password: SecretStr | None = Field(None, description="The user's password. Required, and a secret.")
    schema_files: Annotated[tuple[text.LocalPath, ...], BeforeValidator(sequence)] = Field(
        (), description="SQL files, each applied once, in order; one that was applied is never changed, one is added."
    )
    port: AppPort = Field(3306, description="Port that it listens on, for the application's machines alone.")
    max_connections: int = Field(151, ge=10, le=10000, description="Connections at once.")
    innodb_buffer_pool_size: Literal["auto"] | text.BytesSize = Field(
        "auto", description="Memory for data and indexes; auto: half of the machine's."
    )
    instance_type: text.InstanceType | None = Field(
        None, description="ECS instance type of its machine; none: server.instance_type."
    )
    disk_gib: int = Field(
        20, ge=20, le=32768, description="Data disk, GiB; it can grow; a smaller one is a new, empty disk."
    )
    protect: bool = Field(False, description="Refuse to delete or replace the data disk.")

    @model_validator(mode="after")
    def _files(self) -> Self:
        for name in self.schema_files:
            if self.schema_files.count(name) > 1:
                raise ValueError(f"schema_files: {name} stands there twice; allowed: each file once")
        return self

    @model_validator(mode="after")
    def _password(self) -> Self:
        if self.model_fields_set:
            password = self.password.get_secret_value() if self.password else ""
            if not password or "\0" in password:
                raise ValueError(
                    "password: required; allowed: any text without NUL characters, set by "
                    "pulumi config set --path --secret 'wsgi-ecs:mysql.password'"
                )
        return self

    @property
    def env(self) -> dict[str, SecretStr]:
        """What the application finds in its environment."""
        plain = {
            "MYSQL_HOST": HOST,
            "MYSQL_PORT": str(self.port),
            "MYSQL_DATABASE": self.database,
            "MYSQL_USER": self.user,
        }
        return {
            **{name: SecretStr(value) for name, value in plain.items()},
            "MYSQL_PASSWORD": self.password or SecretStr(""),
        }
